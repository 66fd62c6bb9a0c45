//! `echo`: what it hears, it says.
//!
//! It speaks what the leg speaks, so nothing is transcoded and the caller gets back the very frames that she sent. Each frame is said
//! in the tick after it was heard. Frames that come faster than ticks wait, ten at most: beyond that the oldest goes, since an
//! echo that is late is worse than one with a hole.

use std::collections::VecDeque;
use std::time::Instant;

use super::Agent;
use crate::audio::{Frame, Params};

/// Frames that wait at most.
const FRAMES: usize = 10;

/// See the module's contract.
#[derive(Debug)]
pub struct Echo {
    frames: VecDeque<Frame>,
    dropped: u64,
}

impl Default for Echo {
    fn default() -> Self {
        Self { frames: VecDeque::with_capacity(FRAMES), dropped: 0 }
    }
}

impl Echo {
    /// Frames that came too fast to be said.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Agent for Echo {
    fn params(&self, call: Params) -> Params {
        call
    }

    fn hear(&mut self, frame: &Frame, _now: Instant) {
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
            self.dropped += 1;
        }
        self.frames.push_back(frame.clone());
    }

    fn say(&mut self, _now: Instant) -> Option<Frame> {
        self.frames.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_the_very_frames_it_heard() {
        let (mut echo, now) = (Echo::default(), Instant::now());
        assert_eq!(echo.params(Params::CALL), Params::CALL);
        assert_eq!(echo.say(now), None);
        for n in 0..50_u8 {
            let frame = Frame::copy_from_slice(&[n; 60]);
            echo.hear(&frame, now);
            let said = echo.say(now).unwrap();
            assert_eq!((said.as_ptr(), said.len()), (frame.as_ptr(), 60));
            assert_eq!(echo.say(now), None);
        }
    }

    #[test]
    fn what_comes_too_fast_loses_its_oldest() {
        let (mut echo, now) = (Echo::default(), Instant::now());
        (0..15_u8).for_each(|n| echo.hear(&Frame::copy_from_slice(&[n]), now));
        let said: Vec<u8> = std::iter::from_fn(|| echo.say(now)).map(|frame| frame[0]).collect();
        assert_eq!(said, (5..15).collect::<Vec<u8>>());
        assert_eq!(echo.dropped(), 5);
    }
}
