//! The phone's calls: a script of steps for each, played as its owner's clock runs.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::clip::{Clip, ClipError};
use super::leg::{PhoneLeg, Says};
use super::number::{Behaviour, phrase};
use super::recorder::Recorder;
use super::{PhoneConfig, file};
use crate::audio::Params;
use crate::engine::agents::Echo;
use crate::engine::leg::Leg;
use crate::engine::trunk::{Asker, Dial, Events, FarEnd, Keys, Trunk, TrunkEvent, TrunkKind};

/// From the call's arrival to the first thing that a far side says about it.
const ROUTING: Duration = Duration::from_millis(20);
/// What a [`Behaviour::SpeakLate`] rings longer.
const LATE: Duration = Duration::from_secs(3);
/// From a transfer's acceptance to the far end's own BYE.
const TRANSFERRING: Duration = Duration::from_millis(100);
/// How often a clip's end is looked for after its time.
const CLIP_CHECK: Duration = Duration::from_millis(20);
/// An audio thread that has not said the clip by this long after its time never will.
const CLIP_OVERDUE: Duration = Duration::from_secs(10);
/// What [`Behaviour::RefuseTransfer`] says.
const REFUSES_TRANSFER: u16 = 603;

enum Step {
    Tell(TrunkKind),
    Answer,
    LeaveAfterClip { at_latest: Instant },
}

struct Line {
    behaviour: Behaviour,
    /// Each with its delay after the one before.
    script: VecDeque<(Duration, Step)>,
    due: Option<Instant>,
    answered: bool,
    /// Somebody has said that he works on it.
    provisional: bool,
    clip_ended: Arc<AtomicBool>,
}

/// See the module's contract.
pub struct Phone {
    config: PhoneConfig,
    events: Events,
    clip: Arc<Clip>,
    lines: HashMap<Arc<str>, Line>,
    due: BTreeSet<(Instant, Arc<str>)>,
    unrecorded: u64,
}

impl Phone {
    /// Reads and encodes the clip, and makes the folder for recordings.
    pub fn new(config: PhoneConfig, events: Events) -> Result<Self, ClipError> {
        if let Some(path) = &config.record {
            std::fs::create_dir_all(path).map_err(|error| ClipError::Record { path: path.clone(), error })?;
        }
        // Says now whether a recording's decoder runs at this rate.
        crate::audio::Decoder::at(Params::CALL, config.record_rate, 1)?;
        let clip = Arc::new(config.clip.as_deref().map_or_else(Clip::voice, Clip::read)?);
        Ok(Self { config, events, clip, lines: HashMap::new(), due: BTreeSet::new(), unrecorded: 0 })
    }

    pub fn clip(&self) -> &Clip {
        &self.clip
    }

    /// Calls under way.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Calls whose recording could not be begun.
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    fn script(&self, behaviour: Behaviour) -> VecDeque<(Duration, Step)> {
        let tell = |delay, kind| (delay, Step::Tell(kind));
        let trying = tell(Duration::ZERO, TrunkKind::Trying);
        let ringing = tell(ROUTING, TrunkKind::Progress { code: 180 });
        match behaviour {
            Behaviour::Silent => VecDeque::new(),
            Behaviour::Unreachable => [tell(ROUTING, TrunkKind::Unreachable)].into(),
            Behaviour::Ring => [trying, ringing].into(),
            Behaviour::Reject { code } => {
                let rejected = TrunkKind::Rejected { code, reason: phrase(code).to_owned(), q850: None };
                if behaviour.rings_first() {
                    [trying, ringing, tell(self.config.ring, rejected)].into()
                } else {
                    [trying, tell(ROUTING, rejected)].into()
                }
            }
            Behaviour::SpeakLate => [trying, ringing, (self.config.ring + LATE, Step::Answer)].into(),
            _ => [trying, ringing, (self.config.ring, Step::Answer)].into(),
        }
    }

    fn tell(&self, sid: &str, kind: TrunkKind) {
        // Nobody listens any more when the engine goes down.
        let _ = self.events.send(TrunkEvent { sid: sid.to_owned(), kind });
    }

    /// Sets a line's next time; without a script it waits for commands.
    fn schedule(&mut self, sid: &Arc<str>, now: Instant) {
        let Some(line) = self.lines.get_mut(sid) else { return };
        if let Some(due) = line.due.take() {
            self.due.remove(&(due, sid.clone()));
        }
        if let Some((delay, _)) = line.script.front() {
            line.due = Some(now + *delay);
            self.due.insert((now + *delay, sid.clone()));
        }
    }

    fn forget(&mut self, sid: &str) -> Option<Line> {
        let (sid, line) = self.lines.remove_entry(sid)?;
        if let Some(due) = line.due {
            self.due.remove(&(due, sid));
        }
        Some(line)
    }

