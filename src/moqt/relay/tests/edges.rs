//! Several relays: each session is between a user and a core, or between two cores, one of them the other's edge.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::world::{May, audio, header, namespace, object, subscribe, token, uplink};
use crate::moqt::message::{PublishOk, SubscribeOk, Token, UpdateOk};
use crate::moqt::relay::{Core, Gate, Limits, Rights, Sessions, Upstream};
use crate::moqt::session::tests::pair::{Conditions, Pair, config};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Event, FullTrackName, PublishDoneCode, RequestErrorCode, Session, TrackNamespace};

/// Longer than the relays' own timers for what is asked and never answered.
const HELD: Duration = Duration::from_secs(20);

/// Tokens by their value.
struct Tokens(HashMap<Bytes, May>);

impl Gate for Tokens {
    fn rights(&mut self, token: &Token, _: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode> {
        let may = self.0.get(&token.value).ok_or(RequestErrorCode::MalformedAuthToken)?;
        Ok(Arc::new(may.clone()))
    }
}

/// One session; its key is twice its place, and one more at its client's core.
pub(super) struct Link {
    pub(super) pair: Pair,
    server: usize,
    /// `None`: a user's.
    client: Option<usize>,
    alive: bool,
    asked: Vec<RequestId>,
    pub(super) heard: Vec<Event>,
    /// Offered by PUBLISH, and taken.
    pub(super) taken: Vec<(RequestId, FullTrackName)>,
}

struct Lent<'a>(&'a mut [Link]);

impl Sessions for Lent<'_> {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        let link = self.0.get_mut(key as usize / 2).filter(|link| link.alive)?;
        Some(if key.is_multiple_of(2) { &mut link.pair.server } else { &mut link.pair.client })
    }
}

pub(super) struct Net {
    pub(super) cores: Vec<Core>,
    pub(super) links: Vec<Link>,
    now: Instant,
    seed: u64,
}

impl Net {
    fn new(cores: usize) -> Self {
        let core = |_| {
            let lease = |epoch| May::lease("audio", "bridge", epoch);
            let tokens = [("old", lease(1)), ("new", lease(2))];
            let tokens = tokens.map(|(value, may)| (Bytes::from_static(value.as_bytes()), may));
            Core::new(Box::new(Tokens(tokens.into_iter().collect())))
        };
        Self { cores: (0..cores).map(core).collect(), links: Vec::new(), now: Instant::now(), seed: 0 }
    }

    /// Core 0 is in charge of everything; the others are its edges.
    pub(super) fn star(cores: usize, sister: bool) -> Self {
        let mut net = Self::new(cores);
        for edge in 1..cores {
            net.edge(edge, 0, sister);
        }
        net
    }

    /// Shards: each is everybody's edge, and core n in charge of call n.
    pub(super) fn mesh(cores: usize) -> Self {
        let mut net = Self::new(cores);
        for (from, to) in (0..cores).flat_map(|from| (0..cores).map(move |to| (from, to))).filter(|(a, b)| a != b) {
            let own = format!("CA{to}");
            let scope =
                move |namespace: &TrackNamespace| namespace.fields().get(1).is_none_or(|call| call == own.as_bytes());
            net.way(from, to, Upstream { scope: Arc::new(scope), sister: true });
        }
        net
    }

    fn link(&mut self, server: usize, client: Option<usize>) -> usize {
        self.seed += 1;
        let conditions = Conditions { seed: self.seed, ..Conditions::default() };
        let pair = Pair::with(conditions, config(Role::Client), config(Role::Server), self.now);
        self.links.push(Link {
            pair,
            server,
            client,
            alive: true,
            asked: Vec::new(),
            heard: Vec::new(),
            taken: Vec::new(),
        });
        self.links.len() - 1
    }

    pub(super) fn edge(&mut self, edge: usize, origin: usize, sister: bool) -> usize {
        self.way(edge, origin, Upstream { scope: Arc::new(|_: &TrackNamespace| true), sister })
    }

