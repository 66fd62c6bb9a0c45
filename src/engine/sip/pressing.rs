//! Keys for a far end that takes no telephone events: each an INFO of the call's dialog, one under way at a time, the next one when it is
//! answered and the key before it would be over.
//!
//! INFO may be allowed and keys in it not understood, so whoever asks first waits for what the far end says to its first key. From
//! the first 2xx on keys are taken as they come, as on a line. A key that is refused or not answered takes those behind it
//! along; a far end that says that it has no such thing is asked no more. No I/O: the call sends what [`Pressing::next`] gives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Timers;
use super::stack::Terms;
use crate::engine::config::DtmfMode;
use crate::engine::trunk::{Asker, Keys};
use crate::rtp::dtmf::{Key, MOST_STROKES, PAUSE_MS, Stroke};

/// An answer is waited for no longer than this, in T1: 10 s. Its transaction may need three times that (RFC 3261 §17.1.2.2), the user can't.
const PATIENCE_T1: u32 = 20;
/// Of a far side that has no INFO, or nothing to do with keys in it.
const NEVER: [u16; 3] = [405, 415, 501];

pub(super) struct Pressing {
    mode: DtmfMode,
    patience: Duration,
    /// The far side's `Allow` names INFO.
    is_allowed: bool,
    waiting: VecDeque<(Stroke, u32)>,
    step: Step,
    /// Whoever is to be told what comes of the first key, and until when.
    askers: Vec<(Asker, Instant)>,
    is_understood: bool,
    /// What it said that will not change.
    refused: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Free,
    Pausing {
        until: Instant,
    },
    /// A key is under way, and would be over then. `until`: nobody waits for its answer any longer; `None`: nobody does.
    Asked {
        over: Instant,
        until: Option<Instant>,
    },
}

impl Pressing {
    pub(super) fn new(mode: DtmfMode, timers: Timers) -> Self {
        Self {
            mode,
            patience: timers.t1 * PATIENCE_T1,
            is_allowed: false,
            waiting: VecDeque::new(),
            step: Step::Free,
            askers: Vec::new(),
            is_understood: false,
            refused: None,
        }
    }

    /// What a message of the far side says of itself.
    pub(super) fn note(&mut self, terms: &Terms) {
        self.is_allowed |= terms.takes_info;
    }

    /// Whether keys go this way; `on_line`: telephone events were agreed on, and the far end names all of these.
    pub(super) fn is_used(&self, on_line: bool) -> bool {
        match self.mode {
            DtmfMode::Rfc2833 => false,
            DtmfMode::Info => true,
            DtmfMode::Auto => !on_line && self.is_allowed,
        }
    }

    /// All of them, or none.
    pub(super) fn push(&mut self, keys: Keys, asker: Asker, now: Instant) {
        if let Err(why) = self.check(keys.strokes.len()) {
            return asker.tell(Err(why));
        }
        self.waiting.extend(keys.strokes.into_iter().map(|stroke| (stroke, keys.duration_ms)));
        if self.is_understood {
            return asker.tell(Ok(()));
        }
        self.askers.push((asker, now + self.patience));
    }

    fn check(&self, more: usize) -> Result<(), String> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if matches!(self.step, Step::Asked { until: None, .. }) {
            return Err(unanswered());
        }
        if self.waiting.len() + more > MOST_STROKES {
            return Err(format!(
                "more than {MOST_STROKES} keys and pauses would wait: send them when others are through"
            ));
        }
        Ok(())
    }

    /// The key to be sent now, and how long it is. Asked after everything that happens.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, u32)> {
        if matches!(self.step, Step::Pausing { until } if until <= now) {
            self.step = Step::Free;
        }
        let after = |ms: u32| now + Duration::from_millis(u64::from(ms));
        match self.waiting.pop_front_if(|_| self.step == Step::Free)? {
            (Stroke::Pause { ms }, _) => {
                self.step = Step::Pausing { until: after(ms) };
                None
            }
            (Stroke::Key(key), ms) => {
                self.step = Step::Asked { over: after(ms + PAUSE_MS), until: Some(now + self.patience) };
                Some((key, ms))
            }
        }
    }

    /// The final answer to the key under way.
    pub(super) fn handle_answer(&mut self, code: Option<u16>, now: Instant) {
        let Step::Asked { over, .. } = self.step else { return };
        self.step = Step::Pausing { until: over.max(now) };
        match code {
            Some(200..=299) => {
                self.is_understood = true;
                self.askers.drain(..).for_each(|(asker, _)| asker.tell(Ok(())));
            }
            Some(code) => {
                let why = format!("the far end takes no keys by SIP INFO: it answers {code}");
                self.refused = NEVER.contains(&code).then(|| why.clone());
                self.fail(&why);
            }
            None => self.fail(&unanswered()),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let step = match self.step {
            Step::Free => None,
            Step::Pausing { until } => Some(until).filter(|_| !self.waiting.is_empty()),
            Step::Asked { until, .. } => until,
        };
        step.into_iter().chain(self.askers.iter().map(|(_, until)| *until)).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Step::Asked { until, .. } = &mut self.step
            && until.take_if(|until| *until <= now).is_some()
        {
            self.fail(&unanswered());
        }
        // What they asked for is behind pauses: it will be sent.
        self.askers.extract_if(.., |(_, until)| *until <= now).for_each(|(asker, _)| asker.tell(Ok(())));
    }

    /// Waits until [`Pressing::handle_timeout`] has something to do.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        let at = self.poll_timeout();
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The call is over. Whoever waits is told so.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.askers.clear();
    }

    fn fail(&mut self, why: &str) {
        let behind = std::mem::take(&mut self.waiting).len();
        if self.askers.is_empty() {
            tracing::warn!(behind, why, "a key is not pressed, and none behind it");
        }
        self.askers.drain(..).for_each(|(asker, _)| asker.tell(Err(why.to_owned())));
    }
}

