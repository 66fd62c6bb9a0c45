//! A call before its INVITE: where it goes, and what is said of it. What becomes of it is `dialog`'s.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::FarSide;
use super::dialog::{Call, Order, noted};
use super::names::Draw;
use super::session::Session;
use super::stack::{Invite, Stack};
use crate::engine::config::{Host, SipTrunk};
use crate::engine::rtp::Talk;
use crate::engine::trunk::{Dial, Events, TrunkEvent, TrunkKind};
use crate::sip::health::Health;
use crate::sip::uri;

/// Letters of a Call-ID: not to be guessed, so that a stranger's BYE finds no call.
const CALL_ID_BYTES: usize = 16;

pub(super) struct Dialling {
    pub(super) dial: Dial,
    pub(super) settings: Arc<SipTrunk>,
    pub(super) stack: Arc<Stack>,
    pub(super) talk: Talk,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) events: Events,
    pub(super) far_side: FarSide,
}

impl Dialling {
    /// Ends when the wire is done with the call.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let hop = self.settings.hop();
        let reached = tokio::select! {
            reached = self.stack.reach(&hop, Draw::Anew) => reached,
            // Nothing was sent yet, so there is nothing to take back.
            _ = orders.recv() => return,
        };
        let place = match reached {
            Ok(place) => place,
            Err(unreached) => {
                noted(&self.health).handle_silence();
                return self.unreachable(&unreached.error);
            }
        };
        let body = match self.talk.offer() {
            Ok(body) => body,
            Err(refused) => return self.unreachable(&refused.to_string()),
        };
        let session = Session::new(&self.settings, self.stack.timers(), true);
        let invite = self.invite(body, &session, &hop, place);
        match self.stack.invite(invite.clone()) {
            Ok(begun) => {
                let sip_call_id = invite.call_id.clone();
                let call = Call::new(self, session, invite, begun);
                call.tell(TrunkKind::Placed { sip_call_id });
                call.run(orders).await;
            }
            // Of our own: the far side has no part in it.
            Err(error) => self.unreachable(&error),
        }
    }

    fn unreachable(self, error: &str) {
        tracing::info!(sid = self.dial.sid, error, "a call can't be placed");
        let _ = self
            .events
            .send(TrunkEvent { sid: self.dial.sid, kind: TrunkKind::Unreachable { reason: error.to_owned() } });
    }

    fn invite(&self, body: String, session: &Session, hop: &Host, place: SocketAddr) -> Invite {
        let (settings, trunk_host) = (&*self.settings, self.settings.trunk_host());
        let to = settings.number_template.fill(&self.dial.to, &trunk_host);
        let is_there = trunk_host == settings.peer().to_string() && uri::host_of(&to).as_deref() == Some(&*hop.name);
        let name = if self.far_side.is_named_by_sid { self.dial.sid.clone() } else { random() };
        Invite {
            call_id: format!("{name}@{}", self.stack.address().ip()),
            route: (!is_there).then(|| format!("sip:{hop};lr")),
            place: Some(place),
            from: uri::at(&self.dial.from, &trunk_host),
            to,
            caller_name: self.dial.carried.caller_name.clone(),
            headers: self.dial.carried.headers.clone().into_iter().collect(),
            timer: session.request(),
            body,
            credentials: settings.credentials.clone(),
        }
    }
}

pub(super) fn random() -> String {
    let mut bytes = [0; CALL_ID_BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
