//! FORWARD upstream follows the subscribers, and nobody who listens goes silent for it.

use std::time::Duration;

use super::world::{World, audio, object, subscribe};
use crate::moqt::Event;
use crate::moqt::message::{Subscribe, SubscribeOk, TrackProperties};
use crate::moqt::session::RequestId;
use crate::moqt::session::tests::pair::{Conditions, Rng};
use crate::moqt::version::Draft;

const DRAFTS: [Draft; 4] = [Draft::D16, Draft::D18, Draft::D20, Draft::D22];

fn world_of(draft: Draft) -> World {
    let mut world = World::new();
    world.conditions.draft = draft;
    world
}

impl World {
    /// FORWARD as this publisher has heard it by updates and by the answer to its PUBLISH, in order.
    fn steered(&self, key: usize) -> Vec<bool> {
        let updates = self.clients[key].heard.iter().filter_map(|event| match event {
            Event::Updated { forward, .. } => Some(*forward),
            _ => None,
        });
        updates.collect()
    }

    fn wish(&mut self, key: usize, request: RequestId, forward: bool) {
        self.session(key).update_forward(request, forward);
        self.settle();
    }

    /// A SUBSCRIBE that wants no objects yet.
    fn subscribe_paused(&mut self, key: usize) -> RequestId {
        let request = self.session(key).subscribe(Subscribe { forward: false, ..subscribe(audio(), None) });
        self.settle();
        request
    }

    /// A client that said PUBLISH.
    fn pusher(&mut self) -> (usize, RequestId) {
        let key = self.client();
        let request = self.session(key).publish(audio(), TrackProperties::default(), Vec::new());
        self.settle();
        (key, request)
    }

    /// A group of one object on this publication; nothing when it does not forward.
    fn say(&mut self, key: usize, publication: RequestId, group: u64) {
        let header = super::world::header(group);
        if let Some(subgroup) = self.session(key).open_subgroup(publication, &header) {
            self.session(key).send_object(subgroup, &object(group, 0));
            self.session(key).finish_subgroup(subgroup);
        }
        self.settle();
    }
}

#[test]
fn forward_follows_the_subscribers_of_a_track() {
    for draft in DRAFTS {
        let mut world = world_of(draft);
        let publisher = world.publisher();
        let (one, two) = (world.client(), world.client());
        let (a, b) = (world.subscribe(one, None), world.subscribe(two, None));
        world.wish(one, a, false);
        assert!(world.steered(publisher).is_empty(), "{draft:?}: the other one listens");
        world.wish(two, b, false);
        assert_eq!(world.steered(publisher), [false], "{draft:?}");
        world.wish(one, a, true);
        assert_eq!(world.steered(publisher), [false, true], "{draft:?}");
        world.whole(publisher, 1);
        assert_eq!((world.objects(one).len(), world.objects(two).len()), (3, 0), "{draft:?}");
        // The one that listens leaves.
        world.session(one).cancel(a);
        world.settle();
        assert_eq!(world.steered(publisher), [false, true, false], "{draft:?}");
        // And another comes.
        let three = world.client();
        world.subscribe(three, None);
        assert_eq!(world.steered(publisher), [false, true, false, true], "{draft:?}");
        world.whole(publisher, 2);
        assert_eq!((world.objects(three).len(), world.objects(two).len()), (3, 0), "{draft:?}");
    }
}

/// §"Forward Handling": a new subscription upstream forwards, whoever asks; it is taken back behind its answer.
#[test]
fn a_publisher_is_asked_to_forward_whoever_asks() {
    let mut world = World::new();
    let publisher = world.client();
    world.announce(publisher, super::world::uplink());
    let listener = world.client();
    let request = world.subscribe_paused(listener);
    let (upstream, _) = world.clients[publisher].asked[0];
    assert_eq!(world.clients[publisher].told, [true]);
    // It wants objects before the publisher has answered: nothing has to be said.
    world.session(publisher).accept_subscribe(upstream, SubscribeOk::default());
    world.settle();
    assert!(world.is_answered(listener, request));
    assert_eq!(world.steered(publisher), [false]);
    world.wish(listener, request, true);
    world.whole(publisher, 1);
    assert_eq!(world.objects(listener).len(), 3);
}

#[test]
fn an_update_before_the_answer_counts_behind_it() {
    for (updates, forward) in [(&[false][..], false), (&[false, true], true)] {
        let mut world = World::new();
        let publisher = world.client();
        world.announce(publisher, super::world::uplink());
        let listener = world.client();
        let request = world.subscribe(listener, None);
        for update in updates {
            world.clients[listener].pair.client.say_forward(request, *update);
            world.settle();
        }
        let (upstream, _) = world.clients[publisher].asked[0];
        world.session(publisher).accept_subscribe(upstream, SubscribeOk::default());
        world.settle();
        let last = world.steered(publisher).last().copied().unwrap_or(true);
        assert_eq!(last, forward);
        world.say(publisher, upstream, 1);
        assert_eq!(world.objects(listener).len(), usize::from(forward));
    }
}

