//! SUBSCRIBE_TRACKS over several relays: shards that are each other's edges, and an edge of another's relay.

use super::edges::Net;
use super::world::{audio, header, named, namespace, object};
use crate::moqt::message::TrackProperties;
use crate::moqt::session::RequestId;
use crate::moqt::{Event, FullTrackName, TrackNamespace};

impl Net {
    fn recorder(&mut self, core: usize, prefix: TrackNamespace) -> (usize, RequestId) {
        let user = self.user(core);
        let request = self.links[user].pair.client.subscribe_tracks(prefix, true, Vec::new());
        self.settle();
        (user, request)
    }

    fn push(&mut self, user: usize, track: FullTrackName) -> RequestId {
        let request = self.links[user].pair.client.publish(track, TrackProperties::default(), Vec::new());
        self.settle();
        request
    }

    /// A group of one object on a PUBLISH.
    fn utter(&mut self, user: usize, publication: RequestId, group: u64) {
        let session = &mut self.links[user].pair.client;
        if let Some(subgroup) = session.open_subgroup(publication, &header(group)) {
            session.send_object(subgroup, &object(group, 0));
            session.finish_subgroup(subgroup);
        }
        self.settle();
    }

    fn taken(&self, user: usize) -> Vec<FullTrackName> {
        self.links[user].taken.iter().map(|(_, track)| track.clone()).collect()
    }

    fn forwards(&self, user: usize) -> Vec<bool> {
        let heard = self.links[user].heard.iter();
        let updates = heard.filter_map(|event| match event {
            Event::Updated { forward, .. } => Some(*forward),
            _ => None,
        });
        updates.collect()
    }

    fn tracks(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.counters().tracks).collect()
    }
}

fn call() -> TrackNamespace {
    namespace(&["voice", "CA1"])
}

#[test]
fn what_is_published_at_any_shard_is_offered_at_every_other_once() {
    for (speaks, records) in (0..3).flat_map(|speaks| (0..3).map(move |records| (speaks, records))) {
        for first in [true, false] {
            let mut net = Net::mesh(3);
            let publisher = net.user(speaks);
            let before = first.then(|| net.recorder(records, call()));
            let publication = net.push(publisher, audio());
            let (recorder, _) = before.unwrap_or_else(|| net.recorder(records, call()));
            let case = format!("{speaks} to {records}, recorder first {first}");
            assert_eq!(net.taken(recorder), [audio()], "{case}");
            (1..4).for_each(|group| net.utter(publisher, publication, group));
            assert_eq!(net.groups(recorder), [1, 2, 3], "{case}");
            let duplicates: u64 = net.cores.iter().map(|core| core.counters().duplicates).sum();
            assert_eq!(duplicates, 0, "{case}");
            net.kill(publisher);
            assert!(net.done(recorder).is_some(), "{case}");
            net.assert_clean();
        }
    }
}

#[test]
fn what_flows_between_others_is_offered_from_where_it_is_published() {
    for (speaks, hears, records) in [(0, 2, 1), (1, 0, 2), (2, 2, 0), (0, 1, 1)] {
        let mut net = Net::mesh(3);
        let publisher = net.publisher(speaks);
        let (recorder, _) = net.recorder(records, call());
        assert!(net.taken(recorder).is_empty());
        let listener = net.user(hears);
        net.subscribe(listener, None);
        assert_eq!(net.taken(recorder), [audio()], "{speaks}, {hears}, {records}");
        (1..4).for_each(|group| net.say(publisher, group));
        assert_eq!(net.groups(listener), [1, 2, 3], "{speaks}, {hears}, {records}");
        assert_eq!(net.groups(recorder), [1, 2, 3], "{speaks}, {hears}, {records}");
        net.kill(publisher);
        net.assert_clean();
    }
}

#[test]
fn a_publisher_elsewhere_rests_while_nobody_here_wants_it_and_leaves_with_the_interest() {
    let mut net = Net::mesh(3);
    let publisher = net.user(0);
    let publication = net.push(publisher, audio());
    let (recorder, interest) = net.recorder(2, call());
    let (offer, _) = net.links[recorder].taken[0].clone();
    net.links[recorder].pair.client.cancel(offer);
    net.settle();
    assert_eq!(net.forwards(publisher), [false, true, false]);
    assert_eq!(net.tracks(), [1, 0, 1], "it may be wanted again: the interest is there");
    let listener = net.user(2);
    net.subscribe(listener, None);
    net.utter(publisher, publication, 1);
    assert_eq!(net.groups(listener), [1]);
    net.kill(listener);
    net.links[recorder].pair.client.cancel(interest);
    net.settle();
    assert_eq!(net.tracks(), [1, 0, 0]);
    assert_eq!(net.cores[0].counters().subscriptions, 0);
    // Nor does anything come that is published later.
    net.push(publisher, named(call(), "later"));
    assert_eq!(net.tracks(), [2, 0, 0]);
}

/// Prefixes of users overlap as they like; those between relays never do.
#[test]
fn wider_and_narrower_interests_of_several_users_share_what_is_asked_abroad() {
    let mut net = Net::mesh(2);
    let publisher = net.user(0);
    net.push(publisher, audio());
    let narrow = net.recorder(1, call());
    let same = net.recorder(1, namespace(&["voice", "CA1", "uplink"]));
    let wide = net.recorder(1, namespace(&["voice"]));
    let all = net.recorder(1, TrackNamespace::default());
    net.push(publisher, named(namespace(&["voice", "CA7"]), "audio"));
    net.push(publisher, named(namespace(&["other"]), "audio"));
    let taken = [narrow, same, wide, all].map(|(user, _)| net.taken(user).len());
    assert_eq!(taken, [1, 1, 2, 3]);
    // The widest goes: what the others want still comes.
    net.links[all.0].pair.client.cancel(all.1);
    net.settle();
    net.push(publisher, named(call(), "later"));
    let taken = [narrow, same, wide, all].map(|(user, _)| net.taken(user).len());
    assert_eq!(taken, [2, 1, 3, 3]);
}

#[test]
fn an_upstream_relay_offers_what_it_has_and_a_new_session_to_it_is_asked_again() {
    let mut net = Net::star(2, false);
    let (above, here) = (net.user(0), net.user(1));
    let (recorder, _) = net.recorder(1, call());
    let one = net.push(above, audio());
    net.push(here, named(call(), "here"));
    assert_eq!(net.taken(recorder), [audio(), named(call(), "here")]);
    net.utter(above, one, 1);
    assert_eq!(net.groups(recorder), [1]);
    // The way up dies, and is dialled again.
    net.kill(0);
    assert_eq!(net.links[recorder].heard.iter().filter(|e| matches!(e, Event::PublishDone { .. })).count(), 1);
    net.edge(1, 0, false);
    assert_eq!(net.taken(recorder).len(), 3);
    net.utter(above, one, 2);
    assert_eq!(net.groups(recorder), [1, 2]);
}
