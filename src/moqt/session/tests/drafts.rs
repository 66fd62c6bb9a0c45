//! What one draft does otherwise than another.

use super::lone::{Lone, bytes_in, none};
use super::pair::{Conditions, Pair};
use super::smoke::{object, subscribe, subscribed, track};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{
    Filter, GoAway, Location, Message, Parameters, PublishDone, PublishOk, RangeFilter, RequestOk, SubscribeOk,
    TrackProperties, UpdateOk,
};
use crate::moqt::session::{Dir, Event, RequestId, Role, Transmit, constants};
use crate::moqt::{CloseCode, Draft, PublishDoneCode, RequestErrorCode, ResetCode, SubgroupHeader};

const NEWER: [Draft; 2] = [Draft::D20, Draft::D22];
/// With a stream for each request.
const STREAMED: [Draft; 3] = [Draft::D18, Draft::D20, Draft::D22];

fn pair(draft: Draft) -> Pair {
    Pair::new(Conditions { draft, ..Conditions::default() })
}

fn asks(parameters: Parameters) -> Message {
    Message::Subscribe { id: 0, track: track("audio"), parameters }
}

fn fill() -> Option<Box<Parameters>> {
    Some(Box::new(Parameters { filter: Some(Filter::NewestGroups(1)), ..Parameters::default() }))
}

#[test]
fn the_thin_line_goes_through_in_every_draft() {
    for draft in Draft::ALL {
        let mut pair = pair(draft);
        let request = subscribed(&mut pair, "audio");
        let subgroup = pair.server.open_subgroup(request, &SubgroupHeader::default()).unwrap();
        pair.server.send_object(subgroup, &object(0, 0, "frame"));
        pair.server.send_datagram(request, &object(1, 0, "frame")).unwrap();
        pair.server.goaway(GoAway { uri: "moqt://elsewhere".into(), timeout: None });
        pair.server.end_publication(request, PublishDone { code: 2, streams: 0, reason: String::new() });
        pair.settle();
        let objects = pair.client_events.iter().filter(|event| matches!(event, Event::Object { .. })).count();
        assert_eq!((objects, &pair.closed), (2, &None), "{draft:?}");
        let uri = pair.find(Role::Client, |event| match event {
            Event::GoAway(goaway) => Some(goaway.uri.clone()),
            _ => None,
        });
        assert_eq!(uri.as_deref(), Some("moqt://elsewhere"), "{draft:?}");
        let done = |event: &Event| matches!(event, Event::PublishDone { done, .. } if done.streams == 1).then_some(());
        assert_eq!(pair.find(Role::Client, done), Some(()), "{draft:?}");
    }
}

#[test]
fn a_publish_is_accepted_in_every_draft() {
    for draft in Draft::ALL {
        let mut pair = pair(draft);
        let request = pair.client.publish(track("audio"), TrackProperties::default(), Vec::new());
        pair.settle();
        pair.server.accept_publish(request, PublishOk { forward: true, priority: 3, filter: None, expires: None });
        pair.settle();
        let subgroup = pair.client.open_subgroup(request, &SubgroupHeader::default()).unwrap();
        pair.client.send_object(subgroup, &object(0, 0, "frame"));
        pair.settle();
        assert!(pair.server_events.iter().any(|event| matches!(event, Event::Object { .. })), "{draft:?}");
        assert_eq!(pair.closed, None, "{draft:?}");
    }
}

/// Since draft 19 it only says that no update will come.
#[test]
fn a_fin_of_a_requester_withdraws_only_where_the_draft_says_so() {
    for draft in STREAMED {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.session.accept_stream(Dir::Bi);
        lone.data(stream, bytes_in(draft, &asks(Parameters::default())), true);
        let cancelled = lone.events.contains(&Event::Cancelled { request: RequestId(0) });
        assert_eq!(cancelled, draft == Draft::D18, "{draft:?}");
        if cancelled {
            continue;
        }
        lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
        assert!(matches!(lone.said(stream)[..], [Message::SubscribeOk { .. }]));
        lone.session.handle_stopped(stream, ResetCode::Cancelled as u64, lone.now);
        lone.drain();
        assert!(lone.events.contains(&Event::Cancelled { request: RequestId(0) }));
        assert!(lone.session.is_idle());
    }
}

/// Who FINs a PUBLISH without PUBLISH_DONE has failed.
#[test]
fn a_publisher_that_finishes_without_its_last_word_is_gone() {
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.session.accept_stream(Dir::Bi);
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        let publish = Message::Publish { id: 0, track: track("audio"), alias: 1, parameters, properties };
        lone.data(stream, bytes_in(draft, &publish), true);
        assert!(lone.events.contains(&Event::Cancelled { request: RequestId(0) }));
    }
}