    fn way(&mut self, edge: usize, origin: usize, upstream: Upstream) -> usize {
        let link = self.link(origin, Some(edge));
        let (down, up) = (2 * link as u64, 2 * link as u64 + 1);
        match upstream.sister {
            true => self.cores[origin].insert_edge(down, self.now),
            false => self.cores[origin].insert(down, vec![Arc::new(May::everything())], Limits::default(), self.now),
        }
        self.cores[edge].insert_uplink(&mut Lent(&mut self.links), up, upstream, self.now);
        self.settle();
        link
    }

    pub(super) fn user(&mut self, core: usize) -> usize {
        let link = self.link(core, None);
        self.cores[core].insert(2 * link as u64, vec![Arc::new(May::everything())], Limits::default(), self.now);
        self.settle();
        link
    }

    /// A user without rights of its own.
    pub(super) fn nobody(&mut self, core: usize) -> usize {
        let link = self.link(core, None);
        self.cores[core].insert(2 * link as u64, vec![], Limits::default(), self.now);
        self.settle();
        link
    }

    pub(super) fn publisher(&mut self, core: usize) -> usize {
        let user = self.user(core);
        self.announce(user, vec![]);
        user
    }

    pub(super) fn announce(&mut self, user: usize, tokens: Vec<Token>) -> RequestId {
        let request = self.links[user].pair.client.publish_namespace(uplink(), tokens);
        self.settle();
        request
    }

    pub(super) fn subscribe(&mut self, user: usize, hold: Option<Duration>) -> RequestId {
        let request = self.links[user].pair.client.subscribe(subscribe(audio(), hold));
        self.settle();
        request
    }

    /// A group of one object, on each subscription that was asked for.
    pub(super) fn say(&mut self, user: usize, group: u64) {
        for request in self.links[user].asked.clone() {
            let session = &mut self.links[user].pair.client;
            if let Some(subgroup) = session.open_subgroup(request, &header(group)) {
                session.send_object(subgroup, &object(group, 0));
                session.finish_subgroup(subgroup);
            }
        }
        self.settle();
    }

    fn turn(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.links.len() {
                self.links[at].pair.pump();
                while let Some(event) = self.links[at].pair.server_events.pop_front() {
                    quiet = false;
                    let core = self.links[at].server;
                    self.cores[core].handle_event(&mut Lent(&mut self.links), 2 * at as u64, event, self.now);
                }
                while let Some(event) = self.links[at].pair.client_events.pop_front() {
                    quiet = false;
                    match self.links[at].client {
                        Some(core) => {
                            let key = 2 * at as u64 + 1;
                            self.cores[core].handle_event(&mut Lent(&mut self.links), key, event, self.now);
                        }
                        None => self.links[at].listen(event),
                    }
                }
                self.links[at].pair.pump();
            }
            if quiet {
                return;
            }
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.turn();
        loop {
            let pairs = self.links.iter().filter(|link| link.alive).filter_map(|link| link.pair.next_event());
            let cores = self.cores.iter().filter_map(Core::poll_timeout);
            let Some(at) = pairs.chain(cores).min().filter(|at| *at <= until) else { break };
            self.advance(at);
        }
        self.advance(until);
    }

    fn advance(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for link in self.links.iter_mut().filter(|link| link.alive) {
            link.pair.advance(self.now);
        }
        self.turn();
        for core in &mut self.cores {
            core.handle_timeout(&mut Lent(&mut self.links), self.now);
        }
        self.turn();
    }

    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_millis(600));
    }

    pub(super) fn kill(&mut self, link: usize) {
        self.links[link].alive = false;
        let (server, client) = (self.links[link].server, self.links[link].client);
        self.cores[server].handle_down(&mut Lent(&mut self.links), 2 * link as u64);
        if let Some(client) = client {
            self.cores[client].handle_down(&mut Lent(&mut self.links), 2 * link as u64 + 1);
        }
        self.settle();
    }

    /// Groups heard, in order.
    pub(super) fn groups(&self, user: usize) -> Vec<u64> {
        let heard = self.links[user].heard.iter().filter_map(|event| match event {
            Event::Object { object, .. } => Some(object.group),
            _ => None,
        });
        heard.collect()
    }

    fn answer(&self, user: usize, request: RequestId) -> Option<Result<(), u64>> {
        self.links[user].heard.iter().find_map(|event| match event {
            Event::SubscribeOk { request: of, .. } | Event::RequestOk { request: of } if *of == request => Some(Ok(())),
            Event::RequestError { request: of, error } if *of == request => Some(Err(error.code)),
            _ => None,
        })
    }

    pub(super) fn asked(&self, user: usize) -> &[RequestId] {
        &self.links[user].asked
    }

    pub(super) fn done(&self, user: usize) -> Option<u64> {
        self.links[user].heard.iter().find_map(|event| match event {
            Event::PublishDone { done, .. } => Some(done.code),
            _ => None,
        })
    }

    /// Nothing is left of any track anywhere.
    pub(super) fn assert_clean(&self) {
        for (at, core) in self.cores.iter().enumerate() {
            let counters = core.counters();
            let left = (counters.tracks, counters.subscriptions, counters.held, counters.namespaces);
            assert_eq!(left, (0, 0, 0, 0), "core {at}");
        }
    }
}

