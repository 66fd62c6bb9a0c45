//! One registration at a registrar (RFC 3261 §10): when to ask, for how long, and when to ask again.
//!
//! A [`Registration`] is told what came back and says when the next REGISTER is due. It refreshes well before the end of what was
//! granted, at a moment of its own, so that many trunks don't come at once; it backs off from a registrar that is silent or
//! failing, and stays away for longer from one that refuses. Credentials are the stack's: a 401 that comes here came after them.

use std::time::{Duration, Instant};

use super::dice::Dice;
use super::{contact, uri};

/// First wait after a failure; it doubles up to the longest.
const BACKOFF: Duration = Duration::from_secs(2);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A registrar that refuses is asked again when somebody may have put it right.
const REFUSED: Duration = Duration::from_secs(300);
/// The most that a Retry-After or a Min-Expires is believed.
const MOST: Duration = Duration::from_secs(86_400);
/// A shorter grant is taken for this long: nobody means to be asked more often.
const LEAST_GRANT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never asked, or asked and not answered yet.
    Pending,
    Registered {
        until: Instant,
    },
    /// The last answer was this, and nothing that was granted before still holds.
    Failed {
        code: u16,
    },
    /// Nobody answers.
    Unreachable,
}

#[derive(Clone, Debug)]
pub struct Registration {
    /// What is asked for.
    expires: Duration,
    state: State,
    failures: u32,
    due: Option<Instant>,
    dice: Dice,
    raised: bool,
}

impl Registration {
    /// Asks at once. `seed` spreads the refreshes of many.
    pub fn new(expires: Duration, seed: u64, now: Instant) -> Self {
        Self { expires, state: State::Pending, failures: 0, due: Some(now), dice: Dice::new(seed), raised: false }
    }

    /// `Registered` ends with its time, whatever is asked meanwhile.
    pub fn state(&self, now: Instant) -> State {
        match self.state {
            State::Registered { until } if until <= now => State::Unreachable,
            state => state,
        }
    }

    /// `None`: an answer is awaited.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Gives the `Expires` of the REGISTER to send, if one is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u32> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        u32::try_from(self.expires.as_secs()).ok()
    }

    /// 2xx. `granted`: the contact's or the header's `Expires`; without one what was asked for.
    pub fn handle_granted(&mut self, granted: Option<Duration>, now: Instant) {
        let granted = granted.unwrap_or(self.expires).clamp(LEAST_GRANT, MOST);
        self.failures = 0;
        self.raised = false;
        self.state = State::Registered { until: now + granted };
        // Between 80 and 90 % of it.
        self.due = Some(now + granted * 8 / 10 + granted.mul_f64(0.1 * self.dice.throw()));
    }

    /// A final answer that grants nothing. `min_expires` comes with a 423 (RFC 3261 §10.2.8).
    pub fn handle_refused(
        &mut self,
        code: u16,
        min_expires: Option<Duration>,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        if code == 423
            && let Some(least) = min_expires.filter(|least| *least > self.expires && *least <= MOST && !self.raised)
        {
            (self.expires, self.raised) = (least, true);
            self.due = Some(now);
            return;
        }
        let holds = matches!(self.state(now), State::Registered { .. });
        let is_transient = matches!(code, 408 | 480 | 500..=599);
        if !holds || !is_transient {
            self.state = State::Failed { code };
        }
        let wait = if is_transient { self.back_off() } else { REFUSED };
        self.due = Some(now + wait.max(retry_after.unwrap_or_default().min(MOST)));
    }

    /// Nothing came back, or nobody could be asked.
    pub fn handle_silence(&mut self, now: Instant) {
        if !matches!(self.state(now), State::Registered { .. }) {
            self.state = State::Unreachable;
        }
        let wait = self.back_off();
        self.due = Some(now + wait);
    }

    /// Half of the doubled wait for certain, the other half by chance (RFC 5626 §4.5).
    fn back_off(&mut self) -> Duration {
        let doubled = BACKOFF.saturating_mul(1 << self.failures.min(16)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        doubled / 2 + (doubled / 2).mul_f64(self.dice.throw())
    }
}

