//! Streams of one subscription that wait together leave in its group order, on a real connection.

use super::node::{Node, pattern, subscription};
use crate::moqt::message::{GroupOrder, Subscribe, SubscribeOk};
use crate::moqt::{Event, Object, SubgroupHeader};
use crate::net::Trust;
use crate::net::tls::Identity;

const GROUPS: u64 = 4;
/// All groups together are more than a new connection may have in flight, and less than it takes off a session's hands.
const GROUP_BYTES: usize = 12 * 1024;

/// In which order groups end that were all written in one turn, the middle ones first.
fn ended(scheme: &str, order: GroupOrder) -> Vec<u64> {
    let (client, server) = (Node::client(), Node::server(&Identity::ephemeral()));
    let near = client.dial(scheme, server.address, Trust::Anything);
    client.setup();
    let far = server.up().0;
    let asks = Subscribe { group_order: Some(order), ..subscription("audio") };
    client.with(move |links, _| links.session(near).expect("live").subscribe(asks));
    let request = server.moqt("SUBSCRIBE", |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    server.with(move |links, _| {
        let session = links.session(far).expect("live");
        session.accept_subscribe(request, SubscribeOk::default());
        for group in [1, 3, 0, 2] {
            let header = SubgroupHeader { group, ..SubgroupHeader::default() };
            let subgroup = session.open_subgroup(request, &header).expect("accepted");
            session.send_object(subgroup, &Object { group, payload: pattern(GROUP_BYTES), ..Object::default() });
            session.finish_subgroup(subgroup);
        }
    });
    let heard = |_: u64| {
        client.moqt("an object", |event| match event {
            Event::Object { object, .. } => Some(object.group),
            _ => None,
        })
    };
    (0..GROUPS).map(heard).collect()
}

#[test]
fn what_waits_together_leaves_in_the_subscriptions_order() {
    for scheme in ["moqt", "https"] {
        assert_eq!(ended(scheme, GroupOrder::Ascending), [0, 1, 2, 3], "{scheme}");
        assert_eq!(ended(scheme, GroupOrder::Descending), [3, 2, 1, 0], "{scheme}");
    }
}