impl Link {
    fn listen(&mut self, event: Event) {
        match event {
            Event::Subscribe { request, .. } => {
                self.asked.push(request);
                self.pair.client.accept_subscribe(request, SubscribeOk::default());
            }
            Event::Update { request, .. } => self.pair.client.accept_update(request, UpdateOk::default()),
            Event::Cancelled { request } => {
                self.asked.retain(|asked| *asked != request);
                self.heard.push(Event::Cancelled { request });
            }
            Event::Publish { request, publish } => {
                self.taken.push((request, publish.track));
                self.pair
                    .client
                    .accept_publish(request, PublishOk { forward: true, priority: 128, filter: None, expires: None });
            }
            event => self.heard.push(event),
        }
    }
}

#[test]
fn a_track_crosses_in_every_direction_and_once_for_many() {
    for sister in [true, false] {
        for (speaks, hears) in [(0, 1), (1, 0), (1, 2), (1, 1), (0, 0)] {
            let mut net = Net::star(3, sister);
            let publisher = net.publisher(speaks);
            let users = [net.user(hears), net.user(hears)];
            for user in users {
                let request = net.subscribe(user, None);
                assert_eq!(net.answer(user, request), Some(Ok(())), "{speaks} to {hears}, sister {sister}");
            }
            assert_eq!(net.links[publisher].asked.len(), 1, "{speaks} to {hears}: asked once");
            (1..4).for_each(|group| net.say(publisher, group));
            for user in users {
                assert_eq!(net.groups(user), [1, 2, 3], "{speaks} to {hears}, sister {sister}");
            }
            let duplicates: u64 = net.cores.iter().map(|core| core.counters().duplicates).sum();
            assert_eq!(duplicates, 0, "{speaks} to {hears}: nothing came back");
            net.kill(publisher);
            for user in users {
                assert_eq!(net.done(user), Some(PublishDoneCode::InternalError as u64));
            }
            net.assert_clean();
        }
    }
}

#[test]
fn a_subscriber_may_come_first_wherever_the_publisher_comes() {
    for sister in [true, false] {
        for (speaks, hears) in [(0, 1), (1, 0), (1, 2), (1, 1)] {
            let mut net = Net::star(3, sister);
            let user = net.user(hears);
            let request = net.subscribe(user, Some(HELD));
            assert_eq!(net.answer(user, request), None);
            let publisher = net.publisher(speaks);
            assert_eq!(net.answer(user, request), Some(Ok(())), "{speaks} to {hears}, sister {sister}");
            net.say(publisher, 7);
            assert_eq!(net.groups(user), [7]);
            net.kill(publisher);
            assert!(net.done(user).is_some(), "{speaks} to {hears}, sister {sister}");
            net.assert_clean();
        }
        let mut net = Net::star(2, sister);
        let user = net.user(1);
        let request = net.subscribe(user, None);
        assert_eq!(net.answer(user, request), Some(Err(RequestErrorCode::DoesNotExist as u64)));
        let request = net.subscribe(user, Some(HELD));
        net.run_for(HELD);
        assert_eq!(net.answer(user, request), Some(Err(RequestErrorCode::Timeout as u64)));
        net.run_for(HELD);
        net.assert_clean();
    }
}

