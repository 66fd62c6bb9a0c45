//! An agent bound to a call: it hears and speaks in its own parameters.

use std::collections::VecDeque;
use std::time::Instant;

use crate::audio::{CodecError, Frame, Params, Transcoder};
use crate::engine::agents::Agent;

/// An agent is asked at most this often for one tick: its frames may be a sixth of the listener's.
const ASKED_PER_TICK: usize = 6;

pub(super) struct Speaker {
    agent: Box<dyn Agent>,
    params: Params,
    /// What it hears may come in several renditions, one after the other.
    ear: Option<(Params, Transcoder)>,
    mouth: Transcoder,
    ready: VecDeque<Frame>,
}

impl Speaker {
    /// `call`: what its words are wanted in.
    pub(super) fn new(agent: Box<dyn Agent>, call: Params) -> Result<Self, CodecError> {
        let params = agent.params(call);
        let mouth = Transcoder::new(params, call)?;
        Ok(Self { agent, params, ear: None, mouth, ready: VecDeque::new() })
    }

    /// Its words are wanted in these parameters from now on.
    pub(super) fn retune(&mut self, call: Params) -> Result<(), CodecError> {
        self.mouth = Transcoder::new(self.params, call)?;
        self.ready.clear();
        Ok(())
    }

    pub(super) fn hear(&mut self, frame: &Frame, from: Params, now: Instant) {
        if from == self.params {
            return self.agent.hear(frame, now);
        }
        if self.ear.as_ref().is_none_or(|(params, _)| *params != from) {
            self.ear = Transcoder::new(from, self.params).ok().map(|transcoder| (from, transcoder));
        }
        let agent = &mut self.agent;
        if let Some((_, ear)) = &mut self.ear {
            ear.push(Some(frame), |frame| agent.hear(&frame, now));
        }
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
