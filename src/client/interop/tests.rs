//! The cases in virtual time against the core of our relay, and against relays that do wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cases::{ALL, Heard, Who};
use super::hearing::{Hearing, Judgement};
use super::play::{End, Names, Play, Stage};
use super::speech::Speech;
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{Fetch, FetchOk, Location, RequestError, Token};
use crate::moqt::relay::{Core, Gate, Lease, Limits, Rights, Sessions};
use crate::moqt::session::tests::pair::{Conditions, Pair, config};
use crate::moqt::session::{Config, Role};
use crate::moqt::{Draft, Event, Object, RequestErrorCode, Session, TrackNamespace};

/// May it all, or nothing.
#[derive(Clone, Copy, Debug)]
struct May(bool);

impl Rights for May {
    fn may_publish(&self, _: &TrackNamespace) -> bool {
        self.0
    }
    fn may_subscribe(&self, _: &TrackNamespace) -> bool {
        self.0
    }
    fn lease(&self) -> Option<&Lease> {
        None
    }
    fn is_expired(&self, _: Instant) -> bool {
        false
    }
}

struct Nobody;

impl Gate for Nobody {
    fn rights(&mut self, _: &Token, _: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode> {
        Err(RequestErrorCode::MalformedAuthToken)
    }
}

/// The pairs of a case: the client of each is the case's, the server the relay's.
struct Wires {
    pairs: [Option<Pair>; Who::ALL.len()],
    dialled: Vec<Who>,
    conditions: Conditions,
    draft: Draft,
    now: Instant,
}

impl Stage for Wires {
    fn dial(&mut self, who: Who) {
        let [client, server] = [Role::Client, Role::Server].map(|role| Config { draft: self.draft, ..config(role) });
        let pair = Pair::with(self.conditions.clone(), client, server, self.now);
        self.pairs[who as usize] = Some(pair);
        self.dialled.push(who);
    }
    fn session(&mut self, who: Who) -> Option<&mut Session> {
        self.pairs[who as usize].as_mut().map(|pair| &mut pair.client)
    }
}

impl Sessions for Wires {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.pairs[key as usize].as_mut().map(|pair| &mut pair.server)
    }
}

/// What stands behind the sessions.
trait Behind {
    fn arrived(&mut self, wires: &mut Wires, who: Who);
    fn heard(&mut self, wires: &mut Wires, who: Who, event: Event);
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _: &mut Wires) {}
}

struct OurRelay {
    core: Core,
    may: bool,
}

impl Behind for OurRelay {
    fn arrived(&mut self, wires: &mut Wires, who: Who) {
        self.core.insert(who as u64, vec![Arc::new(May(self.may))], Limits::default(), wires.now);
    }
    fn heard(&mut self, wires: &mut Wires, who: Who, event: Event) {
        let now = wires.now;
        self.core.handle_event(wires, who as u64, event, now);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }
    fn handle_timeout(&mut self, wires: &mut Wires) {
        let now = wires.now;
        self.core.handle_timeout(wires, now);
    }
}

/// Hears everything and says no word.
struct Mute;

impl Behind for Mute {
    fn arrived(&mut self, _: &mut Wires, _: Who) {}
    fn heard(&mut self, _: &mut Wires, _: Who, _: Event) {}
}

/// Accepts whatever it is asked, and forwards nothing.
struct Yes;

impl Behind for Yes {
    fn arrived(&mut self, _: &mut Wires, _: Who) {}
    fn heard(&mut self, wires: &mut Wires, who: Who, event: Event) {
        let Some(session) = Sessions::session(wires, who as u64) else { return };
        match event {
            Event::Subscribe { request, .. } => session.accept_subscribe(request, Default::default()),
            Event::PublishNamespace { request, .. } | Event::SubscribeNamespace { request, .. } => {
                session.accept(request);
            }
            _ => {}
        }
    }
}

fn play(name: &str, behind: &mut impl Behind, conditions: Conditions) -> End {
    play_in(name, Draft::D18, behind, conditions)
}

fn play_in(name: &str, draft: Draft, behind: &mut impl Behind, conditions: Conditions) -> End {
    let case = ALL.iter().find(|case| case.name == name).expect("a case of ours");
    let names = Names::new(&TrackNamespace::default(), name, "77").expect("short");
    let now = Instant::now();
    let mut play = Play::new(case, names, Vec::new(), now);
    let mut wires = Wires { pairs: Default::default(), dialled: Vec::new(), conditions, draft, now };
    loop {
        let now = wires.now;
        play.handle_timeout(&mut wires, now);
        settle(&mut play, &mut wires, behind);
        if let Some(end) = play.end() {
            return end.clone();
        }
        let pairs = wires.pairs.iter().flatten().filter_map(Pair::next_event);
        let next = pairs.chain(play.poll_timeout()).chain(behind.poll_timeout()).min();
        wires.now = next.expect("a case has a limit").max(wires.now);
        for pair in wires.pairs.iter_mut().flatten() {
            pair.advance(wires.now);
        }
        if behind.poll_timeout().is_some_and(|at| at <= wires.now) {
            behind.handle_timeout(&mut wires);
        }
    }
}

