//! What to do about a refused request: pure, error and time in, the next step out.
//!
//! A track that is not there yet is asked for again for as long as somebody wants it, fast at first, with jitter. A peer that
//! names a time gets it. Tokens that are refused are asked for afresh, a bounded number of times. What repeating can't mend
//! is told to whoever wants the track.

use std::time::{Duration, Instant};

use super::reconnect::Jitter;
use crate::moqt::RequestErrorCode as Code;
use crate::moqt::message::RequestError;

/// First and longest pause before a request is repeated; between them it doubles.
const STEP: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(2);
/// When the peer is too busy and names no time.
const BUSY: Duration = Duration::from_secs(1);
/// A peer that names a longer time is asked after this one.
const LONGEST: Duration = Duration::from_secs(30);
/// How long fresh tokens are waited for, and how often they are asked for until a request is accepted.
const TOKENS_WAIT: Duration = Duration::from_secs(10);
pub(super) const RENEWALS: u32 = 2;

/// What a refusal means for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Ask again after this long at least.
    Again(Duration),
    /// Ask again with other tokens.
    Tokens,
    Never,
}

pub(super) fn remedy(error: &RequestError, attempts: u32) -> Remedy {
    let is = |codes: &[Code]| codes.iter().any(|code| *code as u64 == error.code);
    if is(&[Code::Unauthorized, Code::MalformedAuthToken, Code::ExpiredAuthToken]) {
        return Remedy::Tokens;
    }
    if let Some(after) = error.retry_after {
        return Remedy::Again(after.clamp(STEP, LONGEST));
    }
    // The peer has held it for as long as we asked: there is nothing to wait for.
    if is(&[Code::Timeout]) {
        return Remedy::Again(Duration::ZERO);
    }
    if is(&[Code::ExcessiveLoad]) {
        return Remedy::Again(BUSY);
    }
    if is(&[Code::DoesNotExist, Code::InternalError, Code::GoingAway]) {
        return Remedy::Again((STEP * 2_u32.saturating_pow(attempts.min(16))).min(CAP));
    }
    Remedy::Never
}

/// How one request of ours stands with the peer, over all its repetitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// Refusals in a row.
    attempts: u32,
    /// When to ask again, or when to stop waiting for tokens.
    pub(super) due: Option<Instant>,
    /// Refused for its tokens: code and reason, told when no better ones come.
    refusal: Option<RequestError>,
}

/// What [`Asking::poll`] finds due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ask,
    Refused(RequestError),
}

impl Asking {
    pub(super) fn accepted(&mut self) {
        *self = Self::default();
    }

    /// The request is to be repeated soon, for no fault of its own.
    pub(super) fn soon(&mut self, random: &mut Jitter, now: Instant) {
        self.due = Some(now + random.between(Duration::ZERO, STEP));
    }

    /// What it waits for has come: not a moment longer. Tokens are another matter.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.due.is_some() && self.refusal.is_none() {
            self.due = Some(now);
        }
    }

    /// Takes in a refusal. The answer is what the caller has left to do: to ask for tokens, or to tell the user.
    pub(super) fn refused(&mut self, error: &RequestError, random: &mut Jitter, now: Instant) -> Remedy {
        let remedy = remedy(error, self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        (self.due, self.refusal) = match remedy {
            Remedy::Again(least) => (Some(now + random.between(least, least + least / 2 + STEP)), None),
            Remedy::Tokens => (Some(now + TOKENS_WAIT), Some(error.clone())),
            Remedy::Never => (None, None),
        };
        remedy
    }

    /// Nobody will bring better tokens.
    pub(super) fn give_up(&mut self) {
        self.due = None;
    }

    /// Fresh tokens have come: whatever was refused for the old ones is asked again.
    pub(super) fn renewed(&mut self, now: Instant) {
        if self.refusal.take().is_some() {
            self.due = Some(now);
        }
    }

    /// What was accepted is to be said once more.
    pub(super) fn again(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Due> {
        self.due.take_if(|due| *due <= now)?;
        Some(self.refusal.clone().map_or(Due::Ask, Due::Refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> RequestError {
        RequestError::new(code, "")
    }

    #[test]
    fn a_track_that_is_not_there_is_asked_for_fast_then_every_two_seconds() {
        let (mut asking, mut random, mut now) = (Asking::default(), Jitter::new(3), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert_eq!(
                asking.refused(&error(Code::DoesNotExist), &mut random, now),
                remedy(&error(Code::DoesNotExist), pauses.len() as u32)
            );
            let due = asking.due.unwrap();
            pauses.push(due - now);
            now = due;
            assert_eq!(asking.poll(now), Some(Due::Ask));
        }
        assert!(pauses[0] <= Duration::from_millis(250) && pauses[39] >= CAP && pauses[39] <= CAP * 2);
        assert!(pauses[20..].windows(2).any(|pair| pair[0] != pair[1]), "jitter");
    }

    #[test]
    fn a_named_time_is_kept_and_bounded() {
        let after = |after_ms| RequestError {
            retry_after: Some(Duration::from_millis(after_ms)),
            ..error(Code::ExcessiveLoad)
        };
        assert_eq!(remedy(&after(1500), 0), Remedy::Again(Duration::from_millis(1500)));
        assert_eq!(remedy(&after(u64::MAX), 0), Remedy::Again(LONGEST));
        assert_eq!(remedy(&error(Code::ExcessiveLoad), 9), Remedy::Again(BUSY));
        assert_eq!(remedy(&error(Code::Timeout), 9), Remedy::Again(Duration::ZERO));
    }

    #[test]
    fn refused_tokens_wait_for_better_ones() {
        let (mut random, now) = (Jitter::new(3), Instant::now());
        for code in [Code::Unauthorized, Code::MalformedAuthToken, Code::ExpiredAuthToken] {
            let mut asking = Asking::default();
            assert_eq!(asking.refused(&error(code), &mut random, now), Remedy::Tokens);
            assert_eq!(asking.poll(now + TOKENS_WAIT / 2), None);
            let mut renewed = asking.clone();
            renewed.renewed(now);
            assert_eq!(renewed.poll(now), Some(Due::Ask));
            assert_eq!(asking.poll(now + TOKENS_WAIT), Some(Due::Refused(error(code))));
            asking.renewed(now);
            assert_eq!(asking.poll(now), Some(Due::Ask), "also after it was given up");
        }
    }

    #[test]
    fn what_repeating_cannot_mend_is_not_repeated() {
        for code in [Code::NotSupported, Code::Uninterested, Code::MalformedTrack, Code::InvalidRange, Code::Redirect] {
            assert_eq!(remedy(&error(code), 0), Remedy::Never);
        }
        assert_eq!(remedy(&RequestError { code: 0x7777, ..error(Code::Timeout) }, 0), Remedy::Never);
    }
}
