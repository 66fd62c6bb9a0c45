//! [`SipTrunk`]: commands of the board to the tasks of its calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::dial::Dialling;
use super::dialog::Order;
use super::options::Keepalive;
use super::peers::Peers;
use super::probe::Question;
use super::reception::Hall;
use super::register::Registrar;
use super::ringing::Ringing;
use super::stack::{Reception, Transactions};
use super::{Endpoint, PeerId};
use crate::audio::Params;
use crate::engine::config;
use crate::engine::rtp::Talks;
use crate::engine::trunk::{Asker, Dial, Events, FarEnd, Keys, Probed, Trunk, TrunkEvent, TrunkKind};
use crate::sip::health::{self, Health};
use crate::sip::registration;

/// Questions of users at the same time; one more is not asked.
const MOST_QUESTIONS: usize = 8;
/// A far side that asks for more is tried again all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// What a caller is told when no ports are left for her audio, and when she may try again.
const NO_PORTS: u16 = 503;
const PORTS_LATER: Duration = Duration::from_secs(5);

/// What is known of a far side beyond a trunk's settings: that it is the phone of this machine.
#[derive(Clone, Copy)]
pub struct FarSide {
    /// A Call-ID is the call's sid. Elsewhere it is nothing that anybody could guess or know.
    pub is_named_by_sid: bool,
    /// Who is to be expected behind a number.
    pub far_end: fn(&str) -> FarEnd,
}

impl Default for FarSide {
    fn default() -> Self {
        Self { is_named_by_sid: false, far_end: |_| FarEnd::Phone }
    }
}

/// See the module's contract. Lives within a tokio runtime; dropping it ends its tasks without another word on the wire.
pub struct SipTrunk {
    endpoint: Endpoint,
    settings: Arc<config::SipTrunk>,
    talks: Talks,
    far_side: FarSide,
    /// The calls' tasks note what they are answered.
    health: Arc<Mutex<Health>>,
    events: Events,
    /// Who its far side is, to the gate.
    peer: PeerId,
    calls: HashMap<String, mpsc::UnboundedSender<Order>>,
    /// Where calls to us wait.
    hall: Option<Arc<Hall>>,
    /// Each gives the sid of its call.
    tasks: JoinSet<String>,
    registered: Option<Registered>,
    /// Questions of users that are not answered yet.
    questions: JoinSet<()>,
    /// What goes on outside of calls; ends with the trunk.
    _around: JoinSet<()>,
}