/// Events and bytes until nobody has anything to say at this instant.
fn settle(play: &mut Play, wires: &mut Wires, behind: &mut impl Behind) {
    let now = wires.now;
    let mut quiet = false;
    while !std::mem::replace(&mut quiet, true) {
        for who in std::mem::take(&mut wires.dialled) {
            behind.arrived(wires, who);
        }
        for who in Who::ALL {
            let Some(pair) = &mut wires.pairs[who as usize] else { continue };
            pair.pump();
            let closed = pair.closed.clone();
            let (ours, theirs) = (pair.client_events.pop_front(), pair.server_events.pop_front());
            quiet &= ours.is_none() && theirs.is_none();
            if let Some((_, code, reason)) = closed {
                play.handle_down(who, format!("{code:#x} {reason}"), false);
            }
            if let Some(event) = theirs {
                behind.heard(wires, who, event);
            }
            if let Some(event) = ours {
                play.handle_event(wires, who, event, now);
            }
        }
    }
}

fn our_relay(may: bool) -> OurRelay {
    OurRelay { core: Core::new(Box::new(Nobody)), may }
}

#[test]
fn our_relay_passes_every_case() {
    for case in ALL {
        for seed in 1..20 {
            let end = play(case.name, &mut our_relay(true), Conditions::rough(seed));
            assert!(matches!(end, End::Passed(_)), "{} with seed {seed}: {end:?}", case.name);
        }
    }
}

#[test]
fn a_relay_that_says_nothing_fails_every_case_but_the_first() {
    for case in ALL {
        let end = play(case.name, &mut Mute, Conditions::default());
        let passes = case.name == "setup-only";
        assert_eq!(matches!(end, End::Passed(_)), passes, "{}: {end:?}", case.name);
    }
}

#[test]
fn a_relay_that_forwards_nothing_fails_what_must_be_heard_or_refused() {
    let fails = |name| matches!(play(name, &mut Yes, Conditions::default()), End::Failed { .. });
    for name in ["subscribe-error", "rendezvous-timeout", "data-subgroup-basic", "data-datagram-basic"] {
        assert!(fails(name), "{name}");
    }
    for name in ["subscribe-namespace-lifecycle", "publish-track-only", "publish-track-subscribe"] {
        assert!(fails(name), "{name}");
    }
    for name in ["namespace-discovery", "fetch", "join"] {
        assert!(fails(name), "{name}");
    }
    assert!(!fails("announce-only"));
}

#[test]
fn a_refusal_is_told_with_its_code() {
    let end = play("announce-only", &mut our_relay(false), Conditions::default());
    let End::Failed { expected, received } = end else { panic!("{end:?}") };
    assert_eq!(expected, "OK to PUBLISH_NAMESPACE");
    assert!(received.contains("0x1 "), "{received}");
}

#[test]
fn datagrams_may_be_lost_but_not_most_of_them() {
    let with = |loss| play("data-datagram-basic", &mut our_relay(true), Conditions { loss, ..Conditions::default() });
    assert!(matches!(with(10), End::Passed(_)));
    assert!(matches!(with(90), End::Failed { .. }));
}

#[test]
fn names_have_the_prefix_and_stay_apart() {
    let prefix = TrackNamespace::new(["anon"]).expect("short");
    Names::new(&prefix, "fetch", "1").expect("short");
    let too_long = TrackNamespace::new(["x"; 31]).expect("31 fields");
    assert!(Names::new(&too_long, "fetch", "1").is_err());
    let long = Duration::from_secs(60);
    assert!(ALL.iter().all(|case| case.limit < long && ALL.iter().filter(|c| c.name == case.name).count() == 1));
}

#[test]
fn what_a_draft_has_no_word_for_is_skipped() {
    let older = |name| {
        let conditions = Conditions::default();
        play_in(name, Draft::D16, &mut our_relay(true), conditions)
    };
    assert!(matches!(older("rendezvous-timeout"), End::Skipped(_)));
    for name in ["fetch", "join", "namespace-discovery"] {
        assert!(matches!(older(name), End::Passed(_)), "{name}");
    }
    assert!(matches!(older("setup-only"), End::Passed(_)));
}

/// By a FETCH, or since draft 20 by FILL_PARAMETERS.
#[test]
fn a_subscription_has_its_past_in_every_draft() {
    for draft in Draft::ALL {
        for seed in 1..20 {
            let end = play_in("join", draft, &mut our_relay(true), Conditions::rough(seed));
            assert!(matches!(end, End::Passed(_)), "{draft:?} with seed {seed}: {end:?}");
        }
        let end = play_in("join", draft, &mut Unfilled(our_relay(true)), Conditions::default());
        assert!(matches!(end, End::Failed { .. }), "{draft:?}: {end:?}");
    }
}

/// Our relay, but it knows nothing of what was before.
struct Unfilled(OurRelay);