#[test]
fn a_publish_rests_until_somebody_listens() {
    for draft in DRAFTS {
        let mut world = world_of(draft);
        let (publisher, publication) = world.pusher();
        assert_eq!(world.steered(publisher), [false], "{draft:?}");
        world.say(publisher, publication, 1);
        let paused = world.client();
        let second = world.subscribe_paused(paused);
        assert_eq!(world.steered(publisher), [false], "{draft:?}: it does not listen either");
        let listener = world.client();
        let request = world.subscribe(listener, None);
        assert_eq!(world.steered(publisher), [false, true], "{draft:?}");
        world.say(publisher, publication, 2);
        assert_eq!(world.objects(listener), [(2, 0)], "{draft:?}");
        world.session(listener).cancel(request);
        world.settle();
        assert_eq!(world.steered(publisher), [false, true, false], "{draft:?}");
        world.wish(paused, second, true);
        assert_eq!(world.steered(publisher), [false, true, false, true], "{draft:?}");
        world.say(publisher, publication, 3);
        assert_eq!(world.objects(paused), [(3, 0)], "{draft:?}");
    }
}

/// §"Publisher Interactions": with a subscriber that listens the answer is FORWARD 1.
#[test]
fn a_publish_that_is_waited_for_forwards_at_once() {
    let mut world = World::new();
    let listener = world.client();
    world.subscribe(listener, Some(Duration::from_secs(5)));
    let (publisher, publication) = world.pusher();
    assert!(world.steered(publisher).is_empty());
    world.say(publisher, publication, 1);
    assert_eq!(world.objects(listener), [(1, 0)]);
}

#[test]
fn every_publisher_of_a_track_is_told() {
    let mut world = World::new();
    let publishers = [world.publisher(), world.publisher()];
    let (pusher, _) = world.pusher();
    let listener = world.client();
    let request = world.subscribe(listener, None);
    world.wish(listener, request, false);
    world.wish(listener, request, true);
    for key in publishers {
        assert_eq!(world.steered(key), [false, true]);
    }
    assert_eq!(world.steered(pusher), [false, true, false, true]);
    // One that comes while nobody listens is paused behind its answer, and heard with the others.
    world.wish(listener, request, false);
    let third = world.publisher();
    assert_eq!(world.steered(third), [false]);
    world.wish(listener, request, true);
    world.whole(third, 7);
    assert_eq!(world.objects(listener).len(), 3);
}

/// A subscriber that can't make up its mind costs the publisher one update in flight, or two.
#[test]
fn a_wavering_subscriber_does_not_flood_the_publisher() {
    let mut world = World::new();
    world.conditions.delay = Duration::from_millis(100);
    let publisher = world.publisher();
    world.run_for(Duration::from_secs(1));
    let listener = world.client();
    let request = world.subscribe(listener, None);
    world.run_for(Duration::from_secs(1));
    // The session of the relay hears what no well-behaved session says: a change every two milliseconds.
    for at in 0..200 {
        world.clients[listener].pair.client.say_forward(request, at % 2 == 1);
        world.run_for(Duration::from_millis(2));
    }
    world.run_for(Duration::from_secs(1));
    let steered = world.steered(publisher);
    assert!(steered.len() <= 12 && steered.last() == Some(&true), "{steered:?}");
    world.run_for(Duration::from_secs(1));
    world.whole(publisher, 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.objects(listener).len(), 3);
}

/// Whatever subscribers do, in whatever order: who wants objects in the end gets them.
#[test]
fn nobody_who_listens_is_silent_in_the_end() {
    for seed in 1..40_u64 {
        let draft = DRAFTS[seed as usize % 4];
        let mut world = World::new();
        world.conditions = Conditions { draft, seed, ..Conditions::rough(seed) };
        let mut dice = Rng(seed);
        let pulled = world.publisher();
        let (pushed, publication) = world.pusher();
        let listeners: Vec<usize> = (0..4).map(|_| world.client()).collect();
        let mut wishes: Vec<Option<(RequestId, bool)>> = vec![None; 4];
        for _ in 0..40 {
            let at = dice.below(4) as usize;
            let key = listeners[at];
            wishes[at] = match wishes[at] {
                None => {
                    let forward = dice.below(2) == 0;
                    let request = world
                        .session(key)
                        .subscribe(Subscribe { forward, ..subscribe(audio(), Some(Duration::from_secs(1))) });
                    Some((request, forward))
                }
                Some((request, _)) if dice.below(4) == 0 => {
                    world.session(key).cancel(request);
                    None
                }
                Some((request, before)) => {
                    let answered = world.is_answered(key, request);
                    world.session(key).update_forward(request, !before);
                    Some((request, if answered { !before } else { before }))
                }
            };
            world.run_for(Duration::from_millis(dice.below(120)));
        }
        world.run_for(Duration::from_secs(3));
        for key in &listeners {
            world.clients[*key].heard.clear();
        }
        if let Some((upstream, _)) = world.clients[pulled].asked.last().cloned() {
            world.say(pulled, upstream, 1000);
        }
        world.say(pushed, publication, 2000);
        world.run_for(Duration::from_secs(2));
        for (key, wish) in listeners.iter().zip(&wishes) {
            let expected = if wish.is_some_and(|(_, forward)| forward) { 2 } else { 0 };
            assert_eq!(world.objects(*key).len(), expected, "seed {seed}, {draft:?}, {wishes:?}");
        }
    }
}
