//! The far end of a second leg, as the first one's agent: what the caller says it hears, what it says the caller hears.
//!
//! So two legs are joined with what an agent has anyway: no transcoding where both speak the same codec, one otherwise, and whoever
//! listens to the call's uplink goes on hearing the caller. Each far end has a clock of its own, and so has the thread: what one says
//! waits in a bounded queue for the tick at which the other one is sent a frame. A queue that is never used up for [`LOOKED_TICKS`] gives its
//! surplus away, so that a clock that runs fast, or a burst, is not heard late for ever.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::{Agent, Told};
use crate::audio::{Frame, Limits, Params};
use crate::engine::leg::{Heard, Leg, Line, SOCKETS};

/// Frames of one far end that wait at most; beyond, the oldest is dropped.
const WAITING: usize = 10;
/// Five seconds of ticks: what was not needed in all of them is too much.
const LOOKED_TICKS: u32 = 250;
/// Of that, what stays: jitter of less than a frame needs one.
const SPARE: usize = 1;

/// The second leg belongs to it from here on.
pub struct Bridged {
    leg: Box<dyn Leg>,
    /// The leg speaks when it is asked at a tick; else when it has heard something.
    is_paced: bool,
    /// What each said and the other has not been sent.
    caller: Waiting,
    far: Waiting,
    told: VecDeque<Told>,
}

impl Bridged {
    pub fn new(leg: Box<dyn Leg>) -> Self {
        let is_paced = leg.sockets().iter().all(Option::is_none);
        Self { leg, is_paced, caller: Waiting::default(), far: Waiting::default(), told: VecDeque::new() }
    }

    fn collect(&mut self) {
        while let Some(heard) = self.leg.poll_heard() {
            match heard {
                Heard::Frame { frame, .. } => self.far.insert(frame),
                Heard::Retuned => {
                    // Frames of the old codec are nobody's.
                    (self.caller, self.far) = (Waiting::default(), Waiting::default());
                    self.told.push_back(Told::Retuned);
                }
                Heard::Loss(percent) => self.told.push_back(Told::Loss(percent)),
                Heard::Silent => self.told.push_back(Told::Silent),
                Heard::Key { key, ended_ms: Some(duration_ms) } => {
                    self.told.push_back(Told::Key { key, duration_ms });
                }
                Heard::Key { .. } => {}
            }
        }
    }
}

impl Agent for Bridged {
    fn params(&self, _call: Params) -> Params {
        self.leg.params()
    }

    fn limits(&self) -> Limits {
        self.leg.limits()
    }

    fn hear(&mut self, frame: &Frame, _now: Instant) {
        self.caller.insert(frame.clone());
    }

    fn hear_key(&mut self, key: char, duration_ms: u32) -> bool {
        self.leg.press(key, duration_ms)
    }

    /// A tick for which the caller said nothing is the leg's to fill: towards it audio is continuous.
    fn handle_tick(&mut self, now: Instant) {
        if self.is_paced
            && let Some(frame) = self.leg.pull(now)
        {
            self.far.insert(frame);
        }
        let frame = self.caller.take();
        self.leg.push(frame.as_ref(), now);
        self.collect();
    }

    fn say(&mut self, _now: Instant) -> Option<Frame> {
        self.far.take()
    }

    fn sockets(&self) -> [Option<BorrowedFd<'_>>; SOCKETS] {
        self.leg.sockets()
    }

    fn receive(&mut self, socket: usize, now: Instant) {
        self.leg.receive(socket, now);
        self.collect();
    }

    fn line(&self) -> Option<Line> {
        self.leg.line()
    }

    fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }
}

/// Frames between the clock of who said them and the tick.
#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    /// The fewest that were left over at a tick, and ticks since that is counted.
    least: usize,
    ticks: u32,
}