impl Behind for Unfilled {
    fn arrived(&mut self, wires: &mut Wires, who: Who) {
        self.0.arrived(wires, who);
    }
    fn heard(&mut self, wires: &mut Wires, who: Who, event: Event) {
        let session = Sessions::session(wires, who as u64).expect("it has asked");
        match event {
            Event::Fill(fill) => session.fail_fill(fill),
            Event::Fetch { request, .. } => {
                session.reject(request, RequestError::new(RequestErrorCode::NotSupported, "nothing is kept"));
            }
            event => self.0.heard(wires, who, event),
        }
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }
    fn handle_timeout(&mut self, wires: &mut Wires) {
        self.0.handle_timeout(wires);
    }
}

/// Places of objects for a group that is asked for.
type Brings = fn(u64) -> Vec<(u64, u64)>;

/// Our relay, but what it is fetched is `brings` instead.
struct Liar {
    relay: OurRelay,
    brings: Brings,
}

impl Behind for Liar {
    fn arrived(&mut self, wires: &mut Wires, who: Who) {
        self.relay.arrived(wires, who);
    }
    fn heard(&mut self, wires: &mut Wires, who: Who, event: Event) {
        let Event::Fetch { request, fetch, .. } = event else { return self.relay.heard(wires, who, event) };
        let group = if let Fetch::Standalone { start, .. } = fetch { start.group } else { 0 };
        let items = (self.brings)(group).into_iter().map(|(group, id)| {
            let payload = Speech::Live.payload(group, id);
            Fetched::Object { object: Object { group, id, payload, ..Object::default() }, datagram: false }
        });
        let end = Location { group: group + 1, object: 0 };
        let ok = FetchOk { end_of_track: false, end, parameters: Default::default(), properties: Default::default() };
        let session = Sessions::session(wires, who as u64).expect("it has asked");
        session.answer_fetch(request, ok, items.collect::<Vec<_>>());
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.relay.poll_timeout()
    }
    fn handle_timeout(&mut self, wires: &mut Wires) {
        self.relay.handle_timeout(wires);
    }
}

#[test]
fn a_relay_that_fetches_something_else_fails() {
    let with = |name, brings: Brings| play(name, &mut Liar { relay: our_relay(true), brings }, Conditions::default());
    let whole = |group: u64| (0..5).map(|id| (group, id)).collect();
    assert!(matches!(with("fetch", whole), End::Passed(_)), "the liar speaks the truth");
    let wrong: [Brings; 4] = [
        |_| Vec::new(),
        |group| (0..4).map(|id| (group, id)).collect(),
        |group| (0..5).map(|id| (group + 1, id)).collect(),
        |group| (0..6).map(|id| (group, id)).collect(),
    ];
    for brings in wrong {
        let End::Failed { received, .. } = with("fetch", brings) else { panic!("{:?}", brings(7)) };
        assert!(received.contains("not group"), "{received}");
    }
    assert!(matches!(with("join", |_| Vec::new()), End::Failed { .. }), "nothing of before");
    assert!(matches!(with("join", |_| vec![(0, 1), (0, 2)]), End::Failed { .. }), "it begins in a group's middle");
}

/// Fetched and live objects of a subscription that was joined.
fn joined(fetched: &[(u64, u64)], live: &[(u64, u64)]) -> Judgement {
    let object = |(group, id)| Object { group, id, payload: Speech::Live.payload(group, id), ..Object::default() };
    let mut hearing = Hearing::default();
    live.iter().for_each(|place| hearing.object(false, object(*place)));
    for place in fetched {
        hearing.fetched(Fetched::Object { object: object(*place), datagram: false });
    }
    hearing.fetch_ended(false);
    hearing.judge(Heard::Joined, 0)
}

#[test]
fn what_was_fetched_and_what_came_live_follow_each_other() {
    let before: Vec<_> = (0..5).map(|id| (3, id)).chain([(4, 0), (4, 1)]).collect();
    assert_eq!(joined(&before, &[(4, 2), (4, 3)]), Judgement::Right);
    assert_eq!(joined(&before, &[(4, 3), (4, 2)]), Judgement::Right, "streams may overtake each other");
    assert_eq!(joined(&before, &[]), Judgement::Incomplete);
    assert_eq!(joined(&before, &[(4, 3)]), Judgement::Incomplete, "a hole may be filled yet");
    assert!(matches!(joined(&before, &[(4, 1), (4, 2)]), Judgement::Wrong(_)), "twice");
    assert!(matches!(joined(&before[1..], &[(4, 2)]), Judgement::Wrong(_)), "not from the group's beginning");
    assert!(matches!(joined(&[(4, 0), (4, 1)], &[(4, 2)]), Judgement::Wrong(_)), "not the group before");
    assert!(matches!(joined(&[], &[(4, 2)]), Judgement::Wrong(_)));
    assert!(matches!(joined(&[(3, 1), (3, 0)], &[(4, 0)]), Judgement::Wrong(_)), "out of order");
}