/// The task that keeps a binding, ended with its trunk at the latest.
struct Registered {
    /// Until it was told to take the binding back.
    end: Option<oneshot::Sender<()>>,
    /// Where it stands.
    seen: watch::Receiver<registration::State>,
    task: JoinHandle<()>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SipTrunk {
    pub fn new(endpoint: Endpoint, settings: config::SipTrunk, talks: Talks, events: Events) -> Self {
        let breaker = health::Settings {
            breaker_failures: settings.breaker_failures,
            breaker: settings.breaker,
            longest: LONGEST_RETRY_AFTER,
        };
        let (settings, health) = (Arc::new(settings), Arc::new(Mutex::new(Health::new(breaker))));
        let mut around = JoinSet::new();
        let peers = Peers::new(&settings, Arc::clone(endpoint.0.gate()));
        let peer = peers.id;
        around.spawn(peers.run(Arc::clone(&endpoint.0)));
        if let Some(interval) = settings.options_interval {
            let stack = Arc::clone(&endpoint.0);
            let (settings, health) = (Arc::clone(&settings), Arc::clone(&health));
            around.spawn(Keepalive { settings, stack, health, interval }.run());
        }
        let registered = settings.require_registration.then(|| {
            let (end, ending) = oneshot::channel();
            let (shown, seen) = watch::channel(registration::State::Pending);
            let (settings, stack) = (Arc::clone(&settings), Arc::clone(&endpoint.0));
            let task = tokio::spawn(Registrar { settings, stack, shown, ending }.run());
            Registered { end: Some(end), seen, task }
        });
        Self {
            endpoint,
            settings,
            talks,
            far_side: FarSide::default(),
            health,
            events,
            peer,
            calls: HashMap::new(),
            hall: None,
            tasks: JoinSet::new(),
            registered,
            questions: JoinSet::new(),
            _around: around,
        }
    }

    /// By this the gate knows its far side.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Calls of its far side are told under this name. What they become is decided elsewhere; whose they are is said here.
    pub fn receive_as(&mut self, trunk_id: &str, inbound: &config::Inbound) {
        let Endpoint(stack, desk) = &self.endpoint;
        stack.gate().allow(self.peer, inbound.acl.clone());
        stack.gate().welcome(self.peer, inbound.challenge.is_some());
        self.hall = Some(desk.hall((trunk_id, self.peer), &self.settings, &self.events, inbound));
        stack.receive_with(Arc::clone(desk) as Arc<dyn Reception>);
    }

    /// What its address has in memory of calls that live, or are over.
    pub fn transactions(&self) -> Transactions {
        self.endpoint.0.past().transactions()
    }

    /// Of a far side that is known better.
    pub fn with(mut self, far_side: FarSide) -> Self {
        self.far_side = far_side;
        self
    }

    fn health_now(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for SipTrunk {
    fn drop(&mut self) {
        self.endpoint.0.gate().leave(self.peer);
    }
}

impl Trunk for SipTrunk {
    fn dial(&mut self, dial: Dial, now: Instant) {
        self.dial_like(dial, None, now);
    }

    fn dial_like(&mut self, dial: Dial, first: Option<Params>, _now: Instant) {
        self.sweep();
        if self.calls.contains_key(&dial.sid) {
            return;
        }
        let talk = match self.talks.open_like(first.map(|first| first.codec)) {
            Ok(talk) => talk,
            Err(error) => {
                tracing::warn!(sid = dial.sid, error, "a call has no ports for its audio");
                let kind = TrunkKind::Unreachable { reason: error };
                let _ = self.events.send(TrunkEvent { sid: dial.sid, kind });
                return;
            }
        };
        let (sender, orders) = mpsc::unbounded_channel();
        let sid = dial.sid.clone();
        let dialling = Dialling {
            dial,
            settings: Arc::clone(&self.settings),
            stack: Arc::clone(&self.endpoint.0),
            talk,
            health: Arc::clone(&self.health),
            events: self.events.clone(),
            far_side: self.far_side,
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

    fn take_in(&mut self, key: u64, sid: &str, now: Instant) {
        self.sweep();
        let Some(hall) = &self.hall else { return };
        let talk = match self.talks.open() {
            Ok(talk) => talk,
            Err(error) => {
                tracing::warn!(sid, error, "a call that came in has no ports for its audio");
                hall.turn_away(key, NO_PORTS, Some(PORTS_LATER), now);
                let kind = TrunkKind::Unreachable { reason: error };
                let _ = self.events.send(TrunkEvent { sid: sid.to_owned(), kind });
                return;
            }
        };
        let Some(caller) = hall.take(key) else { return };
        let (sender, orders) = mpsc::unbounded_channel();
        let ringing = Ringing {
            sid: sid.to_owned(),
            caller,
            settings: Arc::clone(&self.settings),
            timers: self.endpoint.0.timers(),
            talk,
            health: Arc::clone(&self.health),
            events: self.events.clone(),
        };
        self.calls.insert(sid.to_owned(), sender);
        let sid = sid.to_owned();
        self.tasks.spawn(async move {
            ringing.run(orders).await;
            sid
        });
    }

    fn turn_away(&mut self, key: u64, code: u16, retry_after: Option<Duration>, now: Instant) {
        if let Some(hall) = &self.hall {
            hall.turn_away(key, code, retry_after, now);
        }
    }

    fn ring(&mut self, sid: &str, _now: Instant) {
        self.order(sid, Order::Ring);
    }

    fn answer(&mut self, sid: &str, _now: Instant) {
        self.order(sid, Order::Answer);
    }

    fn reject(&mut self, sid: &str, code: u16, _now: Instant) {
        self.order(sid, Order::Reject { code });
    }

    fn press(&mut self, sid: &str, keys: Keys, asker: Asker, _now: Instant) {
        match self.calls.get(sid) {
            // Whoever asked is told by the end of the order that nobody took.
            Some(call) => drop(call.send(Order::Press(keys, asker))),
            None => asker.tell(Err("the call has ended".to_owned())),
        }
    }

    fn close(&mut self) {
        if let Some(end) = self.registered.as_mut().and_then(|registered| registered.end.take()) {
            // It may have ended by itself.
            let _ = end.send(());
        }
    }

    fn lines(&mut self) -> usize {
        self.sweep();
        let is_unregistering = |registered: &Registered| registered.end.is_none() && !registered.task.is_finished();
        self.calls.len() + usize::from(self.registered.as_ref().is_some_and(is_unregistering))
    }

    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        self.health_now().admit(now)
    }

    fn check_room(&self, now: Instant) -> Result<(), Duration> {
        self.talks.ports.check_room(now)
    }

    fn problem(&self) -> Option<String> {
        self.endpoint.0.names().refusal(&self.settings.hop())
    }

    fn health(&self, now: Instant) -> health::State {
        self.health_now().state(now)
    }

    fn probe(&mut self, probed: Probed) {
        while self.questions.try_join_next().is_some() {}
        let keepalive = Keepalive {
            settings: Arc::clone(&self.settings),
            stack: Arc::clone(&self.endpoint.0),
            health: Arc::clone(&self.health),
            interval: Duration::ZERO,
        };
        let question =
            Question { keepalive, registration: self.registered.as_ref().map(|registered| registered.seen.clone()) };
        if self.questions.len() >= MOST_QUESTIONS {
            return question.refuse(probed);
        }
        self.questions.spawn(question.run(probed));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}
