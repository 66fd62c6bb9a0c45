//! One call's audio at the phone: what it says into its leg, and what becomes of what it hears. An audio thread's, without a clock.
//!
//! It speaks at its ticks, and not before its far end listens: that it does shows in its first packet, or is believed [`SHY`] after the
//! call's ACK. What it says before the call is answered nobody can say that he hears: it begins by itself, a moment after it is announced.
//! The first packet also sets the ticks, half a frame away from when packets come, so that neither side's jitter moves a frame across
//! the other one's tick. An echo has no tick of its own: each frame goes back as it comes, at the time at which it was spoken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::clip::{Clip, Clips};
use super::recorder::Recorder;
use crate::audio::{Frame, Params};
use crate::engine::leg::{Heard, Leg};
use crate::engine::rtp::silence;
use crate::rtp::dtmf::DEFAULT_DURATION_MS;

pub(super) const TICK: Duration = Duration::from_millis(20);
/// A far end that says nothing at all listens by now.
pub(super) const SHY: Duration = Duration::from_secs(1);
/// Whoever hears early media has a leg for it by then.
const MOMENT: Duration = Duration::from_millis(100);
/// From there to the first key: whoever answers the call by attaching to it hears them too.
const BETHINKS: Duration = Duration::from_secs(1);
/// Ticks that are later than this are left out.
const CATCH_UP: Duration = Duration::from_millis(160);

/// What a [`PhoneLine`] says.
pub(super) enum Says {
    Nothing,
    /// These keys, one after the other, and nothing behind them. `begins`: known once it is listened to.
    Keys {
        keys: &'static str,
        begins: Option<Instant>,
    },
    /// The very frames it hears.
    Echo,
    /// The clip, and silence behind it unless it is to leave then.
    Clip {
        clips: Arc<Clips>,
        leaves: bool,
    },
    /// The clip before the answer, and nothing behind it; with the ACK it begins anew.
    Early {
        clips: Arc<Clips>,
    },
}

/// What a call is told of its audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The clip's last frame was sent.
    ClipEnded,
}

pub(super) struct PhoneLine {
    leg: Box<dyn Leg>,
    says: Says,
    recorder: Option<Recorder>,
    events: UnboundedSender<Told>,
    /// The far end is known to listen.
    is_open: bool,
    /// When it is spoken to all the same.
    speaks_at: Option<Instant>,
    due: Instant,
    /// The clip's next frame.
    next: usize,
    /// Of the clip, before the answer.
    said_early: usize,
    frames_said: u64,
}

impl PhoneLine {
    pub(super) fn new(
        leg: Box<dyn Leg>,
        says: Says,
        recorder: Option<Recorder>,
        events: UnboundedSender<Told>,
        now: Instant,
    ) -> Self {
        let speaks_at = matches!(says, Says::Early { .. }).then(|| now + MOMENT);
        let (is_open, due) = (false, now + TICK);
        Self { leg, says, recorder, events, is_open, speaks_at, due, next: 0, said_early: 0, frames_said: 0 }
    }

    pub(super) fn leg(&self) -> &dyn Leg {
        &*self.leg
    }

    /// Its far end knows of the answer.
    pub(super) fn handle_ack(&mut self, now: Instant) {
        if let Says::Early { clips } = &self.says {
            self.says = Says::Clip { clips: clips.clone(), leaves: false };
            (self.said_early, self.next, self.speaks_at) = (self.next, 0, None);
        }
        self.speaks_at.get_or_insert(now + SHY);
    }

    /// When [`PhoneLine::handle_tick`] wants to be called.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// One frame time. What is said carries the time at which it was due.
    pub(super) fn handle_tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.due) > CATCH_UP {
            self.due = now;
        }
        let at = self.due;
        self.due = at + TICK;
        let frame = self.say(at);
        self.frames_said += u64::from(frame.is_some());
        self.leg.push(frame.as_ref(), at);
        self.collect(now);
        if let Some(recorder) = &mut self.recorder {
            recorder.pass(now);
        }
    }

    /// One of the leg's sockets has something.
    pub(super) fn receive(&mut self, socket: usize, now: Instant) {
        self.leg.receive(socket, now);
        self.collect(now);
    }

    /// The call is over. What has come by now was heard.
    pub(super) fn end(mut self, now: Instant) {
        for socket in 0..self.leg.sockets().len() {
            self.receive(socket, now);
        }
        if let Some(mut recorder) = self.recorder.take() {
            recorder.end(now);
            recorder.report.frames_said = self.frames_said;
            recorder.report.clip_frames_said = (self.said_early + self.next) as u64;
        }
    }

    fn say(&mut self, at: Instant) -> Option<Frame> {
        if !self.is_open && self.speaks_at.is_none_or(|speaks_at| at < speaks_at) {
            return None;
        }
        if let Says::Keys { keys, begins } = &mut self.says {
            if at >= *begins.get_or_insert(at + BETHINKS) {
                let pressed = keys.chars().all(|key| self.leg.press(key, DEFAULT_DURATION_MS));
                tracing::debug!(pressed, "a phone presses its keys");
                self.says = Says::Nothing;
            }
            return None;
        }
        let (clips, ends) = match &self.says {
            Says::Clip { clips, leaves } => (clips, *leaves),
            Says::Early { clips } => (clips, true),
            _ => return None,
        };
        let clip: &Clip = clips.of(self.leg.params());
        let (frames, at) = (clip.frames(), self.next);
        if at < frames.len() {
            self.next += 1;
        }
        if at + 1 == frames.len() {
            // A call that nobody follows any more is over.
            let _ = self.events.send(Told::ClipEnded);
        }
        frames.get(at).or((!ends).then_some(clip.silence())).cloned()
    }

    fn collect(&mut self, now: Instant) {
        while let Some(heard) = self.leg.poll_heard() {
            match heard {
                Heard::Frame { frame, at } => self.hear(&frame, at, now),
                Heard::Key { key, ended_ms: None } => self.keep(key),
                Heard::Retuned => self.retune(self.leg.params()),
                Heard::Key { .. } | Heard::Loss(_) | Heard::Silent => {}
            }
        }
    }

    fn hear(&mut self, frame: &Frame, at: Instant, now: Instant) {
        if !self.is_open {
            self.is_open = true;
            if self.frames_said == 0 {
                self.due = now + TICK / 2;
            }
            if *frame == silence(self.leg.params().codec) {
                // It only says that the line is open.
                return;
            }
        }
        if matches!(self.says, Says::Echo) {
            self.frames_said += 1;
            self.leg.push(Some(frame), at);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.hear(frame, at);
        }
    }

    fn keep(&mut self, key: char) {
        if let Some(recorder) = &mut self.recorder {
            recorder.report.keys.push(key);
        }
    }

    fn retune(&mut self, params: Params) {
        if let Some(recorder) = &mut self.recorder {
            recorder.retune(params);
        }
    }
}
