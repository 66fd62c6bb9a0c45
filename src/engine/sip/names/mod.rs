//! What the host of a far side leads to: [`Names`], one for each stack.
//!
//! | File | Holds |
//! |---|---|
//! | `servers` | [`Servers`]: which name servers are asked for SRV records |
//! | `ask` | one question to them |
//! | `failed` | the places of a host that nobody answered at lately |
//!
//! A name without a port has SRV records or none (RFC 3263 §4.2); the hosts of these, and names with a port, are looked up by the machine's
//! own resolver, which knows `/etc/hosts` too. Of all places the first is taken that our socket can speak to and that did not fail lately.
//!
//! Each name is asked for by one task at a time, and each question is bounded in time. When nobody answers, what was known last holds, and
//! while that goes on one request in half a minute waits for the next question. Names are bounded in number. What an answer means, and for
//! how long, is `sip::srv`'s.

mod ask;
mod failed;
mod servers;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Transport;
use super::dial::random;
use crate::engine::config::Host;
use crate::sip::dice::Dice;
use crate::sip::srv::{self, Known, Record, Service};
use failed::Failed;
pub use servers::Servers;

/// The machine's resolver may need longer; then it is none.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
/// All hosts of a name together.
const PATIENCE: Duration = Duration::from_secs(6);
/// Names that are remembered beside those of trunks: far ends may name hosts of all kinds.
const MOST_NAMES: usize = 256;
/// Addresses of one host.
const MOST_ADDRESSES: usize = 64;

/// Which of several places of the same priority comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// By chance, anew: of a call.
    Anew,
    /// As it was drawn when the records came: requests that belong together go together.
    Kept,
}

pub(super) struct Names {
    transport: Transport,
    /// Our socket's; `None`: there is none yet.
    ours: Option<IpAddr>,
    servers: Servers,
    names: Mutex<HashMap<String, Arc<Name>>>,
    dice: Mutex<Dice>,
}

#[derive(Default)]
struct Name {
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What is remembered of a name.
#[derive(Default)]
struct State {
    /// Its records, in an order that was drawn once.
    service: Known<Service>,
    addresses: Known<Vec<IpAddr>>,
    /// Why there are no addresses.
    error: Option<String>,
    failed: Failed,
    /// Of a trunk: it is never forgotten.
    is_kept: bool,
}

impl Name {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    pub(super) fn new(transport: Transport, ours: Option<IpAddr>, servers: Servers) -> Self {
        let seed = u64::from_str_radix(&random()[..16], 16).unwrap_or_default();
        Self { transport, ours, servers, names: Mutex::default(), dice: Mutex::new(Dice::new(seed)) }
    }

    fn name(&self, name: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains_key(name) && names.len() >= MOST_NAMES {
            names.retain(|_, name| name.state().is_kept);
        }
        Arc::clone(names.entry(name.to_owned()).or_default())
    }