/// Publishers and subscribers on both sides: neither relay may keep the other's subscription alive.
#[test]
fn what_only_the_relays_want_of_each_other_ends() {
    for first in [0, 1] {
        let mut net = Net::star(2, true);
        let publishers = [net.publisher(0), net.publisher(1)];
        let users = [net.user(0), net.user(1)];
        let requests = users.map(|user| net.subscribe(user, None));
        for (user, request) in users.into_iter().zip(requests) {
            assert_eq!(net.answer(user, request), Some(Ok(())));
        }
        net.say(publishers[0], 1);
        net.say(publishers[1], 2);
        assert_eq!((net.groups(users[0]), net.groups(users[1])), (vec![1, 2], vec![1, 2]), "both are heard everywhere");
        net.kill(publishers[first]);
        assert_eq!((net.done(users[0]), net.done(users[1])), (None, None), "the other goes on");
        net.say(publishers[1 - first], 3);
        assert_eq!((net.groups(users[0]).last(), net.groups(users[1]).last()), (Some(&3), Some(&3)));
        net.kill(publishers[1 - first]);
        for user in users {
            assert_eq!(net.done(user), Some(PublishDoneCode::InternalError as u64));
        }
        net.assert_clean();
    }
    let mut net = Net::star(2, true);
    let publishers = [net.publisher(0), net.publisher(1)];
    let users = [net.user(0), net.user(1)];
    for user in users {
        net.subscribe(user, None);
    }
    for user in users {
        net.kill(user);
    }
    for publisher in publishers {
        assert!(net.links[publisher].asked.is_empty(), "nobody listens any more");
        net.kill(publisher);
    }
    net.assert_clean();
}

#[test]
fn an_uplink_that_comes_back_is_told_and_asked_again() {
    let mut net = Net::new(2);
    let link = net.edge(1, 0, false);
    let (publisher, user) = (net.publisher(0), net.user(1));
    net.subscribe(user, None);
    let own = net.publisher(1);
    net.say(publisher, 1);
    net.kill(link);
    assert_eq!(net.groups(user), [1]);
    // The one of the same relay was asked too when it came, so nobody is cut off.
    net.say(own, 2);
    assert_eq!(net.groups(user), [1, 2]);
    net.kill(own);
    assert!(net.done(user).is_some());
    let again = net.subscribe(user, Some(HELD));
    assert_eq!(net.answer(user, again), None);
    net.edge(1, 0, false);
    assert_eq!(net.answer(user, again), Some(Ok(())));
    net.say(publisher, 3);
    assert_eq!(net.groups(user), [1, 2, 3]);
}

#[test]
fn a_newer_epoch_at_one_relay_silences_the_older_at_another() {
    for (old, new) in [(1, 0), (0, 1), (1, 2)] {
        let mut net = Net::star(3, true);
        let (ghost, speaker, user) = (net.nobody(old), net.nobody(new), net.user(0));
        net.announce(ghost, vec![token("old")]);
        net.subscribe(user, None);
        net.say(ghost, 1);
        net.announce(speaker, vec![token("new")]);
        assert!(net.links[ghost].asked.is_empty(), "{old} to {new}: the ghost is not asked any more");
        let late = net.nobody(old);
        let refused = net.announce(late, vec![token("old")]);
        assert_eq!(net.answer(late, refused), Some(Err(RequestErrorCode::Unauthorized as u64)), "{old} to {new}");
        net.say(speaker, 2);
        net.say(ghost, 3);
        assert_eq!(net.groups(user), [1, 2], "{old} to {new}");
    }
}

