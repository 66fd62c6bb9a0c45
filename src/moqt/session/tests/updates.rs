//! What an update of the peer changes in streams that are open.

use super::lone::{Lone, none};
use super::smoke::track;
use crate::moqt::SubgroupHeader;
use crate::moqt::message::{Message, Parameters, SubscribeOk};
use crate::moqt::session::{Event, RequestId, Role, StreamId, Transmit, priority};

#[test]
fn a_new_subscriber_priority_moves_open_streams() {
    let (mut lone, request) = (Lone::new(Role::Server), RequestId(0));
    let stream = lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters: none() });
    lone.session.accept_subscribe(request, SubscribeOk::default());
    let urgent = SubgroupHeader { priority: Some(3), ..SubgroupHeader::default() };
    let one = lone.session.open_subgroup(request, &urgent).unwrap();
    let two = lone.session.open_subgroup(request, &SubgroupHeader { group: 1, ..SubgroupHeader::default() }).unwrap();
    let parameters = Parameters { priority: Some(9), ..none() };
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters });
    for (subgroup, publisher) in [(one, 3), (two, 128)] {
        let stream = StreamId(subgroup.0);
        assert!(lone.was_sent(&Transmit::Priority { stream, priority: priority::data(9, publisher) }));
    }
    assert!(matches!(lone.events.last(), Some(Event::Updated { .. })), "{:?}", lone.events);
}