fn unanswered() -> String {
    "the far end does not answer the SIP INFO of a key: what it heard is not known, and nothing behind that key is sent"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::rtp::dtmf::strokes;

    fn pressing(mode: DtmfMode) -> Pressing {
        Pressing::new(mode, Timers::default())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn push(pressing: &mut Pressing, digits: &str, now: Instant) -> Receiver<Result<(), String>> {
        let (sender, told) = channel();
        let keys = Keys { strokes: strokes(digits).unwrap(), duration_ms: 100 };
        pressing.push(keys, Asker::new(move |done| drop(sender.send(done))), now);
        told
    }

    fn key(pressing: &mut Pressing, now: Instant) -> Option<char> {
        pressing.next(now).map(|(key, _)| key.as_char())
    }

    #[test]
    fn one_is_under_way_at_a_time_and_none_begins_before_the_last_is_over() {
        let (mut pressing, mut now) = (pressing(DtmfMode::Auto), Instant::now());
        let told = push(&mut pressing, "1w2", now);
        assert_eq!((key(&mut pressing, now), key(&mut pressing, now), told.try_recv().ok()), (Some('1'), None, None));
        now += ms(30);
        pressing.handle_answer(Some(200), now);
        assert_eq!((told.try_recv(), key(&mut pressing, now)), (Ok(Ok(())), None));
        assert_eq!(pressing.poll_timeout(), Some(now + ms(130)));
        now += ms(130);
        assert_eq!((key(&mut pressing, now), pressing.poll_timeout()), (None, Some(now + ms(500))));
        now += ms(500);
        assert_eq!(key(&mut pressing, now), Some('2'));
        // An answer that comes late is no reason to hurry, and whoever asks now knows that keys are understood.
        assert_eq!(push(&mut pressing, "3", now).try_recv(), Ok(Ok(())));
        now += ms(900);
        assert_eq!(key(&mut pressing, now), None);
        pressing.handle_answer(Some(200), now);
        assert_eq!((key(&mut pressing, now), key(&mut pressing, now)), (Some('3'), None));
    }

    #[test]
    fn a_far_end_that_has_no_such_thing_is_asked_no_more() {
        for code in [405, 415, 501, 500] {
            let (mut pressing, now) = (pressing(DtmfMode::Info), Instant::now());
            let (first, second) = (push(&mut pressing, "12", now), push(&mut pressing, "3", now));
            assert_eq!(key(&mut pressing, now), Some('1'));
            pressing.handle_answer(Some(code), now);
            for told in [first, second] {
                assert!(told.try_recv().unwrap().unwrap_err().contains(&code.to_string()));
            }
            let later = push(&mut pressing, "4", now);
            let next = key(&mut pressing, now + ms(200));
            assert_eq!((later.try_recv().is_ok(), next), (code != 500, (code == 500).then_some('4')));
        }
    }

    #[test]
    fn nobody_waits_longer_than_ten_seconds() {
        let (mut pressing, now) = (pressing(DtmfMode::Auto), Instant::now());
        let told = push(&mut pressing, "12", now);
        assert_eq!((key(&mut pressing, now), pressing.poll_timeout()), (Some('1'), Some(now + ms(10_000))));
        let late = now + ms(10_000);
        pressing.handle_timeout(late);
        assert!(told.try_recv().unwrap().unwrap_err().contains("does not answer"));
        assert_eq!((key(&mut pressing, late), pressing.poll_timeout()), (None, None));
        assert!(push(&mut pressing, "3", late).try_recv().unwrap().is_err(), "one is under way still");
        pressing.handle_answer(None, late + ms(22_000));
        drop(push(&mut pressing, "4", late + ms(22_000)));
        assert_eq!(key(&mut pressing, late + ms(22_000)), Some('4'));
        // Behind pauses nothing is known in time.
        let mut patient = super::tests::pressing(DtmfMode::Auto);
        let told = push(&mut patient, &"W".repeat(20), now);
        assert_eq!(key(&mut patient, now), None);
        patient.handle_timeout(late);
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_waits_is_bounded_and_forgotten_with_the_call() {
        let (mut pressing, now) = (pressing(DtmfMode::Auto), Instant::now());
        let told = push(&mut pressing, &"1".repeat(MOST_STROKES), now);
        assert!(push(&mut pressing, "1", now).try_recv().unwrap().unwrap_err().contains("would wait"));
        pressing.close();
        assert!(told.try_recv().unwrap().unwrap_err().contains("has ended"));
        assert_eq!((key(&mut pressing, now), pressing.poll_timeout()), (None, None));
    }

    #[test]
    fn which_way_keys_go() {
        let allows = Terms { takes_info: true, ..Terms::default() };
        for (mode, silent, allowed) in
            [(DtmfMode::Auto, false, true), (DtmfMode::Rfc2833, false, false), (DtmfMode::Info, true, true)]
        {
            let mut pressing = pressing(mode);
            assert_eq!(pressing.is_used(false), silent, "{mode:?}");
            pressing.note(&allows);
            assert_eq!((pressing.is_used(false), pressing.is_used(true)), (allowed, mode == DtmfMode::Info));
        }
    }
}
