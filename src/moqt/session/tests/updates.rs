//! What an update of the peer changes in streams that are open, and how many of ours are on their way.

use super::lone::{Lone, none};
use super::pair;
use super::smoke::track;
use crate::moqt::SubgroupHeader;
use crate::moqt::message::{Message, Parameters, RequestOk, Setup, Subscribe, SubscribeOk, Token};
use crate::moqt::session::{Config, Event, RequestId, Role, StreamId, Transmit, priority};
use crate::moqt::version::Draft;

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

/// The FORWARDs that we asked for by updates, in order.
fn said(lone: &mut Lone, stream: StreamId) -> Vec<Option<bool>> {
    let updates = lone.said(stream).into_iter().filter_map(|message| match message {
        Message::RequestUpdate { parameters, .. } => Some(parameters.forward),
        _ => None,
    });
    updates.collect()
}

#[test]
fn forward_0_waits_for_answers_and_forward_1_for_nothing_but_the_peers_bound() {
    const AT_ONCE: [Option<bool>; 2] = [Some(false), Some(true)];
    for (bound, at_once) in [(0, &AT_ONCE[..]), (2, &AT_ONCE), (1, &AT_ONCE[..1])] {
        let mut lone = Lone::early(Config { draft: Draft::D20, ..pair::config(Role::Client) });
        lone.say(lone.control, &Message::Setup(Setup { max_request_updates: bound, ..Setup::default() }));
        let request = lone.session.subscribe(Subscribe::new(track("audio")));
        let stream = lone.opened();
        lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
        for forward in [false, true, false, true, false, false] {
            lone.session.update_forward(request, forward);
        }
        assert_eq!(said(&mut lone, stream), at_once, "bound {bound}");
        for _ in at_once {
            lone.say(stream, &Message::RequestOk(RequestOk::default()));
        }
        // The last word is said when everything before it is answered, unless it was said already.
        let last: &[_] = if at_once.len() == 2 { &[Some(false)] } else { &[] };
        assert_eq!(said(&mut lone, stream), [at_once, last].concat(), "bound {bound}");
        lone.session.update_forward(request, true);
        assert_eq!(said(&mut lone, stream).last(), Some(&Some(true)), "bound {bound}");
    }
}

#[test]
fn fresh_tokens_of_a_subscription_are_said_once_it_stands_and_within_the_peers_bound() {
    for (bound, taken) in [(0, 3), (2, 2)] {
        let mut lone = Lone::early(Config { draft: Draft::D20, ..pair::config(Role::Client) });
        lone.say(lone.control, &Message::Setup(Setup { max_request_updates: bound, ..Setup::default() }));
        let request = lone.session.subscribe(Subscribe::new(track("audio")));
        let token = |n: u8| vec![Token { kind: 0, value: vec![n].into() }];
        let stream = lone.opened();
        assert!(!lone.session.update_tokens(request, token(9)), "it is not established");
        lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
        let said = (0..3).filter(|n| lone.session.update_tokens(request, token(*n))).count();
        assert_eq!(said, taken);
        let updates = lone.said(stream).into_iter().filter_map(|message| match message {
            Message::RequestUpdate { parameters, .. } => Some((parameters.tokens, parameters.forward)),
            _ => None,
        });
        assert_eq!(updates.collect::<Vec<_>>(), (0..taken as u8).map(|n| (token(n), None)).collect::<Vec<_>>());
        lone.say(stream, &Message::RequestOk(RequestOk::default()));
        assert!(lone.session.update_tokens(request, token(9)), "an answer makes room");
        assert!(!lone.session.update_tokens(RequestId(99), token(9)));
    }
}
