//! Who a trunk's far side is: every address that its hosts have, told to the [`Gate`] at once where it is written as one, and as
//! often as a name may change where it is a name. One task per trunk, on the control thread, ended with its trunk.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stack::Stack;
use super::{Gate, PeerId};
use crate::engine::config::{Host, SipTrunk};

/// Names of carriers change within minutes; whoever is called meanwhile is looked up by the call.
const AGAIN: Duration = Duration::from_secs(60);
/// Not more often, whatever a name server says.
const NOT_BEFORE: Duration = Duration::from_secs(5);

pub(super) struct Peers {
    pub(super) id: PeerId,
    gate: Arc<Gate>,
    names: Vec<Host>,
}

impl Peers {
    /// The addresses that are written are known from here on.
    pub(super) fn new(settings: &SipTrunk, gate: Arc<Gate>) -> Self {
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for host in settings.places() {
            match host.name.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => names.push(host),
            }
        }
        let id = gate.enter(addresses);
        Self { id, gate, names }
    }

    /// What is found here the trunk's calls know too: they seldom wait for a name server.
    pub(super) async fn run(self, stack: Arc<Stack>) {
        let names = stack.names();
        while !self.names.is_empty() {
            for host in &self.names {
                let found = names.all(host).await;
                if found.is_empty() {
                    tracing::debug!(%host, "a trunk's host is not found");
                }
                self.gate.tell(self.id, found, Instant::now());
            }
            let (now, due) = (Instant::now(), self.names.iter().filter_map(|host| names.due(host)).min());
            let next = due.unwrap_or(now + AGAIN).clamp(now + NOT_BEFORE, now + AGAIN);
            tokio::time::sleep_until(next.into()).await;
        }
    }
}