#[test]
fn a_fill_fails_on_its_own_stream_and_the_subscription_goes_on() {
    for draft in NEWER {
        for (largest, filled) in [(None, false), (Some(Location { group: 4, object: 2 }), true)] {
            let mut lone = Lone::of(draft, Role::Server);
            let stream = lone.request(&asks(Parameters { fill: fill(), ..Parameters::default() }));
            lone.session.accept_subscribe(RequestId(0), SubscribeOk { largest, ..SubscribeOk::default() });
            lone.drain();
            let asked =
                lone.events.iter().find_map(|event| if let Event::Fill(fill) = event { Some(*fill) } else { None });
            let whole = largest.map(|largest| (Location { group: 4, object: 0 }, largest));
            assert_eq!(asked.map(|fill| fill.range), whole);
            asked.into_iter().for_each(|fill| lone.session.fail_fill(fill));
            lone.drain();
            let header = |sent: &Transmit| matches!(sent, Transmit::Data { data, .. } if data[..] == [0x05, 0x00]);
            let reset = |sent: &Transmit| matches!(sent, Transmit::Reset { code: 0, .. });
            assert_eq!((lone.sent.iter().any(header), lone.sent.iter().any(reset)), (filled, filled), "{draft:?}");
            lone.session.end_publication(RequestId(0), PublishDone { code: 2, streams: 0, reason: String::new() });
            let Some(Message::PublishDone(done)) = lone.said(stream).pop() else { panic!("no PUBLISH_DONE") };
            assert_eq!(done.streams, u64::from(filled));
        }
    }
}

#[test]
fn a_fill_is_one_whole_stream_that_the_subscription_names_and_counts() {
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.request(&asks(Parameters { fill: fill(), ..Parameters::default() }));
        let largest = Some(Location { group: 4, object: 0 });
        lone.session.accept_subscribe(RequestId(0), SubscribeOk { largest, ..SubscribeOk::default() });
        lone.drain();
        let asked = lone.events.iter().find_map(|event| if let Event::Fill(fill) = event { Some(*fill) } else { None });
        let item = Fetched::Object { object: object(4, 0, "frame"), datagram: false };
        lone.session.fill(asked.unwrap(), [item]);
        let unwritten = lone.session.unwritten();
        assert_eq!((lone.session.backlog(RequestId(0)), unwritten > 0), (0, true));
        lone.sent.clear();
        lone.drain();
        let (stream_of_fill, data) = lone
            .sent
            .iter()
            .find_map(|sent| match sent {
                Transmit::Data { stream, data } => Some((*stream, data.clone())),
                _ => None,
            })
            .unwrap();
        assert_eq!(data[..], [&[0x05, 0x00, 0x1c, 4, 0, 128, 5][..], b"frame"].concat(), "{draft:?}");
        assert!(lone.sent.contains(&Transmit::Finish { stream: stream_of_fill }));
        // A live object beside it is counted by itself.
        let subgroup = lone.session.open_subgroup(RequestId(0), &SubgroupHeader::default()).unwrap();
        lone.session.send_object(subgroup, &object(5, 0, "live"));
        let live = lone.session.backlog(RequestId(0));
        lone.session.handle_written(stream_of_fill, unwritten);
        assert_eq!((lone.session.backlog(RequestId(0)), lone.session.unwritten()), (live, live));
        lone.session.end_publication(RequestId(0), PublishDone { code: 2, streams: 0, reason: String::new() });
        lone.drain();
        let Some(Message::PublishDone(done)) = lone.said(stream).pop() else { panic!("no PUBLISH_DONE") };
        assert_eq!(done.streams, 2);
    }
}

#[test]
fn a_fill_ends_with_its_subscription() {
    for withdrawn in [true, false] {
        let mut lone = Lone::of(Draft::D22, Role::Server);
        let stream = lone.request(&asks(Parameters { fill: fill(), ..Parameters::default() }));
        let largest = Some(Location { group: 4, object: 0 });
        lone.session.accept_subscribe(RequestId(0), SubscribeOk { largest, ..SubscribeOk::default() });
        lone.drain();
        let asked = lone.events.iter().find_map(|event| if let Event::Fill(fill) = event { Some(*fill) } else { None });
        let item = Fetched::Object { object: object(4, 0, "frame"), datagram: false };
        lone.session.fill(asked.unwrap(), [item.clone()]);
        match withdrawn {
            true => lone.session.handle_reset(stream, 0, lone.now),
            false => {
                lone.session.end_publication(RequestId(0), PublishDone { code: 2, streams: 0, reason: String::new() });
            }
        }
        lone.sent.clear();
        lone.drain();
        // What PUBLISH_DONE counted still goes out.
        assert_eq!(lone.session.unwritten() == 0, withdrawn);
        // And what is over is not filled again.
        let before = lone.session.unwritten();
        lone.session.fill(asked.unwrap(), [item]);
        lone.session.fail_fill(asked.unwrap());
        assert_eq!((lone.session.unwritten(), lone.session.poll_transmit()), (before, None));
    }
}