impl Waiting {
    fn insert(&mut self, frame: Frame) {
        if self.frames.len() == WAITING {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
    }

    fn take(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front();
        let left = self.frames.len();
        self.least = if self.ticks == 0 { left } else { self.least.min(left) };
        self.ticks += 1;
        if self.ticks == LOOKED_TICKS {
            self.ticks = 0;
            self.frames.drain(..self.least.saturating_sub(SPARE));
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    type Pushed = Vec<Option<Frame>>;

    /// A leg that notes what it is pushed, and hears what it is told to.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<(Pushed, VecDeque<Heard>)>>);

    impl Log {
        fn hears(&self, heard: Heard) {
            self.0.lock().unwrap().1.push_back(heard);
        }
        fn says(&self, frame: &Frame, at: Instant) {
            self.hears(Heard::Frame { frame: frame.clone(), at });
        }
        fn pushed(&self) -> Pushed {
            std::mem::take(&mut self.0.lock().unwrap().0)
        }
    }

    impl Leg for Log {
        fn params(&self) -> Params {
            Params::CALL
        }
        fn push(&mut self, frame: Option<&Frame>, _now: Instant) {
            self.0.lock().unwrap().0.push(frame.cloned());
        }
        fn poll_heard(&mut self) -> Option<Heard> {
            self.0.lock().unwrap().1.pop_front()
        }
    }

    fn frame(n: usize) -> Frame {
        vec![n as u8; 3].into()
    }

    fn bridged() -> (Log, Bridged, Instant) {
        let log = Log::default();
        (log.clone(), Bridged::new(Box::new(log)), Instant::now())
    }

    #[test]
    fn each_tick_sends_each_far_end_one_frame_whatever_the_other_ones_clock_does() {
        let (log, mut bridged, now) = bridged();
        // The caller's packets hold 60 ms and come in bursts; the other's come two at once after a hole.
        (0..3).for_each(|n| bridged.hear(&frame(n), now));
        bridged.handle_tick(now);
        assert_eq!(bridged.say(now), None);
        log.says(&frame(10), now);
        log.says(&frame(11), now);
        bridged.receive(0, now);
        let said: Vec<_> = (0..3)
            .map(|_| {
                bridged.handle_tick(now);
                bridged.say(now)
            })
            .collect();
        assert_eq!(said, [Some(frame(10)), Some(frame(11)), None]);
        assert_eq!(log.pushed(), [Some(frame(0)), Some(frame(1)), Some(frame(2)), None]);
    }

    #[test]
    fn who_hurries_is_not_heard_late_for_ever() {
        let (log, mut bridged, mut now) = bridged();
        // A thousand frames in the time of nine hundred ticks, both ways.
        let mut sent = 0;
        for tick in 1..=900usize {
            now += TICK;
            while sent * 9 < tick * 10 {
                bridged.hear(&frame(sent), now);
                log.says(&frame(sent), now);
                bridged.receive(0, now);
                sent += 1;
            }
            bridged.handle_tick(now);
            bridged.say(now);
            assert!(bridged.caller.frames.len() <= WAITING && bridged.far.frames.len() <= WAITING);
        }
        // After a burst of 200 ms both are on time, and what they say is whole again.
        for n in 0..2 * LOOKED_TICKS as usize {
            bridged.hear(&frame(n), now);
            log.says(&frame(n), now);
            bridged.receive(0, now);
            bridged.handle_tick(now);
            bridged.say(now);
        }
        assert_eq!((bridged.caller.frames.len(), bridged.far.frames.len()), (SPARE, SPARE));
        log.pushed();
        for n in 0..100 {
            bridged.hear(&frame(n), now);
            bridged.handle_tick(now);
        }
        let pushed = log.pushed();
        assert!(pushed.windows(2).skip(1).all(|pair| pair[1].as_ref().unwrap()[0] == pair[0].as_ref().unwrap()[0] + 1));
    }

    #[test]
    fn keys_go_on_once_they_are_let_go_of() {
        let (log, mut bridged, now) = bridged();
        log.hears(Heard::Key { key: '7', ended_ms: None });
        log.hears(Heard::Key { key: '7', ended_ms: Some(80) });
        bridged.receive(0, now);
        assert_eq!((bridged.poll_told(), bridged.poll_told()), (Some(Told::Key { key: '7', duration_ms: 80 }), None));
    }

    #[test]
    fn losses_of_its_far_end_are_told() {
        let (log, mut bridged, now) = bridged();
        log.hears(Heard::Loss(7));
        bridged.receive(0, now);
        assert_eq!((bridged.poll_told(), bridged.poll_told()), (Some(Told::Loss(7)), None));
    }

    #[test]
    fn another_codec_and_silence_are_told_and_old_frames_are_dropped() {
        let (log, mut bridged, now) = bridged();
        bridged.hear(&frame(1), now);
        bridged.hear(&frame(2), now);
        log.says(&frame(3), now);
        log.hears(Heard::Retuned);
        log.says(&frame(4), now);
        log.hears(Heard::Silent);
        bridged.handle_tick(now);
        assert_eq!((bridged.poll_told(), bridged.poll_told()), (Some(Told::Retuned), Some(Told::Silent)));
        assert_eq!((bridged.poll_told(), bridged.say(now), bridged.say(now)), (None, Some(frame(4)), None));
        bridged.handle_tick(now);
        assert_eq!(log.pushed(), [Some(frame(1)), None]);
    }
}
