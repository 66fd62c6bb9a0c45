//! Who a trunk's far side is: every address that its hosts have, told to the [`Gate`] at once where it is written as one, and as
//! often as a name may change where it is a name. One task per trunk, on the control thread, ended with its trunk.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Gate, PeerId};
use crate::engine::config::SipTrunk;

/// Names of carriers change within minutes; whoever is called meanwhile is looked up by the call.
const AGAIN: Duration = Duration::from_secs(60);
/// A name server that needs longer is asked again.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Peers {
    pub(super) id: PeerId,
    gate: Arc<Gate>,
    names: Vec<String>,
}

impl Peers {
    /// The addresses that are written are known from here on.
    pub(super) fn new(settings: &SipTrunk, gate: Arc<Gate>) -> Self {
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for name in settings.host_names() {
            match name.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => names.push(name),
            }
        }
        let id = gate.enter(addresses);
        Self { id, gate, names }
    }

    pub(super) async fn run(self) {
        while !self.names.is_empty() {
            for name in &self.names {
                let found = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name.as_str(), 0))).await;
                match found {
                    Ok(Ok(found)) => self.gate.tell(self.id, found.map(|address| address.ip()), Instant::now()),
                    Ok(Err(error)) => tracing::debug!(name, %error, "a trunk's host is not found"),
                    Err(_) => tracing::debug!(name, "a trunk's host is not found in time"),
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