    /// Where a request to this host goes now.
    pub(super) async fn place(&self, host: &Host, draw: Draw) -> Result<SocketAddr, String> {
        if let Ok(ip) = host.name.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, host.port.unwrap_or(self.transport.port())));
        }
        let (begun, name) = (Instant::now(), self.name(&host.name));
        let (mut failed, mut foreign, mut error) = (None, None, None);
        for (target, port) in self.targets(host, draw).await? {
            let addresses = self.addresses(&target).await;
            error = addresses.as_ref().err().cloned().or(error);
            for place in addresses.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)) {
                match self.ours.is_none_or(|ours| ours.is_ipv4() == place.is_ipv4()) {
                    // What can't be said is said by the socket.
                    false => _ = foreign.get_or_insert(place),
                    true if name.state().failed.has(place, Instant::now()) => _ = failed.get_or_insert(place),
                    true => return Ok(place),
                }
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
        }
        // All failed lately: in their order again.
        failed.or(foreign).ok_or_else(|| error.unwrap_or_else(|| format!("{}: no address", host.name)))
    }

    /// The place is left out for a while: nobody answers there. `false`: it was left out before, or is all that there is.
    pub(super) fn fail(&self, host: &str, place: SocketAddr) -> bool {
        if host.parse::<IpAddr>().is_ok() {
            return false;
        }
        self.name(host).state().failed.enter(place, Instant::now())
    }

    /// Every address that may be this host's, of a trunk.
    pub(super) async fn all(&self, host: &Host) -> Vec<IpAddr> {
        // Calls come from the addresses of the name itself as well.
        let mut hosts = vec![host.name.clone()];
        if let Ok(targets) = self.targets(host, Draw::Kept).await {
            hosts.extend(targets.into_iter().map(|(target, _)| target));
        }
        hosts.dedup();
        let mut all = Vec::new();
        self.name(&host.name).state().is_kept = true;
        for host in hosts {
            all.extend(self.addresses(&host).await.unwrap_or_default());
        }
        all
    }

    /// When the records of this name are to be asked for again.
    pub(super) fn due(&self, host: &Host) -> Option<Instant> {
        self.name(&host.name).state().service.due()
    }

    /// Why nobody is to be called there, as far as is known: its service is not offered.
    pub(super) fn refusal(&self, host: &Host) -> Option<String> {
        let is_refused =
            host.port.is_none() && self.name(&host.name).state().service.value() == Some(&Service::NotOffered);
        is_refused.then(|| self.not_offered(&host.name))
    }

    fn not_offered(&self, name: &str) -> String {
        format!(
            "{name} offers no SIP over {} (its record {} leads to \".\"): choose another transport, or ask the carrier",
            self.transport.as_str(),
            self.question(name)
        )
    }

    fn question(&self, name: &str) -> String {
        format!("{}.{name}", self.transport.service())
    }

    /// The hosts that are behind a host, with their ports, in the order in which they are tried.
    async fn targets(&self, host: &Host, draw: Draw) -> Result<Vec<(String, u16)>, String> {
        let itself = |port| vec![(host.name.clone(), port)];
        if let Some(port) = host.port {
            return Ok(itself(port));
        }
        match self.service(&host.name).await {
            Some(Service::At(mut records)) => {
                if draw == Draw::Anew {
                    records = self.drawn(records);
                }
                Ok(records.into_iter().map(|record| (record.target, record.port)).collect())
            }
            Some(Service::NotOffered) => Err(self.not_offered(&host.name)),
            Some(Service::Unsaid) | None => Ok(itself(self.transport.port())),
        }
    }

    fn drawn(&self, records: Vec<Record>) -> Vec<Record> {
        srv::ordered(records, &mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the name says of our transport; `None`: nobody ever told.
    async fn service(&self, host: &str) -> Option<Service> {
        let name = self.name(host);
        if let Some(_asking) =
            name.turn(|state| state.service.is_due(Instant::now()), |state| state.service.is_silent()).await
        {
            let found = ask::ask(&self.servers.now().await, &self.question(host)).await;
            let now = Instant::now();
            match found {
                Some((Service::At(records), lifetime)) => {
                    let mut state = name.state();
                    // The same ones stay in their order, however the server turns them round.
                    let same = state.service.value().filter(|known| is_same(known, &records)).cloned();
                    let service = same.unwrap_or_else(|| Service::At(self.drawn(records)));
                    state.service.handle_answer(service, lifetime, now);
                }
                Some((service, lifetime)) => name.state().service.handle_answer(service, lifetime, now),
                None => name.state().service.handle_silence(now),
            }
        }
        name.state().service.value().cloned()
    }

    /// By the machine's resolver, which says nothing of lifetimes.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let name = self.name(host);
        if let Some(_asking) =
            name.turn(|state| state.addresses.is_due(Instant::now()), |state| state.addresses.is_silent()).await
        {
            let found = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host, 0))).await;
            let found = found.map_err(|_| "no answer".to_owned()).and_then(|found| found.map_err(|e| e.to_string()));
            let (mut state, now) = (name.state(), Instant::now());
            match found {
                Ok(found) => {
                    let found = found.map(|address| address.ip()).take(MOST_ADDRESSES).collect();
                    state.addresses.handle_answer(found, Duration::ZERO, now);
                }
                Err(error) => {
                    state.addresses.handle_silence(now);
                    state.error = Some(format!("{host}: {error}"));
                }
            }
        }
        let state = name.state();
        let unknown = || state.error.clone().unwrap_or_else(|| format!("{host}: no address"));
        state.addresses.value().cloned().ok_or_else(unknown)
    }
}

fn is_same(known: &Service, records: &[Record]) -> bool {
    let Service::At(known) = known else { return false };
    known.len() == records.len() && records.iter().all(|record| known.contains(record))
}

impl Name {
    /// Somebody's turn to ask; `None`: nothing is to be asked, or somebody asks who may be in vain once more.
    async fn turn(
        &self,
        is_due: impl Fn(&State) -> bool,
        is_silent: impl Fn(&State) -> bool,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if !is_due(&self.state()) {
            return None;
        }
        let asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if is_silent(&self.state()) => return None,
            Err(_) => self.asking.lock().await,
        };
        // It was asked while we waited.
        is_due(&self.state()).then_some(asking)
    }
}

#[cfg(test)]
mod tests;
