//! The session timer of one call between its brain (`sip::SessionTimer`) and the wire: what is asked, agreed, due.
//!
//! Where the stack's T1 is not RFC 3261's, a session's seconds are shorter or longer by the same factor: tests pass through a whole session.

use std::time::{Duration, Instant};

use super::stack::Terms;
use super::{T1, Timers};
use crate::engine::config::SipTrunk;
use crate::sip::session_timer::{Due, SessionTimer, Settings, after_glare};

#[derive(Clone, Debug)]
pub(super) struct Session {
    timer: SessionTimer,
    /// Where both clocks show the same.
    start: Instant,
    /// Of the brain's clock, against ours.
    pace: f64,
    is_call_id_ours: bool,
    takes_updates: bool,
    /// An UPDATE was refused as such, whatever is said of them.
    refuses_updates: bool,
}

impl Session {
    /// `is_call_id_ours`: we placed the call.
    pub(super) fn new(settings: &SipTrunk, timers: Timers, is_call_id_ours: bool) -> Self {
        let wanted = Settings { expires_s: settings.session_expires.map(seconds), min_se_s: seconds(settings.min_se) };
        let pace = T1.as_secs_f64() / timers.t1.as_secs_f64().max(f64::EPSILON);
        Self {
            timer: SessionTimer::new(wanted),
            start: Instant::now(),
            pace,
            is_call_id_ours,
            takes_updates: false,
            refuses_updates: false,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.start.elapsed().mul_f64(self.pace)
    }

    /// `Session-Expires` and `Min-SE` of a request of ours.
    pub(super) fn request(&self) -> Option<(String, String)> {
        self.timer.request()
    }

    /// Whether an UPDATE refreshes it. Otherwise it is a re-INVITE with our description.
    pub(super) fn takes_updates(&self) -> bool {
        self.takes_updates && !self.refuses_updates
    }

    pub(super) fn note_no_updates(&mut self) {
        self.refuses_updates = true;
    }

    /// The 2xx to our INVITE, or to a refresh.
    pub(super) fn handle_answer(&mut self, terms: &Terms) {
        self.takes_updates |= terms.takes_updates;
        self.timer.handle_answer(terms.session_expires.as_deref(), self.now());
    }

    /// A 422: whether to ask again.
    pub(super) fn handle_too_small(&mut self, terms: &Terms) -> bool {
        terms.min_se.as_deref().is_some_and(|least| self.timer.handle_too_small(least))
    }

    /// The far side's re-INVITE or UPDATE: the `Session-Expires` of our 200, or the `Min-SE` of our 422.
    pub(super) fn handle_request(&mut self, terms: &Terms) -> Result<Option<String>, u32> {
        self.takes_updates |= terms.takes_updates;
        let Terms { session_expires, min_se, supports_timer, .. } = terms;
        let answer =
            self.timer.handle_request(session_expires.as_deref(), min_se.as_deref(), *supports_timer, self.now());
        answer.map_err(|too_small| too_small.min_se_s)
    }

    pub(super) fn handle_refresh_failed(&mut self, code: Option<u16>) -> Option<Due> {
        self.timer.handle_refresh_failed(code, after_glare(self.is_call_id_ours, chance()), self.now())
    }

    /// Waits until [`Session::handle_timeout`] has something to say; for ever where no session runs out.
    pub(super) async fn due(&self) {
        let Some(at) = self.timer.poll_timeout() else { return std::future::pending().await };
        let wait = at.saturating_duration_since(self.start).div_f64(self.pace);
        tokio::time::sleep_until((self.start + wait).into()).await;
    }

    pub(super) fn handle_timeout(&mut self) -> Option<Due> {
        self.timer.handle_timeout(self.now())
    }
}

pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

pub(super) fn chance() -> u32 {
    let mut bytes = [0; 4];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    u32::from_le_bytes(bytes)
}