/// What the binding of this URI was given: its own `expires`, or the header's (RFC 3261 §10.2.4). Others may be registered beside us. A
/// registrar that has written our address anew, as behind a translator, may say neither: then ours is not shorter than the shortest.
pub fn granted(contacts: &[String], ours: &str, expires: Option<Duration>) -> Option<Duration> {
    let bindings = contact::contacts(contacts.iter().map(String::as_str));
    let own = bindings.iter().filter(|binding| uri::is_same_place(binding.uri, ours));
    let own = own.filter_map(contact::Contact::expires).next();
    own.or(expires).or_else(|| bindings.iter().filter_map(contact::Contact::expires).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Bench {
        registration: Registration,
        now: Instant,
    }

    impl Bench {
        #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
        fn new() -> Self {
            let now = Instant::now();
            Self { registration: Registration::new(HOUR, 7, now), now }
        }

        /// Runs until the next REGISTER; says after how long, and what it asks for.
        fn asks(&mut self) -> (Duration, u32) {
            let due = self.registration.poll_timeout().expect("something is due");
            let waited = due - self.now;
            self.now = due;
            (waited, self.registration.handle_timeout(due).expect("it is due"))
        }

        fn state(&self) -> State {
            self.registration.state(self.now)
        }
    }

    #[test]
    fn it_asks_at_once_and_refreshes_before_the_end() {
        let mut bench = Bench::new();
        assert_eq!(bench.asks(), (Duration::ZERO, 3600));
        assert_eq!((bench.registration.poll_timeout(), bench.state()), (None, State::Pending));
        let granted = Duration::from_secs(600);
        bench.registration.handle_granted(Some(granted), bench.now);
        assert_eq!(bench.state(), State::Registered { until: bench.now + granted });
        let (waited, expires) = bench.asks();
        assert!(waited >= granted * 8 / 10 && waited <= granted * 9 / 10, "{waited:?}");
        assert_eq!(expires, 3600);
    }

    #[test]
    fn two_trunks_do_not_refresh_at_the_same_moment() {
        let refresh = |seed| {
            let now = Bench::new().now;
            let mut registration = Registration::new(HOUR, seed, now);
            registration.handle_timeout(now);
            registration.handle_granted(None, now);
            registration.poll_timeout().unwrap() - now
        };
        assert_ne!(refresh(3), refresh(5));
    }

    #[test]
    fn silence_is_asked_again_ever_more_slowly_and_what_was_granted_holds() {
        let mut bench = Bench::new();
        bench.asks();
        bench.registration.handle_granted(None, bench.now);
        bench.asks();
        let mut waits = Vec::new();
        for _ in 0..12 {
            bench.registration.handle_silence(bench.now);
            waits.push(bench.asks().0);
        }
        for (i, wait) in waits.iter().enumerate() {
            let doubled = Duration::from_secs(2 << i).min(LONGEST_BACKOFF);
            assert!(*wait >= doubled / 2 && *wait <= doubled, "{i}: {wait:?}");
        }
        // The hour is over by now.
        assert_eq!(bench.state(), State::Unreachable);
        bench.registration.handle_granted(None, bench.now);
        bench.asks();
        bench.registration.handle_silence(bench.now);
        assert!(matches!(bench.state(), State::Registered { .. }));
        assert!(bench.asks().0 <= BACKOFF, "a success begins anew");
    }

    #[test]
    fn who_refuses_is_left_alone_for_a_while() {
        for code in [401, 403, 404] {
            let mut bench = Bench::new();
            bench.asks();
            bench.registration.handle_refused(code, None, None, bench.now);
            assert_eq!(bench.state(), State::Failed { code });
            assert_eq!(bench.asks().0, REFUSED);
        }
    }

    #[test]
    fn a_retry_after_is_heeded() {
        let mut bench = Bench::new();
        bench.asks();
        bench.registration.handle_refused(503, None, Some(Duration::from_secs(77)), bench.now);
        assert_eq!((bench.state(), bench.asks().0), (State::Failed { code: 503 }, Duration::from_secs(77)));
    }

    #[test]
    fn too_brief_an_interval_is_raised_once() {
        let mut bench = Bench::new();
        bench.asks();
        bench.registration.handle_refused(423, Some(HOUR * 2), None, bench.now);
        assert_eq!(bench.asks(), (Duration::ZERO, 7200));
        bench.registration.handle_refused(423, Some(HOUR * 3), None, bench.now);
        assert_eq!(bench.state(), State::Failed { code: 423 });
        bench.asks();
        bench.registration.handle_refused(423, Some(HOUR / 2), None, bench.now);
        assert_eq!(bench.asks().0, REFUSED);
    }

    #[test]
    fn a_grant_of_nothing_is_no_storm() {
        let mut bench = Bench::new();
        bench.asks();
        bench.registration.handle_granted(Some(Duration::ZERO), bench.now);
        assert!(bench.asks().0 >= Duration::from_secs(8));
    }

    #[test]
    fn what_is_granted_is_our_own_bindings() {
        let seconds = |header: &str, expires| {
            granted(&[header.to_owned()], "sip:trunk@192.0.2.1:5060", expires).map(|granted| granted.as_secs())
        };
        let others = "<sip:trunk@192.0.2.1:50600>;expires=10, <sip:trunk@192.0.2.11>;expires=20, <sip:trunk@192.0.2.1>;expires=30";
        assert_eq!(seconds(others, None), Some(30));
        let minutes = Some(Duration::from_secs(60));
        assert_eq!(seconds("<sip:trunk@192.0.2.1:5061>;expires=10", minutes), Some(60));
        assert_eq!(seconds("<sip:trunk@192.0.2.1:5060>", minutes), Some(60));
        assert_eq!(seconds("", None), None);
        // Behind a translator, whose address the registrar sees.
        let rewritten = "<sip:trunk@198.51.100.1:61000>;expires=60, <sip:trunk@192.0.2.11>;expires=3000";
        assert_eq!((seconds(rewritten, None), seconds("<sip:trunk@198.51.100.1>", None)), (Some(60), None));
    }
}
