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

    /// So much of its words is lost on the way to the call's far end.
    pub(super) fn expect_loss(&mut self, percent: u8) {
        self.call.limits.loss = percent;
        self.mouth.expect_loss(percent);
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
                Told::Loss(percent) => {
                    if let Some((_, ear)) = &mut self.ear {
                        ear.expect_loss(percent);
                    }
                }
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
    use crate::audio::{Codec, Limits, opus};

    /// A far end of Opus that bears 12 kbit/s in packets of one length.
    #[derive(Clone, Default)]
    struct Ear(Arc<Mutex<Vec<Frame>>>);

    const LIMITS: Limits =
        Limits { playback_rate: 48_000, bitrate: Some(12_000), constant: true, halved: false, loss: 0 };

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

    /// Both ways: what the call's far end loses, and what the agent's own does.
    #[test]
    fn either_side_is_told_what_the_other_one_loses() {
        fn voice(n: usize) -> Frame {
            // What never changes is no speech.
            let hz = [250.0, 700.0, 1300.0][n % 3];
            let sample = |n: usize| (9000.0 * (n as f64 * hz * std::f64::consts::TAU / 16_000.0).sin()) as i16;
            (n * 320..(n + 1) * 320).flat_map(|n| sample(n).to_le_bytes()).collect()
        }
        struct Lossy {
            ear: Ear,
            told: VecDeque<Told>,
        }
        impl Agent for Lossy {
            fn params(&self, _call: Params) -> Params {
                Params::CALL
            }
            fn hear(&mut self, frame: &Frame, now: Instant) {
                self.ear.hear(frame, now);
            }
            fn say(&mut self, _now: Instant) -> Option<Frame> {
                None
            }
            fn poll_told(&mut self) -> Option<Told> {
                self.told.pop_front()
            }
        }
        let (pcm, now) = (Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap(), Instant::now());
        let repeated = |frames: &[Frame]| frames.iter().filter(|frame| opus::repeats(frame)).count();
        let ear = Ear::default();
        let agent = Lossy { ear: ear.clone(), told: [Told::Loss(10)].into() };
        let mut speaker = Speaker::new(Box::new(agent), pcm.into()).unwrap();
        (0..50).for_each(|n| speaker.hear(&voice(n), pcm, now));
        assert_eq!(repeated(&std::mem::take(&mut *ear.0.lock().unwrap())), 0);
        assert!(matches!(speaker.handle_tick(now), Ok(false)));
        (50..150).for_each(|n| speaker.hear(&voice(n), pcm, now));
        assert!(repeated(&ear.0.lock().unwrap()) > 80);

        struct Voice(usize);
        impl Agent for Voice {
            fn params(&self, _call: Params) -> Params {
                Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap()
            }
            fn hear(&mut self, _frame: &Frame, _now: Instant) {}
            fn say(&mut self, _now: Instant) -> Option<Frame> {
                self.0 += 1;
                Some(voice(self.0))
            }
        }
        let mut speaker = Speaker::new(Box::new(Voice(0)), Params::CALL.into()).unwrap();
        let say = |speaker: &mut Speaker| (0..100).filter_map(|_| speaker.say(now)).collect::<Vec<_>>();
        assert_eq!(repeated(&say(&mut speaker)), 0);
        speaker.expect_loss(10);
        assert!(repeated(&say(&mut speaker)) > 80);
        speaker.expect_loss(0);
        assert!(repeated(&say(&mut speaker)) <= 1);
    }
}
