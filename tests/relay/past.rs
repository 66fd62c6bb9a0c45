//! FETCH and joins from the relay's cache, over every kind of link, with one shard and with two: whichever shard a peer comes to, it is
//! told what the other has seen.

use clutchcall::moqt::fetched::Fetched;
use clutchcall::moqt::message::{Fetch, GroupOrder, Location};
use clutchcall::moqt::session::RequestId;
use clutchcall::moqt::{Event, Object};

use super::rig::{Answer, Client, Link, Relay, object, track_of};
use super::rules::over_all;

const UPLINK: &str = "voice/CA1/uplink";
const OBJECTS: u64 = 20;

/// Whole objects of a group, as a fetch brings them: the priority is said.
fn group(group: u64) -> Vec<Object> {
    let sent = (0..OBJECTS).map(|id| object(group, id, vec![id as u8; 80]));
    sent.map(|object| Object { priority: Some(128), ..object }).collect()
}

fn whole() -> Fetch {
    Fetch::Standalone { track: track_of(UPLINK), start: Location::default(), end: Fetch::TO_LARGEST }
}

/// The objects that a FETCH brings, until its stream ends.
fn fetched(link: &Link<'_>, fetch: Fetch, order: Option<GroupOrder>) -> Vec<Object> {
    let request = link.session(move |session| session.fetch(fetch, order, vec![]));
    let mut objects = Vec::new();
    loop {
        let next = link.on("more of a fetch", |event| match event {
            Event::Fetched { request: of, fetched } if *of == request => Some(Some(fetched.clone())),
            Event::FetchEnd { request: of, reset } if *of == request => {
                assert_eq!(*reset, None);
                Some(None)
            }
            Event::RequestError { request: of, error } if *of == request => panic!("refused: {error:?}"),
            _ => None,
        });
        match next {
            Some(Fetched::Object { object, .. }) => objects.push(object),
            Some(Fetched::Unknown(_)) => {}
            Some(absent) => panic!("nothing proves that {absent:?}"),
            None => break,
        }
    }
    objects
}

/// A publisher's next group, heard by somebody, so that the relay has it.
fn speak((publisher, publication): (&Link<'_>, RequestId), (listener, heard): (&Link<'_>, RequestId), n: u64) {
    let subgroup = publisher.open(publication, n);
    group(n).into_iter().for_each(|object| publisher.send(subgroup, Object { priority: None, ..object }));
    publisher.session(move |session| session.finish_subgroup(subgroup));
    (0..OBJECTS).for_each(|_| drop(listener.object(heard)));
}

#[test]
fn what_was_before_is_fetched_and_joined_at_every_shard() {
    over_all(|speaks, hears| {
        let (relay, client, other) = (Relay::start(), Client::start(), Client::start());
        let publisher = client.connect(&relay, speaks, vec![relay.token(&[UPLINK], &[])]);
        let listener = other.connect(&relay, speaks, vec![relay.token(&[], &[UPLINK])]);
        assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
        let heard = listener.ask(UPLINK, None, vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(listener.answered(heard), Answer::Ok);
        (1..4).for_each(|n| speak((&publisher, publication), (&listener, heard), n));

        let late = other.connect(&relay, hears, vec![relay.token(&[], &[UPLINK])]);
        assert_eq!(fetched(&late, whole(), None), (1..4).flat_map(group).collect::<Vec<_>>());
        let turned = fetched(&late, whole(), Some(GroupOrder::Descending));
        assert_eq!(turned, (1..4).rev().flat_map(group).collect::<Vec<_>>(), "{speaks:?} to {hears:?}");

        let (joined, answer) = late.subscribe(UPLINK);
        assert_eq!(answer, Answer::Ok);
        let before = fetched(&late, Fetch::RelativeJoining { request: joined.0, groups: 1 }, None);
        assert_eq!(before, (2..4).flat_map(group).collect::<Vec<_>>(), "{speaks:?} to {hears:?}");
        speak((&publisher, publication), (&listener, heard), 4);
        let live: Vec<Object> = (0..OBJECTS).map(|_| late.object(joined)).collect();
        assert!(live.iter().map(|object| (object.group, object.id)).eq((0..OBJECTS).map(|id| (4, id))));
        relay.wait("nothing of a fetch is left", |counters| counters.fetching == 0 && counters.fetches > 0);
    });
}
