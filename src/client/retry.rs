//! Whether a request is sent again, and after how long. Pure: time and chance are arguments.
//!
//! Only what can't act twice comes here at all (`http`). Of that a failure is repeated which may heal by itself: no connection, no answer
//! in time, 408, 429, 500, 502, 503, 504, and whatever the engine itself calls retryable; what it calls final is final, whatever its
//! status. The server's `Retry-After` (RFC 9110 §10.2.3, seconds or a date) counts as it stands; without one the wait doubles, each
//! time with jitter, so that clients which failed together don't come back together. A wait that would outlast the request's
//! timeout is not begun: the failure is told at once, not hidden behind a timeout.

use std::time::{Duration, SystemTime};

use crate::error::Error;

/// How long to wait before the first repetition and at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    step: Duration,
    cap: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { step: Duration::from_millis(500), cap: Duration::from_secs(8) }
    }
}

impl Pace {
    #[cfg(test)]
    pub(super) fn of_millis(step: u64, cap: u64) -> Self {
        Self { step: Duration::from_millis(step), cap: Duration::from_millis(cap) }
    }

    /// How long to wait after the failed attempt number `attempt` (from 0), with `left` until the timeout. `None`: not again.
    /// `chance` is any number, all of them alike.
    pub(super) fn pause(self, attempt: u32, error: &Error, left: Duration, chance: u32) -> Option<Duration> {
        let pause = error.retry_after.unwrap_or_else(|| self.backoff(attempt, chance));
        (error.retryable && pause < left).then_some(pause)
    }

    /// Between half of the step and all of it.
    fn backoff(self, attempt: u32, chance: u32) -> Duration {
        let step = self.step.saturating_mul(2u32.saturating_pow(attempt)).min(self.cap);
        step / 2 + (step / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

/// What `Retry-After` says. A date counts from the server's own clock (`Date`) where it tells that.
pub(super) fn retry_after(header: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = httpdate::parse_http_date(header).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_wait_doubles_up_to_its_cap_with_jitter_of_half() {
        let (pace, error) = (Pace::default(), Error::from_status(503, "x"));
        let at = |attempt, chance| pace.pause(attempt, &error, LONG, chance).unwrap().as_millis();
        let bounds: Vec<_> = (0..8).map(|attempt| (at(attempt, 0), at(attempt, u32::MAX))).collect();
        let expected = [(250, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000), (4000, 8000)];
        assert_eq!(bounds[..6], expected);
        assert_eq!((at(u32::MAX, 0), at(0, u32::MAX / 2)), (4000, 375));
    }

    #[test]
    fn what_heals_by_itself_is_sent_again() {
        let again = |error: Error| Pace::default().pause(0, &error, LONG, 0).is_some();
        let statuses: Vec<u16> = (300..600).filter(|status| again(Error::from_status(*status, "x"))).collect();
        assert_eq!(statuses, [408, 429, 500, 502, 503, 504]);
        assert!(again(Error::new(Kind::ApiConnection, "x")) && again(Error::new(Kind::ApiTimeout, "x")));
        let final_503 = Error::from_status(503, "x").with(|detail| detail.retryable = false);
        let moving_409 = Error::from_status(409, "x").with(|detail| detail.retryable = true);
        assert!(!again(final_503) && again(moving_409), "the engine knows best");
    }

    #[test]
    fn the_servers_word_counts_unless_it_is_later_than_the_timeout() {
        let told = |seconds| {
            Error::from_status(429, "x").with(|detail| detail.retry_after = Some(Duration::from_secs(seconds)))
        };
        let pause = |seconds, left| Pace::default().pause(5, &told(seconds), Duration::from_secs(left), 7);
        assert_eq!((pause(0, 30), pause(29, 30)), (Some(Duration::ZERO), Some(Duration::from_secs(29))));
        assert_eq!((pause(30, 30), pause(3600, 30), pause(0, 0)), (None, None, None));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000); // Mon, 24 Nov 2025 16:00:00 GMT
        let read = |header, date| retry_after(header, date, now).map(|pause| pause.as_secs());
        assert_eq!((read(" 7 ", None), read("0", None)), (Some(7), Some(0)));
        assert_eq!(read("Mon, 24 Nov 2025 16:00:05 GMT", None), Some(5));
        assert_eq!(read("Monday, 24-Nov-25 16:00:05 GMT", None), Some(5));
        assert_eq!(read("Mon, 24 Nov 2025 15:00:00 GMT", None), Some(0), "it is over");
        // The server's clock is an hour behind ours.
        assert_eq!(read("Mon, 24 Nov 2025 15:00:05 GMT", Some("Mon, 24 Nov 2025 15:00:00 GMT")), Some(5));
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(read(nonsense, None), None, "{nonsense}");
        }
    }
}
