//! Session timers (RFC 4028) of one dialog: who refreshes the session, when, and when it is over.
//!
//! A [`SessionTimer`] reads and writes `Session-Expires` and `Min-SE`; the requests themselves are the stack's. Whoever is the
//! refresher sends a re-INVITE or UPDATE at half of the interval; whoever is not hangs up shortly before its end (§10).
//! `refresher=uac` means the side that sent the request to which the header belongs (§7.4).

use std::time::{Duration, Instant};

/// §4: nothing below is asked for, and nothing above is believed.
pub const LEAST_S: u32 = 90;
const MOST_S: u32 = 86_400;
/// §10: how long before the end the other side gives up, at most.
const EARLIER: Duration = Duration::from_secs(32);
/// How often a 422 is followed.
const MAX_RAISES: u32 = 2;
/// From a refresh that failed for the moment to the next.
const AGAIN: Duration = Duration::from_secs(3);
/// Both sides asked at once.
const PENDING: u16 = 491;

/// How long whoever was told 491 waits (RFC 3261 §14.1): 2.1 to 4 s if the Call-ID is ours, else up to 2 s, in steps of 10 ms, so that the
/// two sides do not meet again. `chance`: any number.
pub fn after_glare(is_call_id_ours: bool, chance: u32) -> Duration {
    let ms = if is_call_id_ours { 2_100 + chance % 191 * 10 } else { chance % 201 * 10 };
    Duration::from_millis(ms.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: we ask for no timer; one that the far end asks for is kept.
    pub expires_s: Option<u32>,
    pub min_se_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a re-INVITE or UPDATE with [`SessionTimer::request`].
    Refresh,
    /// Nobody refreshed it: BYE.
    Expired,
}

/// The far end's interval is too small: 422 with this `Min-SE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    pub min_se_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresher {
    Uac,
    Uas,
}

#[derive(Clone, Debug)]
struct Running {
    interval: Duration,
    is_ours: bool,
    began: Instant,
    /// Of the refresher: the next request. `None`: its answer is awaited.
    refresh_at: Option<Instant>,
}

impl Running {
    fn new(interval_s: u32, is_ours: bool, now: Instant) -> Self {
        let interval = Duration::from_secs(u64::from(interval_s));
        Self { interval, is_ours, began: now, refresh_at: is_ours.then(|| now + interval / 2) }
    }

    fn ends_at(&self) -> Instant {
        self.began + self.interval - EARLIER.min(self.interval / 3)
    }
}

#[derive(Clone, Debug)]
pub struct SessionTimer {
    settings: Settings,
    raises: u32,
    running: Option<Running>,
}

impl SessionTimer {
    pub fn new(settings: Settings) -> Self {
        let min_se_s = settings.min_se_s.clamp(LEAST_S, MOST_S);
        let expires_s = settings.expires_s.map(|expires| expires.clamp(min_se_s, MOST_S));
        Self { settings: Settings { expires_s, min_se_s }, raises: 0, running: None }
    }

    /// `Session-Expires` and `Min-SE` of an INVITE, re-INVITE or UPDATE of ours. In a running session the side that refreshes
    /// stays the same (§7.4).
    pub fn request(&self) -> Option<(String, String)> {
        let min_se = self.settings.min_se_s.to_string();
        match &self.running {
            Some(running) => {
                let refresher = if running.is_ours { "uac" } else { "uas" };
                Some((format!("{};refresher={refresher}", running.interval.as_secs()), min_se))
            }
            None => Some((self.settings.expires_s?.to_string(), min_se)),
        }
    }

    /// A 422: whether to ask again with the larger interval (§7.4).
    pub fn handle_too_small(&mut self, min_se: &str) -> bool {
        let Some(least) = seconds(min_se).filter(|least| *least <= MOST_S) else { return false };
        self.raises += 1;
        let asked = match &self.running {
            Some(running) => Some(running.interval.as_secs() as u32),
            None => self.settings.expires_s,
        };
        if self.raises > MAX_RAISES || asked.is_none_or(|asked| asked >= least) {
            return false;
        }
        if let Some(running) = &mut self.running {
            running.interval = Duration::from_secs(least.into());
        }
        self.settings.expires_s = self.settings.expires_s.map(|expires| expires.max(least));
        self.settings.min_se_s = self.settings.min_se_s.max(least);
        true
    }

    /// The 2xx to a request of ours. Without a header the session has no end (§7.2).
    pub fn handle_answer(&mut self, session_expires: Option<&str>, now: Instant) {
        self.raises = 0;
        self.running = session_expires
            .and_then(read)
            .map(|(interval, refresher)| Running::new(interval.max(LEAST_S), refresher != Some(Refresher::Uas), now));
    }