/// Its stream names the update, and it begins where the answer says that the track is.
#[test]
fn an_update_may_ask_for_a_fill_too() {
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Server);
        let (stream, request) = (lone.request(&asks(Parameters::default())), RequestId(0));
        lone.session.accept_subscribe(request, SubscribeOk::default());
        lone.say(stream, &Message::RequestUpdate { id: 2, parameters: Parameters { fill: fill(), ..none() } });
        let filled = |lone: &mut Lone| {
            lone.drain();
            lone.events.iter().find_map(|event| if let Event::Fill(fill) = event { Some(*fill) } else { None })
        };
        assert_eq!(filled(&mut lone), None, "it is not accepted");
        let largest = Location { group: 5, object: 1 };
        lone.session.accept_update(request, UpdateOk { largest: Some(largest), expires: None });
        let asked = filled(&mut lone).unwrap();
        assert_eq!((asked.request, asked.range.1), (request, largest), "{draft:?}");
        lone.session.fail_fill(asked);
        lone.drain();
        let header = |sent: &Transmit| matches!(sent, Transmit::Data { data, .. } if data[..] == [0x05, 0x02]);
        assert!(lone.sent.iter().any(header), "{draft:?}");
    }
}

#[test]
fn filters_by_range_are_refused() {
    let range_filters = vec![RangeFilter { code: 0x26, value: vec![0, 1, 2].into() }];
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.request(&asks(Parameters { range_filters: range_filters.clone(), ..Parameters::default() }));
        assert_eq!(lone.refusal(stream), Some(RequestErrorCode::InvalidFilter as u64));
    }
}

#[test]
fn a_state_notify_informs_about_a_subscription_and_nothing_else() {
    let notify = |forward| Message::PublishStateNotify(Parameters { forward, ..Parameters::default() });
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Client);
        let request = lone.session.subscribe(subscribe("audio"));
        let stream = lone.opened();
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        lone.say(stream, &Message::SubscribeOk { alias: 0, parameters, properties });
        lone.say(stream, &notify(Some(false)));
        assert_eq!((request, lone.closed()), (RequestId(0), None));
        lone.session.publish_namespace(track("audio").namespace, Vec::new());
        let stream = lone.opened();
        lone.say(stream, &Message::RequestOk(RequestOk::default()));
        lone.say(stream, &notify(None));
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
    }
}

#[test]
fn updates_without_an_answer_are_bounded_as_announced() {
    for (draft, accepted) in STREAMED.into_iter().flat_map(|draft| [(draft, false), (draft, true)]) {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.request(&asks(Parameters::default()));
        if accepted {
            lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
        }
        for i in 0..=constants::EARLY_UPDATES as u64 {
            assert_eq!((lone.closed(), lone.refusal(stream)), (None, None));
            lone.say(stream, &Message::RequestUpdate { id: 2 * i + 2, parameters: Parameters::default() });
        }
        if draft != Draft::D18 {
            assert_eq!(lone.closed(), Some(CloseCode::TooManyRequestUpdates as u64), "{draft:?}");
            continue;
        }
        // No bound was announced: the request is refused, or ends.
        assert_eq!((lone.closed(), lone.events.last()), (None, Some(&Event::Cancelled { request: RequestId(0) })));
        let said = lone.said(stream);
        let refused = |said: &Message| matches!(said, Message::RequestError(e) if e.code == RequestErrorCode::ExcessiveLoad as u64);
        let done =
            |said: &Message| matches!(said, Message::PublishDone(d) if d.code == PublishDoneCode::UpdateFailed as u64);
        assert_eq!((said.iter().any(refused), said.iter().any(done)), (true, accepted), "{said:?}");
    }
}

/// Since draft 20 PUBLISH_OK can't say what the subscriber wants otherwise.
#[test]
fn a_publish_that_waits_is_woken_by_an_update() {
    for draft in NEWER {
        let mut lone = Lone::of(draft, Role::Server);
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        let properties = TrackProperties::default();
        let stream = lone.request(&Message::Publish { id: 0, track: track("audio"), alias: 1, parameters, properties });
        lone.session
            .accept_publish(RequestId(0), PublishOk { forward: true, priority: 128, filter: None, expires: None });
        let said = lone.said(stream);
        let [Message::RequestOk(ok), Message::RequestUpdate { parameters, .. }] = &said[..] else { panic!("{said:?}") };
        assert_eq!((ok, parameters.forward), (&RequestOk::default(), Some(true)));
        lone.say(stream, &Message::RequestOk(RequestOk::default()));
        assert_eq!(lone.closed(), None);
    }
}

#[test]
fn the_answer_to_a_publish_may_say_when_it_ends() {
    for draft in [Draft::D18, Draft::D20, Draft::D22] {
        let mut lone = Lone::of(draft, Role::Server);
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        let stream = lone.request(&Message::Publish { id: 0, track: track("audio"), alias: 1, parameters, properties });
        let expires = Some(std::time::Duration::from_secs(90));
        lone.session.accept_publish(RequestId(0), PublishOk { forward: true, priority: 128, filter: None, expires });
        let Some(Message::RequestOk(ok)) = lone.said(stream).into_iter().next() else { panic!("no REQUEST_OK") };
        assert_eq!(ok.parameters.expires, expires, "{draft:?}");
    }
}
