//! The phone's end of a call on an audio thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::clip::Clip;
use super::recorder::Recorder;
use crate::audio::{Frame, Params};
use crate::engine::agents::{Agent, Echo};
use crate::engine::leg::Leg;

/// What a [`PhoneLeg`] says.
pub(super) enum Says {
    Nothing,
    /// The very frames it hears, one tick later.
    Echo(Echo),
    /// The clip, then silence. `ended` is set with the clip's last frame.
    Clip {
        clip: Arc<Clip>,
        ended: Arc<AtomicBool>,
    },
}

/// Says its clip and records what it hears.
pub(super) struct PhoneLeg {
    says: Says,
    /// The clip's next frame.
    next: usize,
    frames_said: u64,
    recorder: Option<Recorder>,
}

impl PhoneLeg {
    pub(super) fn new(says: Says, recorder: Option<Recorder>) -> Self {
        Self { says, next: 0, frames_said: 0, recorder }
    }
}

impl Leg for PhoneLeg {
    fn params(&self) -> Params {
        Params::CALL
    }

    fn pull(&mut self, now: Instant) -> Option<Frame> {
        let frame = match &mut self.says {
            Says::Nothing => None,
            Says::Echo(echo) => echo.say(now),
            Says::Clip { clip, ended } => {
                let (frames, at) = (clip.frames(), self.next);
                if at < frames.len() {
                    self.next += 1;
                }
                if at + 1 == frames.len() {
                    ended.store(true, Ordering::Release);
                }
                Some(frames.get(at).unwrap_or(clip.silence()).clone())
            }
        };
        self.frames_said += u64::from(frame.is_some());
        frame
    }

    fn push(&mut self, frame: Option<&Frame>, now: Instant) {
        if let (Says::Echo(echo), Some(frame)) = (&mut self.says, frame) {
            echo.hear(frame, now);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.hear(frame, now);
        }
    }
}

impl Drop for PhoneLeg {
    fn drop(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.report.frames_said = self.frames_said;
            recorder.report.clip_frames_said = self.next as u64;
        }
    }
}
