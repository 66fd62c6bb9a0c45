//! Registers a trunk at its registrar (RFC 3261 §10) where the config says so: one task per trunk, ended with its trunk.
//!
//! When to ask, refresh and back off is [`Registration`]'s; here are the requests. A registration that ends with the engine is
//! left to run out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::dialog::{random, seconds};
use super::stack::{Ask, Reply, Stack};
use crate::engine::config::{Host, SipTrunk};
use crate::sip::registration::{Registration, State};
use crate::sip::uri;

pub(super) struct Registrar {
    pub(super) settings: Arc<SipTrunk>,
    pub(super) stack: Arc<Stack>,
    /// Where it stands, for whoever looks.
    pub(super) shown: watch::Sender<State>,
}

impl Registrar {
    pub(super) async fn run(self) {
        let mut ask = self.ask();
        let seed = u64::from_str_radix(&random()[..16], 16).unwrap_or_default();
        let mut registration = Registration::new(self.settings.register_expires, seed, Instant::now());
        while let Some(due) = registration.poll_timeout() {
            tokio::time::sleep_until(due.into()).await;
            let Some(expires) = registration.handle_timeout(Instant::now()) else { continue };
            let before = is_registered(&registration);
            ask.headers.retain(|(name, _)| name != "Expires");
            ask.headers.push(("Expires".to_owned(), expires.to_string()));
            let (answered, last) = self.stack.ask(&ask).await;
            ask.number = last.wrapping_add(1);
            let code = answered.as_ref().map(|reply| reply.code).ok();
            match answered {
                Ok(reply) if reply.code < 300 => registration.handle_granted(self.granted(&reply), Instant::now()),
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
        let peer = settings.peer();
        let hop = Host { port: Some(peer.port.unwrap_or(settings.default_port())), ..peer.clone() };
        let name = settings.credentials.as_ref().map_or("", |credentials| &credentials.sip_username);
        let us = uri::at(name, &trunk_host);
        let mut headers = vec![("Contact".to_owned(), format!("<{}>", uri::at(name, &self.contact())))];
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
            headers,
            credentials: settings.credentials.clone(),
        }
    }

    fn contact(&self) -> String {
        let address = self.stack.address();
        if self.settings.transport == crate::engine::config::Transport::Tcp {
            return format!("{address};transport=tcp");
        }
        address.to_string()
    }

    /// What our binding was given: its own `expires`, or the header's (RFC 3261 §10.2.4). Others may be registered beside us.
    fn granted(&self, reply: &Reply) -> Option<Duration> {
        let address = self.stack.address().to_string();
        let bindings = reply.contacts.iter().flat_map(|header| header.split(','));
        let own = bindings.filter(|binding| binding.contains(&address)).find_map(|binding| {
            let parameters = binding.rsplit('>').next()?.split(';');
            parameters.filter_map(|parameter| parameter.trim().strip_prefix("expires=")).find_map(seconds)
        });
        own.or_else(|| reply.expires.as_deref().and_then(seconds))
    }
}

fn is_registered(registration: &Registration) -> bool {
    matches!(registration.state(Instant::now()), State::Registered { .. })
}
