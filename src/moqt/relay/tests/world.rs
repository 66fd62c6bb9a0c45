//! A relay with clients around it. Each client is the client of a [`Pair`] whose server is the relay's session with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::{Publish, PublishOk, RequestError, Subscribe, SubscribeOk, Token, UpdateOk};
use crate::moqt::relay::{Core, Gate, Lease, Limits, Rights, Sessions};
use crate::moqt::session::tests::pair::{Conditions, Pair, config};
use crate::moqt::session::{Config, RequestId, Role, SubgroupId};
use crate::moqt::{
    Event, FullTrackName, Object, PublishDoneCode, RequestErrorCode, Session, Status, SubgroupHeader, TrackNamespace,
};

pub(super) fn namespace(fields: &[&'static str]) -> TrackNamespace {
    TrackNamespace::new(fields.iter().copied()).unwrap()
}

pub(super) fn uplink() -> TrackNamespace {
    namespace(&["voice", "CA1", "uplink"])
}

pub(super) fn named(namespace: TrackNamespace, name: &'static str) -> FullTrackName {
    FullTrackName::new(namespace, name).unwrap()
}

pub(super) fn audio() -> FullTrackName {
    named(uplink(), "audio")
}

/// A SUBSCRIBE that is held for `hold`.
pub(super) fn subscribe(track: FullTrackName, hold: Option<Duration>) -> Subscribe {
    Subscribe { rendezvous_timeout: hold, ..Subscribe::new(track) }
}

pub(super) fn object(group: u64, id: u64) -> Object {
    Object { group, id, payload: Bytes::from(format!("{group}/{id}")), ..Object::default() }
}

pub(super) fn header(group: u64) -> SubgroupHeader {
    SubgroupHeader { group, first_object: true, ..SubgroupHeader::default() }
}

/// Rights under prefixes.
#[derive(Clone, Debug, Default)]
pub(super) struct May {
    pub(super) publish: Vec<TrackNamespace>,
    pub(super) subscribe: Vec<TrackNamespace>,
    pub(super) lease: Option<Lease>,
    pub(super) until: Option<Instant>,
    pub(super) identity: Option<&'static str>,
}

impl May {
    pub(super) fn everything() -> Self {
        let all = vec![TrackNamespace::default()];
        Self { publish: all.clone(), subscribe: all, ..Self::default() }
    }

    pub(super) fn lease(track: &'static str, holder: &str, epoch: u64) -> Self {
        let lease = Lease { track: Bytes::from_static(track.as_bytes()), holder: holder.into(), epoch };
        Self { publish: vec![uplink()], lease: Some(lease), ..Self::default() }
    }
}

impl Rights for May {
    fn may_publish(&self, namespace: &TrackNamespace) -> bool {
        self.publish.iter().any(|prefix| namespace.starts_with(prefix))
    }
    fn may_subscribe(&self, namespace: &TrackNamespace) -> bool {
        self.subscribe.iter().any(|prefix| namespace.starts_with(prefix))
    }
    fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
    fn expires(&self) -> Option<Instant> {
        self.until
    }
    fn identity(&self) -> Option<&str> {
        self.identity
    }
}

/// Tokens by their value; others are malformed.
struct Tokens(HashMap<Bytes, May>);

impl Gate for Tokens {
    fn rights(&mut self, token: &Token, now: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode> {
        match self.0.get(&token.value) {
            None => Err(RequestErrorCode::MalformedAuthToken),
            Some(may) if may.is_expired(now) => Err(RequestErrorCode::ExpiredAuthToken),
            Some(may) => Ok(Arc::new(may.clone())),
        }
    }
}

pub(super) fn token(value: &'static str) -> Token {
    Token { kind: 0, value: Bytes::from_static(value.as_bytes()) }
}

/// The pairs that live; a dead session is not lent.
struct Servers<'a>(&'a mut [Client]);

impl Sessions for Servers<'_> {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.0.get_mut(key as usize).filter(|client| client.alive).map(|client| &mut client.pair.server)
    }
}