    /// An INVITE, re-INVITE or UPDATE of the far end: gives the `Session-Expires` of our 2xx (§9). `supports_timer`: its
    /// `Supported` names `timer`. With `Err` nothing changes.
    pub fn handle_request(
        &mut self,
        session_expires: Option<&str>,
        min_se: Option<&str>,
        supports_timer: bool,
        now: Instant,
    ) -> Result<Option<String>, TooSmall> {
        let asked = session_expires.and_then(read);
        let least = self.settings.min_se_s;
        if let Some((interval, _)) = asked
            && interval < least
            && supports_timer
        {
            return Err(TooSmall { min_se_s: least });
        }
        let theirs = asked.map(|(interval, _)| interval.max(least));
        let own = self.running.as_ref().map(|running| running.interval.as_secs() as u32).or(self.settings.expires_s);
        let floor = min_se.and_then(seconds).unwrap_or(LEAST_S).min(MOST_S);
        // An interval may be made smaller here, but not below what the far end takes (§9).
        let interval = match (theirs, own) {
            (Some(theirs), Some(own)) => own.max(floor).max(least).min(theirs),
            (Some(theirs), None) => theirs,
            (None, Some(own)) => own.max(floor),
            (None, None) => {
                self.running = None;
                return Ok(None);
            }
        };
        // Who can't refresh is not asked to (§9, table 2).
        let refresher = match asked.and_then(|(_, refresher)| refresher) {
            _ if !supports_timer => Refresher::Uas,
            Some(refresher) => refresher,
            None => Refresher::Uac,
        };
        self.running = Some(Running::new(interval, refresher == Refresher::Uas, now));
        let word = if refresher == Refresher::Uas { "uas" } else { "uac" };
        Ok(Some(format!("{interval};refresher={word}")))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(running.refresh_at.map_or(running.ends_at(), |at| at.min(running.ends_at())))
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        let running = self.running.as_mut()?;
        if now >= running.ends_at() {
            self.running = None;
            return Some(Due::Expired);
        }
        running.refresh_at.filter(|at| *at <= now)?;
        running.refresh_at = None;
        Some(Due::Refresh)
    }

    /// Our refresh was not answered by a 2xx. `code`: `None` for silence. After 408, 481 and silence the session is over (§10);
    /// after anything else it is tried again while there is time, after 491 when `glare` has passed ([`after_glare`]).
    pub fn handle_refresh_failed(&mut self, code: Option<u16>, glare: Duration, now: Instant) -> Option<Due> {
        let running = self.running.as_mut()?;
        if matches!(code, None | Some(408 | 481)) {
            self.running = None;
            return Some(Due::Expired);
        }
        running.refresh_at = Some(now + if code == Some(PENDING) { glare } else { AGAIN });
        None
    }
}

/// An interval below the least that is taken: nobody need take one below [`LEAST_S`] (§4).
pub fn is_too_short(session_expires: &str, least_s: u32) -> bool {
    read(session_expires).is_some_and(|(interval, _)| interval < least_s.max(LEAST_S))
}

/// `<seconds>[;refresher=uac|uas]`. An interval of more than a day is one of a day.
fn read(header: &str) -> Option<(u32, Option<Refresher>)> {
    let mut parts = header.split(';');
    let interval = seconds(parts.next()?)?.min(MOST_S);
    let refresher = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        match (name.trim().eq_ignore_ascii_case("refresher"), value.trim().to_ascii_lowercase().as_str()) {
            (true, "uac") => Some(Refresher::Uac),
            (true, "uas") => Some(Refresher::Uas),
            _ => None,
        }
    });
    Some((interval, refresher))
}

