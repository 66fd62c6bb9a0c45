//! An agent bound to a call: it hears and speaks in its own parameters.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::lately::Lately;
use crate::audio::{CodecError, Frame, Params, Target, Transcoder};
use crate::engine::agents::{Agent, Told};
use crate::engine::leg::{Line, SOCKETS};

/// An agent is asked at most this often for one tick: its frames may be a sixth of the listener's.
const ASKED_PER_TICK: usize = 6;
/// Keys that wait for the tick; nobody presses as many.
const KEYS: usize = 16;

pub(super) struct Speaker {
    agent: Box<dyn Agent>,
    params: Params,
    /// What its words are wanted in.
    call: Target,
    /// What it hears may come in several renditions, one after the other.
    ear: Option<(Params, Transcoder)>,
    mouth: Transcoder,
    ready: VecDeque<Frame>,
    /// Of its far end, for the leg.
    keys: VecDeque<(char, u32)>,
    /// Which of them came as telephone events, and which were signalled and may still come as one.
    events: Lately,
    signalled: Lately,
}

impl Speaker {
    pub(super) fn new(agent: Box<dyn Agent>, call: Target) -> Result<Self, CodecError> {
        let params = agent.params(call.params);
        let mouth = Transcoder::new(params, call)?;
        let (ready, keys, events, signalled) = Default::default();
        Ok(Self { agent, params, call, ear: None, mouth, ready, keys, events, signalled })
    }

    /// Its words are wanted in these parameters from now on.
    pub(super) fn retune(&mut self, call: Target) -> Result<(), CodecError> {
        self.call = call;
        self.mouth = Transcoder::new(self.params, call)?;
        self.ready.clear();
        Ok(())
    }

    /// The agent speaks and hears in others from now on.
    fn retune_agent(&mut self) -> Result<(), CodecError> {
        self.params = self.agent.params(self.call.params);
        self.ear = None;
        self.retune(self.call)
    }

    pub(super) fn sockets(&self) -> [Option<BorrowedFd<'_>>; SOCKETS] {
        self.agent.sockets()
    }

    pub(super) fn line(&self) -> Option<Line> {
        self.agent.line()
    }

    pub(super) fn receive(&mut self, socket: usize, now: Instant) -> Result<bool, CodecError> {
        self.agent.receive(socket, now);
        self.handle_told(now)
    }

    /// Once per tick, before [`Speaker::say`].
    pub(super) fn handle_tick(&mut self, now: Instant) -> Result<bool, CodecError> {
        self.agent.handle_tick(now);
        self.handle_told(now)
    }

    /// `true`: nothing comes of the agent's far end any more.
    fn handle_told(&mut self, now: Instant) -> Result<bool, CodecError> {
        let mut is_silent = false;
        while let Some(told) = self.agent.poll_told() {
            match told {
                Told::Retuned => self.retune_agent()?,
                Told::Silent => is_silent = true,
                Told::Key { key, .. } if self.signalled.take(key, now) => {}
                Told::Key { key, duration_ms } => {
                    self.events.note(key, now);
                    self.push_key(key, duration_ms);
                }
            }
        }
        Ok(is_silent)
    }

    pub(super) fn hear(&mut self, frame: &Frame, from: Params, now: Instant) {
        if from == self.params {
            return self.agent.hear(frame, now);
        }
        if self.ear.as_ref().is_none_or(|(params, _)| *params != from) {
            let to = Target { params: self.params, limits: self.agent.limits() };
            self.ear = Transcoder::new(from, to).ok().map(|transcoder| (from, transcoder));
        }
        let agent = &mut self.agent;
        if let Some((_, ear)) = &mut self.ear {
            ear.push(Some(frame), |frame| agent.hear(&frame, now));
        }
    }

    /// `false`: it was the agent's line to press it, which can't.
    pub(super) fn hear_key(&mut self, key: char, duration_ms: u32) -> bool {
        self.agent.hear_key(key, duration_ms)
    }

    /// Its far end has signalled a key.
    pub(super) fn handle_signalled(&mut self, key: char, duration_ms: u32, now: Instant) {
        if !self.events.has(key, now) {
            self.signalled.note(key, now);
            self.push_key(key, duration_ms);
        }
    }

    fn push_key(&mut self, key: char, duration_ms: u32) {
        match self.keys.len() {
            KEYS => tracing::debug!("a key too many for one tick"),
            _ => self.keys.push_back((key, duration_ms)),
        }
    }

    /// What the leg is to press.
    pub(super) fn take_key(&mut self) -> Option<(char, u32)> {
        self.keys.pop_front()
    }

    /// One frame of the call's parameters. `None`: it is silent.
    pub(super) fn say(&mut self, now: Instant) -> Option<Frame> {
        for _ in 0..ASKED_PER_TICK {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let frame = self.agent.say(now)?;
            let ready = &mut self.ready;
            self.mouth.push(Some(&frame), |frame| ready.push_back(frame));
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::audio::{Codec, Limits};

    /// A far end of Opus that bears 12 kbit/s in packets of one length.
    #[derive(Clone, Default)]
    struct Ear(Arc<Mutex<Vec<Frame>>>);

    const LIMITS: Limits = Limits { playback_rate: 48_000, bitrate: Some(12_000), constant: true, halved: false };

    impl Agent for Ear {
        fn params(&self, _call: Params) -> Params {
            Params::CALL
        }
        fn limits(&self) -> Limits {
            LIMITS
        }
        fn hear(&mut self, frame: &Frame, _now: Instant) {
            self.0.lock().unwrap().push(frame.clone());
        }
        fn say(&mut self, _now: Instant) -> Option<Frame> {
            None
        }
    }

    #[test]
    fn what_is_made_for_either_side_keeps_to_what_it_bears() {
        let (ear, now) = (Ear::default(), Instant::now());
        let pcm = Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap();
        let mut speaker = Speaker::new(Box::new(ear.clone()), pcm.into()).unwrap();
        (0..5).for_each(|_| speaker.hear(&vec![0; 640].into(), pcm, now));
        assert_eq!(ear.0.lock().unwrap().iter().map(|frame| frame.len()).collect::<Vec<_>>(), [30; 5]);

        struct Voice(Params);
        impl Agent for Voice {
            fn params(&self, _call: Params) -> Params {
                self.0
            }
            fn hear(&mut self, _frame: &Frame, _now: Instant) {}
            fn say(&mut self, _now: Instant) -> Option<Frame> {
                Some(vec![0; 640].into())
            }
        }
        let mut speaker = Speaker::new(Box::new(Voice(pcm)), Target { params: Params::CALL, limits: LIMITS }).unwrap();
        assert_eq!(speaker.say(now).map(|frame| frame.len()), Some(30));
        let less = Limits { bitrate: Some(8000), ..LIMITS };
        speaker.retune(Target { params: Params::CALL, limits: less }).unwrap();
        assert_eq!(speaker.say(now).map(|frame| frame.len()), Some(20));
    }
}
