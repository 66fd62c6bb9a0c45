//! The far end of a second leg, as the first one's agent: what the caller says it hears, what it says the caller hears.
//!
//! So two legs are joined with what an agent has anyway: no transcoding where both speak the same codec, one otherwise, and whoever
//! listens to the call's uplink goes on hearing the caller.

use std::collections::VecDeque;
use std::time::Instant;

use super::Agent;
use crate::audio::{Frame, Params};
use crate::engine::leg::{Heard, Leg, SOCKETS};

/// What it said and nobody has taken yet; beyond, the oldest is dropped: a phone that hurries is not heard late for ever.
const WAITING: usize = 10;

/// The second leg belongs to it from here on.
pub struct Bridged {
    leg: Box<dyn Leg>,
    /// Frames that were pushed and not yet answered by a pull.
    ahead: usize,
    heard: VecDeque<Frame>,
}

impl Bridged {
    pub fn new(leg: Box<dyn Leg>) -> Self {
        Self { leg, ahead: 0, heard: VecDeque::new() }
    }

    /// The thread watches the sockets of a call's own leg only: those of this one are read at each tick.
    fn read(&mut self, now: Instant) {
        for socket in 0..SOCKETS {
            if self.leg.sockets()[socket].is_some() {
                self.leg.receive(socket, now);
            }
        }
        while let Some(heard) = self.leg.poll_heard() {
            if let Heard::Frame { frame, .. } = heard {
                if self.heard.len() == WAITING {
                    self.heard.pop_front();
                }
                self.heard.push_back(frame);
            }
        }
    }
}

impl Agent for Bridged {
    fn params(&self, _call: Params) -> Params {
        self.leg.params()
    }

    fn hear(&mut self, frame: &Frame, now: Instant) {
        self.ahead += 1;
        self.leg.push(Some(frame), now);
    }

    /// A tick in which the caller said nothing is the leg's to fill: towards it audio is continuous.
    fn say(&mut self, now: Instant) -> Option<Frame> {
        match self.ahead.checked_sub(1) {
            Some(left) => self.ahead = left,
            None => self.leg.push(None, now),
        }
        if self.leg.sockets().iter().all(Option::is_none) {
            return self.leg.pull(now);
        }
        self.read(now);
        self.heard.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<Option<Frame>>>>);

    impl Leg for Log {
        fn params(&self) -> Params {
            Params::CALL
        }
        fn pull(&mut self, _now: Instant) -> Option<Frame> {
            Some(Frame::from_static(b"far"))
        }
        fn push(&mut self, frame: Option<&Frame>, _now: Instant) {
            self.0.lock().unwrap().push(frame.cloned());
        }
    }

    #[test]
    fn each_tick_pushes_once_whatever_the_caller_said() {
        let log = Log::default();
        let (mut bridged, now) = (Bridged::new(Box::new(log.clone())), Instant::now());
        let frame = Frame::from_static(b"caller");
        bridged.hear(&frame, now);
        assert_eq!(bridged.say(now), Some(Frame::from_static(b"far")));
        bridged.say(now);
        bridged.hear(&frame, now);
        bridged.hear(&frame, now);
        bridged.say(now);
        bridged.say(now);
        let expected = [Some(&frame), None, Some(&frame), Some(&frame)].map(Option::<&Frame>::cloned);
        assert_eq!(*log.0.lock().unwrap(), expected);
    }
}