/// `Min-SE` and the first part of `Session-Expires`.
fn seconds(text: &str) -> Option<u32> {
    let digits = text.split(';').next()?.trim();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
    number.parse::<u64>().ok().map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Settings = Settings { expires_s: Some(1800), min_se_s: 90 };
    const NONE: Settings = Settings { expires_s: None, min_se_s: 90 };

    struct Bench {
        timer: SessionTimer,
        start: Instant,
    }

    impl Bench {
        #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
        fn new(settings: Settings) -> Self {
            Self { timer: SessionTimer::new(settings), start: Instant::now() }
        }

        /// Seconds from the start to the next timer, and what it is.
        fn next(&mut self) -> Option<(u64, Option<Due>)> {
            let at = self.timer.poll_timeout()?;
            Some(((at - self.start).as_secs(), self.timer.handle_timeout(at)))
        }
    }

    #[test]
    fn we_ask_and_refresh_at_half_of_what_was_agreed() {
        let mut bench = Bench::new(OURS);
        assert_eq!(bench.timer.request(), Some(("1800".to_owned(), "90".to_owned())));
        bench.timer.handle_answer(Some("600;refresher=uac"), bench.start);
        assert_eq!(bench.next(), Some((300, Some(Due::Refresh))));
        assert_eq!(bench.timer.request().unwrap().0, "600;refresher=uac");
        // The answer to the refresh begins it anew.
        bench.timer.handle_answer(Some("600;refresher=uac"), bench.start + Duration::from_secs(301));
        assert_eq!(bench.next(), Some((601, Some(Due::Refresh))));
    }

    #[test]
    fn a_refresh_without_an_answer_ends_the_session() {
        for code in [None, Some(408), Some(481)] {
            let mut bench = Bench::new(OURS);
            bench.timer.handle_answer(Some("600;refresher=uac"), bench.start);
            bench.next();
            assert_eq!(bench.timer.handle_refresh_failed(code, Duration::ZERO, bench.start), Some(Due::Expired));
            assert_eq!(bench.next(), None);
        }
    }

    #[test]
    fn a_refresh_that_is_refused_for_the_moment_is_tried_again_until_the_end() {
        let mut bench = Bench::new(OURS);
        bench.timer.handle_answer(Some("600;refresher=uac"), bench.start);
        bench.next();
        let later = bench.start + Duration::from_secs(300);
        assert_eq!(bench.timer.handle_refresh_failed(Some(500), Duration::ZERO, later), None);
        assert_eq!(bench.next(), Some((303, Some(Due::Refresh))));
        // Nothing comes back at all: the end is 32 s before the interval's.
        assert_eq!(bench.next(), Some((568, Some(Due::Expired))));
    }

    #[test]
    fn after_both_asked_at_once_each_side_waits_in_a_time_of_its_own() {
        let ms = |is_ours, chance| after_glare(is_ours, chance).as_millis();
        assert_eq!((ms(true, 0), ms(true, 190), ms(true, 191)), (2_100, 4_000, 2_100));
        assert_eq!((ms(false, 0), ms(false, 200), ms(false, 201)), (0, 2_000, 0));
        for chance in [u32::MAX, 12_345] {
            assert!((2_100..=4_000).contains(&ms(true, chance)) && ms(false, chance) <= 2_000);
        }
        let mut bench = Bench::new(OURS);
        bench.timer.handle_answer(Some("600;refresher=uac"), bench.start);
        bench.next();
        let later = bench.start + Duration::from_secs(300);
        assert_eq!(bench.timer.handle_refresh_failed(Some(491), Duration::from_secs(1), later), None);
        assert_eq!(bench.next(), Some((301, Some(Due::Refresh))));
    }

    #[test]
    fn the_far_end_refreshes_or_the_session_ends() {
        let mut bench = Bench::new(OURS);
        bench.timer.handle_answer(Some("90;refresher=uas"), bench.start);
        assert_eq!(bench.next(), Some((60, Some(Due::Expired))));
        let mut bench = Bench::new(OURS);
        bench.timer.handle_answer(Some("600;refresher=uas"), bench.start);
        let refreshed = bench.start + Duration::from_secs(300);
        let answer = bench.timer.handle_request(Some("600;refresher=uac"), None, true, refreshed);
        assert_eq!(answer, Ok(Some("600;refresher=uac".to_owned())));
        assert_eq!(bench.next(), Some((868, Some(Due::Expired))));
    }

    #[test]
    fn a_far_end_without_timers_has_none() {
        let mut bench = Bench::new(OURS);
        bench.timer.handle_answer(None, bench.start);
        assert_eq!(bench.next(), None);
    }

    #[test]
    fn a_422_is_followed_twice() {
        let mut bench = Bench::new(OURS);
        assert!(bench.timer.handle_too_small("3600"));
        assert_eq!(bench.timer.request(), Some(("3600".to_owned(), "3600".to_owned())));
        assert!(bench.timer.handle_too_small("7200"));
        assert!(!bench.timer.handle_too_small("9000"));
        // 90 is less than we asked for.
        for nothing in ["90", "nonsense", "999999999999", ""] {
            assert!(!Bench::new(OURS).timer.handle_too_small(nothing), "{nothing}");
        }
    }

    #[test]
    fn a_422_to_a_refresh_raises_the_running_interval() {
        let mut bench = Bench::new(NONE);
        bench.timer.handle_answer(Some("600;refresher=uac"), bench.start);
        bench.next();
        assert!(bench.timer.handle_too_small("900"));
        assert_eq!(bench.timer.request(), Some(("900;refresher=uac".to_owned(), "900".to_owned())));
        assert!(!bench.timer.handle_too_small("900"));
        // Nothing more comes: it ends 32 s before the longer interval does.
        assert_eq!(bench.next(), Some((868, Some(Due::Expired))));
    }

    #[test]
    fn what_the_far_end_asks_for() {
        for (settings, header, min_se, supports, expected) in [
            (OURS, Some("600"), None, true, Ok(Some("600;refresher=uac"))),
            (OURS, Some("7200;refresher=uas"), None, true, Ok(Some("1800;refresher=uas"))),
            (OURS, Some("7200"), Some("3600"), true, Ok(Some("3600;refresher=uac"))),
            (OURS, Some("30"), None, true, Err(TooSmall { min_se_s: 90 })),
            (OURS, Some("30"), None, false, Ok(Some("90;refresher=uas"))),
            (OURS, None, None, true, Ok(Some("1800;refresher=uac"))),
            (OURS, None, None, false, Ok(Some("1800;refresher=uas"))),
            (NONE, None, None, true, Ok(None)),
            (NONE, Some("900;refresher=uac"), None, true, Ok(Some("900;refresher=uac"))),
            (NONE, Some("nonsense"), None, true, Ok(None)),
        ] {
            let mut bench = Bench::new(settings);
            let answer = bench.timer.handle_request(header, min_se, supports, bench.start);
            assert_eq!(answer, expected.map(|text| text.map(str::to_owned)), "{header:?} {min_se:?}");
        }
    }
}
