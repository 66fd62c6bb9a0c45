//! Asks a trunk's far side whether it is there (OPTIONS, RFC 3261 §11), at once and then as often as the config says.
//!
//! One task per trunk, on the control thread, ended with its trunk. What it learns is noted in the trunk's
//! [`Health`]; a change is said in the log. It holds up no call: that is the breaker's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::dial::random;
use super::names::Draw;
use super::stack::{Ask, Challenges, Failure, Reply, Stack};
use crate::engine::config::SipTrunk;
use crate::sip::health::Health;

/// Who asks: no number, since nobody is called.
const US: &str = "clutchcall";

pub(super) struct Keepalive {
    pub(super) settings: Arc<SipTrunk>,
    pub(super) stack: Arc<Stack>,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) interval: Duration,
}

impl Keepalive {
    pub(super) async fn run(self) {
        let mut ask = self.ask();
        loop {
            let answered = self.once(&mut ask).await;
            self.note(answered.map(|reply| reply.code).ok());
            tokio::time::sleep(self.interval).await;
        }
    }

    /// The error is why nobody answered.
    pub(super) async fn once(&self, ask: &mut Ask) -> Result<Reply, String> {
        let answered = self.stack.ask(&self.settings.hop(), Draw::Anew, ask).await;
        answered.map_err(|failure| match failure {
            Failure::Network(error) | Failure::Local(error) => error,
            Failure::Timeout | Failure::Cancelled => "nobody answered".to_owned(),
        })
    }

    pub(super) fn ask(&self) -> Ask {
        let (settings, trunk_host) = (&self.settings, self.settings.trunk_host());
        let (peer, hop) = (settings.peer(), settings.hop());
        let mut headers = vec![("Accept".to_owned(), "application/sdp".to_owned())];
        if trunk_host != peer.to_string() {
            headers.push(("Route".to_owned(), format!("<sip:{hop};lr>")));
        }
        Ask {
            method: "OPTIONS",
            uri: format!("sip:{trunk_host}"),
            from: format!("sip:{US}@{trunk_host}"),
            to: format!("sip:{trunk_host}"),
            call_id: format!("{}@{}", random(), self.stack.address().ip()),
            number: 1,
            place: None,
            headers,
            credentials: settings.credentials.clone(),
            challenges: Challenges::of(settings.credentials.as_ref()),
        }
    }

    /// `None`: nobody answered.
    pub(super) fn note(&self, code: Option<u16>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = health.state(now);
        match code {
            Some(code) => health.handle_options(code),
            None => health.handle_silence(),
        }
        let after = health.state(now);
        if after != before {
            let far_side = self.settings.peer().to_string();
            tracing::info!(far_side, code, "a SIP trunk is {} (it was {})", after.as_str(), before.as_str());
        }
    }
}
