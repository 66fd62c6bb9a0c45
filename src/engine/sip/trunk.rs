//! [`SipTrunk`]: commands of the board to the tasks of its calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::dialog::{Dialling, Order};
use super::{Endpoint, MakeMedia, Peer};
use crate::engine::trunk::{Dial, Events, Trunk, TrunkEvent, TrunkKind};

/// See the module's contract. Lives within a tokio runtime; dropping it ends its tasks without another word on the wire.
pub struct SipTrunk {
    endpoint: Endpoint,
    peer: Arc<Peer>,
    media: Box<dyn MakeMedia>,
    events: Events,
    calls: HashMap<String, mpsc::UnboundedSender<Order>>,
    /// Each gives the sid of its call.
    tasks: JoinSet<String>,
}

impl SipTrunk {
    pub fn new(endpoint: Endpoint, peer: Peer, media: Box<dyn MakeMedia>, events: Events) -> Self {
        Self { endpoint, peer: Arc::new(peer), media, events, calls: HashMap::new(), tasks: JoinSet::new() }
    }

    fn sweep(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            match done {
                Ok(sid) => drop(self.calls.remove(&sid)),
                Err(error) => {
                    tracing::error!(%error, "a call's task ended by itself");
                    self.calls.retain(|_, orders| !orders.is_closed());
                }
            }
        }
    }

    fn order(&self, sid: &str, order: Order) {
        if let Some(call) = self.calls.get(sid) {
            // Its task may have ended meanwhile.
            let _ = call.send(order);
        }
    }
}

impl Trunk for SipTrunk {
    fn dial(&mut self, dial: Dial, _now: Instant) {
        self.sweep();
        if self.calls.contains_key(&dial.sid) {
            return;
        }
        let media = match self.media.make(&dial.sid) {
            Ok(media) => media,
            Err(error) => {
                tracing::warn!(sid = dial.sid, error, "a call has no media");
                let _ = self.events.send(TrunkEvent { sid: dial.sid, kind: TrunkKind::Unreachable });
                return;
            }
        };
        let (sender, orders) = mpsc::unbounded_channel();
        let sid = dial.sid.clone();
        let dialling = Dialling {
            dial,
            peer: Arc::clone(&self.peer),
            stack: Arc::clone(&self.endpoint.0),
            media,
            events: self.events.clone(),
        };
        self.calls.insert(sid.clone(), sender);
        self.tasks.spawn(async move {
            dialling.run(orders).await;
            sid
        });
    }

    fn cancel(&mut self, sid: &str, _now: Instant) {
        self.order(sid, Order::HangUp);
    }

    fn bye(&mut self, sid: &str, _now: Instant) {
        self.order(sid, Order::HangUp);
    }

    fn transfer(&mut self, sid: &str, to: &str, _now: Instant) {
        self.order(sid, Order::Transfer { to: to.to_owned() });
    }

    fn lines(&mut self) -> usize {
        self.sweep();
        self.calls.len()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}