#[test]
fn namespaces_are_told_across_but_not_back() {
    for sister in [true, false] {
        let mut net = Net::star(3, sister);
        let listener = net.user(2);
        net.links[listener].pair.client.subscribe_namespace(namespace(&["voice"]), vec![]);
        net.settle();
        let publisher = net.publisher(1);
        let told = |net: &Net| {
            let told = net.links[listener].heard.iter().map(|event| match event {
                Event::Namespace { .. } => 1,
                Event::NamespaceDone { .. } => -1,
                _ => 0,
            });
            told.sum::<i32>()
        };
        assert_eq!(told(&net), 1, "sister {sister}");
        let namespaces: Vec<_> = net.cores.iter().map(|core| core.counters().namespaces).collect();
        assert_eq!(namespaces, [1, 1, 1], "once everywhere");
        net.kill(publisher);
        assert_eq!(told(&net), 0, "sister {sister}");
    }
}

/// Seeded comings and goings; in the end everybody leaves and nothing may be left.
#[test]
fn whatever_comes_and_goes_leaves_nothing_behind() {
    for seed in 1..60_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut net = Net::star(3, seed % 2 == 0);
        let mut users: Vec<usize> = Vec::new();
        for step in 0..20 {
            let core = random(3) as usize;
            match random(4) {
                0 => users.push(net.publisher(core)),
                1 => {
                    let user = net.user(core);
                    net.subscribe(user, (random(2) == 0).then_some(HELD));
                    users.push(user);
                }
                2 if !users.is_empty() => {
                    let user = users.swap_remove(random(users.len() as u64) as usize);
                    net.kill(user);
                }
                _ => users.clone().into_iter().for_each(|user| net.say(user, step)),
            }
        }
        for user in users {
            let groups = net.groups(user);
            let once: std::collections::BTreeSet<_> = groups.iter().collect();
            assert_eq!(once.len(), groups.len(), "seed {seed}: {groups:?}");
            net.kill(user);
        }
        net.run_for(2 * HELD);
        net.assert_clean();
    }
}

#[test]
fn who_asks_again_at_once_hears_the_successor() {
    for sister in [true, false] {
        for (speaks, hears, then) in
            [(0, 1, 0), (1, 0, 1), (1, 2, 1), (1, 1, 1), (0, 1, 1), (1, 0, 0), (1, 2, 0), (1, 1, 0)]
        {
            let mut net = Net::star(3, sister);
            let (publisher, user) = (net.publisher(speaks), net.user(hears));
            net.subscribe(user, None);
            net.say(publisher, 1);
            net.kill(publisher);
            assert!(net.done(user).is_some());
            let again = net.subscribe(user, Some(HELD));
            assert_eq!(net.answer(user, again), None);
            let successor = net.publisher(then);
            let case = format!("{speaks} to {hears}, then {then}, sister {sister}");
            assert_eq!(net.answer(user, again), Some(Ok(())), "{case}");
            net.say(successor, 2);
            assert_eq!(net.groups(user), [1, 2], "{case}");
        }
    }
}

/// FORWARD as a publisher hears it, from subscribers at any relay.
#[test]
fn forward_follows_the_subscribers_of_all_relays() {
    for sister in [true, false] {
        for (speaks, hears) in [(0, 1), (1, 0), (1, 2), (1, 1)] {
            let mut net = Net::star(3, sister);
            let publisher = net.publisher(speaks);
            let users = [net.user(hears), net.user(0)];
            let requests = users.map(|user| net.subscribe(user, None));
            let wish = |net: &mut Net, at: usize, forward| {
                net.links[users[at]].pair.client.update_forward(requests[at], forward);
                net.settle();
            };
            let steered = |net: &Net| {
                let heard = net.links[publisher].heard.iter();
                let updates = heard.filter_map(|event| match event {
                    Event::Updated { forward, .. } => Some(*forward),
                    _ => None,
                });
                updates.collect::<Vec<_>>()
            };
            wish(&mut net, 0, false);
            assert!(steered(&net).is_empty(), "{speaks} to {hears}, sister {sister}");
            wish(&mut net, 1, false);
            assert_eq!(steered(&net), [false], "{speaks} to {hears}, sister {sister}");
            net.say(publisher, 1);
            wish(&mut net, 0, true);
            net.say(publisher, 2);
            assert_eq!(steered(&net), [false, true], "{speaks} to {hears}, sister {sister}");
            assert_eq!((net.groups(users[0]), net.groups(users[1])), (vec![2], vec![]));
        }
    }
}
