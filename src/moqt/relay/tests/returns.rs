//! A publisher's gap: its subscribers are told at once, ask again with RENDEZVOUS_TIMEOUT, and hear everything it says when it is back.

use std::time::Duration;

use super::edges::Net;
use super::world::{World, audio, code, done, header, object, subscribe, uplink};
use crate::moqt::message::{SubscribeOk, TrackProperties};
use crate::moqt::relay::constants;
use crate::moqt::session::RequestId;
use crate::moqt::session::tests::pair::{Conditions, Rng};
use crate::moqt::version::Draft;
use crate::moqt::{Event, PublishDoneCode, RequestErrorCode};

const HOLD: Option<Duration> = Some(constants::RENDEZVOUS_MAX);
/// Draft 16 has no RENDEZVOUS_TIMEOUT.
const DRAFTS: [Draft; 3] = [Draft::D18, Draft::D20, Draft::D22];

/// A client that asks again as often as it is told that its subscription is over, as ours does.
struct Listener {
    key: usize,
    request: RequestId,
}

impl Listener {
    fn new(world: &mut World) -> Self {
        let key = world.client();
        Self { key, request: world.session(key).subscribe(subscribe(audio(), HOLD)) }
    }

    /// `true`: it asked again.
    fn follow(&mut self, world: &mut World) -> bool {
        let over = world.clients[self.key].heard.iter().any(|event| match event {
            Event::PublishDone { request, .. } | Event::RequestError { request, .. } => *request == self.request,
            _ => false,
        });
        if over {
            self.request = world.session(self.key).subscribe(subscribe(audio(), HOLD));
        }
        over
    }
}

impl World {
    /// Speaks a group of one object on every subscription and publication that this publisher has, as soon as it has it.
    fn speak(&mut self, key: usize, requests: &[RequestId], group: u64) -> bool {
        let mut spoken = false;
        for request in requests {
            let session = self.session(key);
            let Some(subgroup) = session.open_subgroup(*request, &header(group)) else { continue };
            session.send_object(subgroup, &object(group, 0));
            session.finish_subgroup(subgroup);
            spoken = true;
        }
        spoken
    }
}

/// Publishers come and go, by PUBLISH_NAMESPACE and by PUBLISH, in every draft and on rough links: of what was said from the first
/// word after a return to the last before the next death, everybody hears everything.
#[test]
fn nothing_is_lost_from_a_publishers_return_on() {
    for seed in 0..24_u64 {
        let mut world = World::new();
        world.conditions = Conditions { draft: DRAFTS[seed as usize % 3], ..Conditions::rough(seed) };
        let mut dice = Rng(seed);
        let mut listeners: Vec<Listener> = (0..3).map(|_| Listener::new(&mut world)).collect();
        let mut group = 0;
        for life in 0..4 {
            world.run_for(Duration::from_millis(dice.below(25_000)));
            for listener in &mut listeners {
                listener.follow(&mut world);
            }
            let publisher = world.client();
            world.clients[publisher].serves = Some(SubscribeOk::default());
            let pushed = (life % 2 == 1)
                .then(|| world.session(publisher).publish(audio(), TrackProperties::default(), Vec::new()));
            if pushed.is_none() {
                world.session(publisher).publish_namespace(uplink(), Vec::new());
            }
            let first = group;
            while group < first + 10 {
                world.run_for(Duration::from_millis(20));
                let asked = world.clients[publisher].asked.iter().map(|(request, _)| *request).collect::<Vec<_>>();
                let requests = [asked, pushed.into_iter().collect()].concat();
                // The first word is said at the first moment that it can be.
                group += u64::from(world.speak(publisher, &requests, group));
            }
            world.settle();
            for (at, listener) in listeners.iter_mut().enumerate() {
                let mut heard = world.objects(listener.key);
                heard.sort_unstable();
                let all: Vec<_> = (0..group).map(|group| (group, 0)).collect();
                assert_eq!(heard, all, "seed {seed}, life {life}, listener {at}");
            }
            world.kill(publisher);
            for listener in &mut listeners {
                assert!(listener.follow(&mut world), "seed {seed}, life {life}: it is told of the end");
            }
        }
    }
}

#[test]
fn the_end_of_a_dead_publisher_is_told_at_once_and_says_whether_it_was_meant() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, HOLD);
    world.kill(publisher);
    assert_eq!(world.done(listener), done(PublishDoneCode::InternalError));
    assert_eq!((world.core.counters().tracks, world.core.poll_timeout()), (0, None), "nothing is kept of it");
}

#[test]
fn who_waits_longer_than_the_maximum_asks_again_and_misses_nothing() {
    let mut world = World::new();
    let mut listener = Listener::new(&mut world);
    for _ in 0..3 {
        world.run_for(constants::RENDEZVOUS_MAX + Duration::from_millis(100));
        assert_eq!(world.refused(listener.key, listener.request), code(RequestErrorCode::Timeout));
        assert!(listener.follow(&mut world));
    }
    world.settle();
    let publisher = world.publisher();
    world.whole(publisher, 1);
    assert_eq!(world.objects(listener.key).len(), 3);
}

/// The same where relays stand between: shards, and an edge of another relay.
#[test]
fn a_publisher_comes_back_at_any_relay() {
    for (sister, before, after, hears) in
        [(true, 0, 1, 2), (true, 1, 0, 1), (false, 0, 1, 1), (false, 1, 0, 0), (false, 1, 1, 2)]
    {
        let mut net = Net::star(3, sister);
        let user = net.user(hears);
        net.subscribe(user, HOLD);
        let publisher = net.publisher(before);
        net.say(publisher, 1);
        net.kill(publisher);
        assert!(net.done(user).is_some());
        net.subscribe(user, HOLD);
        net.run_for(Duration::from_secs(20));
        let publisher = net.publisher(after);
        (2..5).for_each(|group| net.say(publisher, group));
        assert_eq!(net.groups(user), [1, 2, 3, 4], "{before} to {after}, heard at {hears}, sister {sister}");
    }
}