    fn step(&mut self, sid: &Arc<str>, now: Instant) {
        let Some((_, step)) = self.lines.get_mut(sid).and_then(|line| line.script.pop_front()) else { return };
        match step {
            Step::Answer => self.answer(sid, now),
            Step::LeaveAfterClip { at_latest } => self.leave_after_clip(sid, at_latest, now),
            Step::Tell(kind @ (TrunkKind::Rejected { .. } | TrunkKind::Unreachable | TrunkKind::Bye { .. })) => {
                self.forget(sid);
                self.tell(sid, kind);
            }
            Step::Tell(kind) => {
                if let (TrunkKind::Trying, Some(line)) = (&kind, self.lines.get_mut(sid)) {
                    line.provisional = true;
                }
                self.tell(sid, kind);
            }
        }
    }

    fn answer(&mut self, sid: &Arc<str>, now: Instant) {
        let Some(line) = self.lines.get_mut(sid) else { return };
        line.answered = true;
        let (behaviour, ended) = (line.behaviour, line.clip_ended.clone());
        if behaviour == Behaviour::SpeakAndLeave {
            let at_latest = now + self.clip.duration() + CLIP_OVERDUE;
            line.script.push_back((self.clip.duration(), Step::LeaveAfterClip { at_latest }));
        }
        let says = match behaviour {
            Behaviour::Empty => return self.tell(sid, TrunkKind::Answered { leg: None }),
            Behaviour::Echo => Says::Echo(Echo::default()),
            Behaviour::Listen => Says::Nothing,
            _ => Says::Clip { clip: self.clip.clone(), ended },
        };
        let leg = Some(Box::new(PhoneLeg::new(says, self.recorder(sid))) as Box<dyn Leg>);
        self.tell(sid, TrunkKind::Answered { leg });
    }

    fn recorder(&mut self, sid: &str) -> Option<Recorder> {
        let folder = self.config.record.as_deref()?;
        let (wav, report) = (file(folder, sid, "wav")?, file(folder, sid, "json")?);
        match Recorder::create(&wav, report, self.config.record_rate) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                self.unrecorded += 1;
                tracing::warn!(path = %wav.display(), %error, "a phone records nothing of this call");
                None
            }
        }
    }

    /// The audio thread may have begun late: the clip's time alone does not tell that it was said.
    fn leave_after_clip(&mut self, sid: &Arc<str>, at_latest: Instant, now: Instant) {
        let Some(line) = self.lines.get_mut(sid) else { return };
        if line.clip_ended.load(Ordering::Acquire) || now >= at_latest {
            self.forget(sid);
            return self.tell(sid, TrunkKind::Bye { q850: Some(16) });
        }
        line.script.push_front((CLIP_CHECK, Step::LeaveAfterClip { at_latest }));
    }
}

impl Trunk for Phone {
    fn dial(&mut self, dial: Dial, now: Instant) {
        let sid: Arc<str> = dial.sid.into();
        if self.lines.contains_key(&sid) {
            return;
        }
        let behaviour = Behaviour::of(&dial.to);
        let line = Line {
            behaviour,
            script: self.script(behaviour),
            due: None,
            answered: false,
            provisional: false,
            clip_ended: Arc::default(),
        };
        self.lines.insert(sid.clone(), line);
        self.schedule(&sid, now);
        self.handle_timeout(now);
    }

    fn cancel(&mut self, sid: &str, _now: Instant) {
        let Some(line) = self.forget(sid) else { return };
        // Who has said nothing yet does not answer the CANCEL either (RFC 3261 §9.1).
        if !line.answered && line.provisional {
            let reason = phrase(487).to_owned();
            self.tell(sid, TrunkKind::Rejected { code: 487, reason, q850: None });
        }
    }

    fn bye(&mut self, sid: &str, _now: Instant) {
        self.forget(sid);
    }

    fn transfer(&mut self, sid: &str, _to: &str, now: Instant) {
        let Some((sid, line)) = self.lines.get_key_value(sid) else { return };
        let sid = sid.clone();
        if !line.answered {
            return;
        }
        let answer = match line.behaviour {
            Behaviour::IgnoreTransfer => return,
            Behaviour::RefuseTransfer => [(ROUTING, TrunkKind::TransferRefused { code: REFUSES_TRANSFER })].into(),
            _ => vec![(ROUTING, TrunkKind::TransferAccepted), (TRANSFERRING, TrunkKind::Bye { q850: Some(16) })],
        };
        if let Some(line) = self.lines.get_mut(&sid) {
            // A phone that is on its way to somebody else no longer waits for its clip.
            line.script = answer.into_iter().map(|(delay, kind)| (delay, Step::Tell(kind))).collect();
        }
        self.schedule(&sid, now);
    }

    /// Whatever behaviour it has: keys don't change it.
    fn press(&mut self, sid: &str, _keys: Keys, asker: Asker, _now: Instant) {
        let is_up = self.lines.get(sid).is_some_and(|line| line.answered);
        asker.tell(if is_up { Ok(()) } else { Err("the call has ended".to_owned()) });
    }

    fn far_end(&self, to: &str) -> FarEnd {
        if Behaviour::of(to) == Behaviour::Empty { FarEnd::Empty } else { FarEnd::Phone }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, sid)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.due.pop_first();
            if let Some(line) = self.lines.get_mut(&sid) {
                line.due = None;
            }
            self.step(&sid, at);
            // From when the step was due, so that a late owner does not make the script longer.
            self.schedule(&sid, at);
        }
    }
}
