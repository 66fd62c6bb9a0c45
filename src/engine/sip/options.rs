//! Asks a trunk's far side whether it is there (OPTIONS, RFC 3261 §11), at once and then as often as the config says.
//!
//! One task per trunk, on the control thread, ended with its trunk. What it learns is noted in the trunk's
//! [`Health`]; a change is said in the log. It holds up no call: that is the breaker's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::dialog::random;
use super::stack::{Ask, Stack};
use crate::engine::config::{Host, SipTrunk};
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
        let peer = self.settings.peer();
        let port = peer.port.unwrap_or(self.settings.default_port());
        loop {
            // A connection that can't be made is silence at once, not after 64·T1.
            let code = match self.stack.reach(&peer.name, port).await {
                Ok(()) => {
                    let (answered, last) = self.stack.ask(&ask).await;
                    ask.number = last.wrapping_add(1);
                    answered.map(|reply| reply.code).ok()
                }
                Err(_) => None,
            };
            self.note(code);
            tokio::time::sleep(self.interval).await;
        }
    }

    fn ask(&self) -> Ask {
        let (settings, trunk_host) = (&self.settings, self.settings.trunk_host());
        let peer = settings.peer();
        let hop = Host { port: Some(peer.port.unwrap_or(settings.default_port())), ..peer.clone() };
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
            headers,
            credentials: settings.credentials.clone(),
        }
    }

    /// `None`: nobody answered.
    fn note(&self, code: Option<u16>) {
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
