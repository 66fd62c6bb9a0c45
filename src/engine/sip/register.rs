//! Registers a trunk at its registrar (RFC 3261 §10) where the config says so: one task per trunk, ended with its trunk.
//!
//! When to ask, refresh and back off is [`Registration`]'s; here are the requests. At the end of the engine the binding is taken back
//! (§10.2.2), if anything was granted; a registrar that does not answer that in time has it run out.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::dial::random;
use super::dialog::seconds;
use super::names::Draw;
use super::stack::{Ask, Challenges, Stack};
use crate::engine::config::SipTrunk;
use crate::sip::registration::{self, Registration, State};
use crate::sip::uri;

/// More numbers than one request takes when it is challenged.
const MOST_CHALLENGED: u32 = 8;

pub(super) struct Registrar {
    pub(super) settings: Arc<SipTrunk>,
    pub(super) stack: Arc<Stack>,
    /// Where it stands, for whoever looks.
    pub(super) shown: watch::Sender<State>,
    /// The engine ends.
    pub(super) ending: oneshot::Receiver<()>,
}

impl Registrar {
    /// Ends when it is told to, and the binding is taken back.
    pub(super) async fn run(mut self) {
        // All of a binding at one place of the name, as long as that answers.
        let (mut ask, hop) = (self.ask(), self.settings.hop());
        let seed = u64::from_str_radix(&random()[..16], 16).unwrap_or_default();
        let mut registration = Registration::new(self.settings.register_expires, seed, Instant::now());
        while let Some(due) = registration.poll_timeout() {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                _ = &mut self.ending => return self.unregister(ask, is_registered(&registration)).await,
            }
            let Some(expires) = registration.handle_timeout(Instant::now()) else { continue };
            let before = is_registered(&registration);
            ask.headers.retain(|(name, _)| name != "Expires");
            ask.headers.push(("Expires".to_owned(), expires.to_string()));
            let answered = tokio::select! {
                answered = self.stack.ask(&hop, Draw::Kept, &mut ask) => answered,
                _ = &mut self.ending => {
                    // It may have been granted; what takes it back is behind it, and behind what a challenge made of it.
                    ask.number = ask.number.wrapping_add(MOST_CHALLENGED);
                    return self.unregister(ask, true).await;
                }
            };
            let code = answered.as_ref().map(|reply| reply.code).ok();
            match answered {
                Ok(reply) if reply.code < 300 => {
                    let expires = reply.expires.as_deref().and_then(seconds);
                    let granted = registration::granted(&reply.contacts, &self.binding(), expires);
                    registration.handle_granted(granted, Instant::now());
                }
                Ok(reply) => {
                    let of = |header: &Option<String>| header.as_deref().and_then(seconds);
                    let (least, later) = (of(&reply.min_expires), of(&reply.retry_after));
                    registration.handle_refused(reply.code, least, later, Instant::now());
                }
                Err(_) => registration.handle_silence(Instant::now()),
            }
            self.shown.send_replace(registration.state(Instant::now()));
            if before != is_registered(&registration) || code.is_none_or(|code| code >= 300) {
                let registrar = self.settings.trunk_host();
                tracing::info!(registrar, code, "a SIP trunk is registered: {}", is_registered(&registration));
            }
        }
    }

    fn ask(&self) -> Ask {
        let (settings, trunk_host) = (&self.settings, self.settings.trunk_host());
        let (peer, hop) = (settings.peer(), settings.hop());
        let name = settings.credentials.as_ref().map_or("", |credentials| &credentials.sip_username);
        let us = uri::at(name, &trunk_host);
        let mut headers = vec![("Contact".to_owned(), format!("<{}>", self.binding()))];
        if trunk_host != peer.to_string() {
            headers.push(("Route".to_owned(), format!("<sip:{hop};lr>")));
        }
        Ask {
            method: "REGISTER",
            uri: format!("sip:{trunk_host}"),
            from: us.clone(),
            to: us,
            call_id: format!("{}@{}", random(), self.stack.address().ip()),
            number: 1,
            place: None,
            headers,
            credentials: settings.credentials.clone(),
            challenges: Challenges::of(settings.credentials.as_ref()),
        }
    }

    async fn unregister(&self, mut ask: Ask, is_registered: bool) {
        if !is_registered {
            return;
        }
        ask.headers.retain(|(name, _)| name != "Expires");
        ask.headers.push(("Expires".to_owned(), "0".to_owned()));
        let code = self.stack.ask(&self.settings.hop(), Draw::Kept, &mut ask).await.map(|reply| reply.code).ok();
        tracing::info!(registrar = self.settings.trunk_host(), code, "a SIP trunk is unregistered");
    }

    /// Where we are called.
    fn binding(&self) -> String {
        let name = self.settings.credentials.as_ref().map_or("", |credentials| &credentials.sip_username);
        uri::at(name, &format!("{}{}", self.stack.address(), self.stack.transport().parameter()))
    }
}

fn is_registered(registration: &Registration) -> bool {
    matches!(registration.state(Instant::now()), State::Registered { .. })
}