pub(super) struct Client {
    pub(super) pair: Pair,
    alive: bool,
    /// Answers SUBSCRIBEs of the relay with this.
    pub(super) serves: Option<SubscribeOk>,
    /// Accepts PUBLISHes of the relay.
    pub(super) takes: bool,
    /// What the relay offered here, in order.
    pub(super) offered: Vec<(RequestId, Publish)>,
    /// What the relay subscribed to here, in order, answered or not.
    pub(super) asked: Vec<(RequestId, FullTrackName)>,
    /// The FORWARD that each of them came with.
    pub(super) told: Vec<bool>,
    /// Everything else that the client heard.
    pub(super) heard: Vec<Event>,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) clients: Vec<Client>,
    pub(super) now: Instant,
    pub(super) conditions: Conditions,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_tokens([])
    }

    pub(super) fn with_tokens<const N: usize>(tokens: [(&'static str, May); N]) -> Self {
        let tokens = tokens.map(|(value, may)| (Bytes::from_static(value.as_bytes()), may));
        Self {
            core: Core::new(Box::new(Tokens(tokens.into_iter().collect()))),
            clients: Vec::new(),
            now: Instant::now(),
            conditions: Conditions::default(),
        }
    }

    /// A client that may do everything.
    pub(super) fn client(&mut self) -> usize {
        self.client_that(May::everything(), Limits::default())
    }

    pub(super) fn client_that(&mut self, may: May, limits: Limits) -> usize {
        let key = self.clients.len();
        self.conditions.seed += 1;
        let of_draft = |role| Config { draft: self.conditions.draft, ..config(role) };
        let (client, server) = (of_draft(Role::Client), of_draft(Role::Server));
        let pair = Pair::with(self.conditions.clone(), client, server, self.now);
        self.clients.push(Client::new(pair));
        self.core.insert(key as u64, vec![Arc::new(may)], limits, self.now);
        self.settle();
        key
    }

    /// A client that announced the uplink and answers what it is asked for.
    pub(super) fn publisher(&mut self) -> usize {
        let key = self.client();
        self.clients[key].serves = Some(SubscribeOk::default());
        self.announce(key, uplink());
        key
    }

    pub(super) fn session(&mut self, key: usize) -> &mut Session {
        &mut self.clients[key].pair.client
    }

    pub(super) fn announce(&mut self, key: usize, namespace: TrackNamespace) -> RequestId {
        let request = self.session(key).publish_namespace(namespace, Vec::new());
        self.settle();
        request
    }

    pub(super) fn subscribe(&mut self, key: usize, hold: Option<Duration>) -> RequestId {
        let request = self.session(key).subscribe(subscribe(audio(), hold));
        self.settle();
        request
    }

    /// Events and bytes, until nobody has anything to say at this instant.
    fn turn(&mut self) {
        loop {
            let mut quiet = true;
            for key in 0..self.clients.len() {
                self.clients[key].pair.pump();
                while let Some(event) = self.clients[key].pair.server_events.pop_front() {
                    quiet = false;
                    self.core.handle_event(&mut Servers(&mut self.clients), key as u64, event, self.now);
                }
                self.clients[key].pair.pump();
                quiet &= self.clients[key].listen();
            }
            if quiet {
                return;
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let pairs = self.clients.iter().filter(|client| client.alive).filter_map(|client| client.pair.next_event());
        pairs.chain(self.core.poll_timeout()).min()
    }

    fn advance(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for client in self.clients.iter_mut().filter(|client| client.alive) {
            client.pair.advance(self.now);
        }
        self.turn();
        if self.core.poll_timeout().is_some_and(|at| at <= self.now) {
            self.core.handle_timeout(&mut Servers(&mut self.clients), self.now);
        }
        self.turn();
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.turn();
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.advance(at);
        }
        self.advance(until);
    }

    /// Long enough for every round trip of the conditions, far shorter than the relay's timers.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_millis(400));
    }

    /// The session's connection is gone.
    pub(super) fn kill(&mut self, key: usize) {
        self.clients[key].alive = false;
        self.core.handle_down(&mut Servers(&mut self.clients), key as u64);
        self.settle();
    }

    pub(super) fn revoke(&mut self, identity: &str) {
        self.core.revoke_identity(&mut Servers(&mut self.clients), identity, self.now);
        self.settle();
    }

    pub(super) fn drain(&mut self, uri: &str, timeout: Duration) {
        self.core.drain(&mut Servers(&mut self.clients), uri, timeout);
        self.settle();
    }

    /// Opens a group at a publisher on its first (only) subscription.
    pub(super) fn group(&mut self, key: usize, group: u64) -> SubgroupId {
        let (request, _) = self.clients[key].asked.last().cloned().unwrap();
        self.session(key).open_subgroup(request, &header(group)).unwrap()
    }

    pub(super) fn send(&mut self, key: usize, subgroup: SubgroupId, group: u64, ids: std::ops::Range<u64>) {
        for id in ids {
            self.session(key).send_object(subgroup, &object(group, id));
        }
        self.settle();
    }

    /// A whole group of three objects.
    pub(super) fn whole(&mut self, key: usize, group: u64) {
        let subgroup = self.group(key, group);
        self.send(key, subgroup, group, 0..3);
        self.session(key).finish_subgroup(subgroup);
        self.settle();
    }

    pub(super) fn objects(&self, key: usize) -> Vec<(u64, u64)> {
        let objects = self.clients[key].heard.iter().filter_map(|event| match event {
            Event::Object { object, .. } => Some((object.group, object.id)),
            _ => None,
        });
        objects.collect()
    }

    pub(super) fn refusal(&self, key: usize, request: RequestId) -> Option<RequestError> {
        self.clients[key].heard.iter().find_map(|event| match event {
            Event::RequestError { request: of, error } if *of == request => Some(error.clone()),
            _ => None,
        })
    }

    pub(super) fn refused(&self, key: usize, request: RequestId) -> Option<u64> {
        self.refusal(key, request).map(|error| error.code)
    }

    pub(super) fn is_answered(&self, key: usize, request: RequestId) -> bool {
        let ok = |event: &Event| matches!(event, Event::SubscribeOk { request: of, .. } | Event::RequestOk { request: of } if *of == request);
        self.clients[key].heard.iter().any(ok)
    }

    pub(super) fn done(&self, key: usize) -> Option<u64> {
        self.clients[key].heard.iter().find_map(|event| match event {
            Event::PublishDone { done, .. } => Some(done.code),
            _ => None,
        })
    }
}

pub(super) fn code(code: RequestErrorCode) -> Option<u64> {
    Some(code as u64)
}

pub(super) fn done(code: PublishDoneCode) -> Option<u64> {
    Some(code as u64)
}

pub(super) fn end_of_track(group: u64, id: u64) -> Object {
    Object { payload: Bytes::new(), status: Status::EndOfTrack, ..object(group, id) }
}

impl Client {
    fn new(pair: Pair) -> Self {
        Self {
            pair,
            alive: true,
            serves: None,
            takes: false,
            offered: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Takes what the client heard; `true`: nothing.
    fn listen(&mut self) -> bool {
        let mut quiet = true;
        while let Some(event) = self.pair.client_events.pop_front() {
            quiet = false;
            match event {
                Event::Subscribe { request, subscribe } => {
                    self.asked.push((request, subscribe.track));
                    self.told.push(subscribe.forward);
                    if let Some(ok) = self.serves.clone() {
                        self.pair.client.accept_subscribe(request, ok);
                    }
                }
                Event::Publish { request, publish } => {
                    self.offered.push((request, publish));
                    if self.takes {
                        self.pair.client.accept_publish(
                            request,
                            PublishOk { forward: true, priority: 128, filter: None, expires: None },
                        );
                    }
                }
                Event::Update { request, .. } => self.pair.client.accept_update(request, UpdateOk::default()),
                event => self.heard.push(event),
            }
        }
        quiet
    }
}
