//! Draft 16 under a session: its one control stream, its credit of ids, and its words for what ends.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::pair::{self, Conditions, Pair, Rng};
use super::smoke::{object, subscribe, subscribed, track};
use crate::moqt::draft16::{Control, Withdrawal};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{
    Fetch, FetchOk, Filter, GroupOrder, Location, Message, Parameters, RequestError, RequestOk, Setup, TrackProperties,
};
use crate::moqt::session::{Config, Dir, Event, RequestId, Role, Session, StreamId, Transmit, constants};
use crate::moqt::{CloseCode, Draft, RequestErrorCode, SubgroupHeader};

/// A session, and what it said on its control stream.
struct Lone {
    session: Session,
    now: Instant,
    control: StreamId,
    said: BytesMut,
    closed: Option<u64>,
}

impl Lone {
    fn new(role: Role, max_request: u64) -> Self {
        let now = Instant::now();
        let mut session = Session::new(Config { draft: Draft::D16, ..pair::config(role) }, now);
        let control = match role {
            Role::Client => match session.poll_transmit() {
                Some(Transmit::Open { stream, dir: Dir::Bi, .. }) => stream,
                other => panic!("{other:?}"),
            },
            Role::Server => session.accept_stream(Dir::Bi),
        };
        let mut lone = Self { session, now, control, said: BytesMut::new(), closed: None };
        lone.hear(&Control::Setup { from_client: role == Role::Server, setup: Setup::default(), max_request });
        assert!(matches!(lone.said()[..], [Control::Setup { max_request: 1.., .. }]));
        lone
    }

    fn hear(&mut self, control: &Control) {
        let mut data = BytesMut::new();
        control.encode(&mut data).unwrap();
        self.session.handle_data(self.control, data.freeze(), false, self.now);
    }

    fn said(&mut self) -> Vec<Control> {
        while let Some(transmit) = self.session.poll_transmit() {
            match transmit {
                Transmit::Data { stream, data } if stream == self.control => self.said.extend_from_slice(&data),
                Transmit::Close { code, .. } => self.closed = Some(code),
                _ => {}
            }
        }
        let mut bytes = self.said.split().freeze();
        std::iter::from_fn(|| {
            let (control, taken) = Control::decode(&bytes).unwrap()?;
            let _ = bytes.split_to(taken);
            Some(control)
        })
        .collect()
    }

    fn closed(&mut self) -> Option<u64> {
        self.said();
        self.closed
    }
}

fn asked(id: u64) -> Control {
    Control::Request(Message::Subscribe { id, track: track("audio"), parameters: Parameters::default() })
}

fn id_of(control: &Control) -> Option<u64> {
    match control {
        Control::Request(Message::Subscribe { id, .. }) => Some(*id),
        _ => None,
    }
}

#[test]
fn requests_wait_for_their_credit() {
    let mut lone = Lone::new(Role::Client, 2);
    for name in ["a", "b", "c"] {
        lone.session.subscribe(subscribe(name));
    }
    let said = lone.said();
    assert_eq!(said.iter().filter_map(id_of).collect::<Vec<_>>(), [0]);
    assert!(said.contains(&Control::RequestsBlocked(2)));
    lone.hear(&Control::MaxRequestId(6));
    assert_eq!(lone.said().iter().filter_map(id_of).collect::<Vec<_>>(), [2, 4]);
    lone.hear(&Control::MaxRequestId(6));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn credit_is_given_as_it_is_used_and_no_further() {
    let mut lone = Lone::new(Role::Server, 100);
    for request in 0..4000 {
        lone.hear(&asked(2 * request));
        lone.hear(&Control::Withdraw { request: 2 * request, kind: Withdrawal::Unsubscribe });
    }
    let granted = lone.said().iter().filter(|said| matches!(said, Control::MaxRequestId(_))).count();
    assert!((2..100).contains(&granted), "{granted}");
    assert!(lone.session.is_idle());
    lone.hear(&asked(1 << 30));
    assert_eq!(lone.closed(), Some(CloseCode::TooManyRequests as u64));
}

#[test]
fn what_is_withdrawn_is_called_by_its_name() {
    let mut lone = Lone::new(Role::Client, 100);
    let subscription = lone.session.subscribe(subscribe("audio"));
    let announcement = lone.session.publish_namespace(track("audio").namespace, Vec::new());
    lone.said();
    lone.session.cancel(subscription);
    lone.session.cancel(announcement);
    let withdrawn = |request: RequestId, kind| Control::Withdraw { request: request.0, kind };
    let wanted =
        [withdrawn(subscription, Withdrawal::Unsubscribe), withdrawn(announcement, Withdrawal::PublishNamespaceDone)];
    assert_eq!(lone.said(), wanted);
    // A late answer is nobody's.
    lone.hear(&Control::Answer { to: 0, answer: Message::RequestOk(Default::default()) });
    assert_eq!((lone.closed(), lone.session.is_idle()), (None, true));
}

fn range() -> Fetch {
    let (start, end) = (Location::default(), Location { group: 9, object: 0 });
    Fetch::Standalone { track: track("audio"), start, end }
}

fn fetch(id: u64) -> Control {
    Control::Request(Message::Fetch { id, fetch: range(), parameters: Parameters::default() })
}

/// By a client, which serves none; and by a server whose application says no.
#[test]
fn a_fetch_is_refused_in_one_answer() {
    for (role, id) in [(Role::Client, 1), (Role::Server, 0)] {
        let mut lone = Lone::new(role, 100);
        lone.hear(&fetch(id));
        if role == Role::Server {
            let asked = std::iter::from_fn(|| lone.session.poll_event()).last();
            assert!(matches!(asked, Some(Event::Fetch { .. })), "{asked:?}");
            lone.session.reject(RequestId(0), RequestError::new(RequestErrorCode::NotSupported, "no"));
        }
        let said = lone.said();
        let [Control::Answer { to, answer: Message::RequestError(error) }] = &said[..] else { panic!("{said:?}") };
        assert_eq!((*to, error.code), (id, RequestErrorCode::NotSupported as u64));
        assert!(lone.session.is_idle());
    }
}

#[test]
fn a_fetch_is_cancelled_by_its_own_word_both_ways() {
    let mut lone = Lone::new(Role::Client, 100);
    let request = lone.session.fetch(range(), None, Vec::new());
    assert_eq!(lone.said(), [fetch(request.0)]);
    lone.session.cancel(request);
    assert_eq!(lone.said(), [Control::Withdraw { request: request.0, kind: Withdrawal::FetchCancel }]);
    let mut lone = Lone::new(Role::Server, 100);
    lone.hear(&fetch(0));
    let ok = FetchOk {
        end_of_track: false,
        end: Location::default(),
        parameters: Parameters::default(),
        properties: TrackProperties::default(),
    };
    let item = Fetched::Object { object: object(0, 0, "x"), datagram: false };
    lone.session.answer_fetch(RequestId(0), ok.clone(), [item]);
    assert_eq!(lone.said(), [Control::Answer { to: 0, answer: Message::FetchOk(ok) }]);
    assert!(lone.session.unwritten() > 0);
    lone.hear(&Control::Withdraw { request: 0, kind: Withdrawal::FetchCancel });
    let last = std::iter::from_fn(|| lone.session.poll_event()).last();
    assert_eq!((last, lone.session.unwritten()), (Some(Event::Cancelled { request: RequestId(0) }), 0));
    assert_eq!((lone.said(), lone.closed(), lone.session.is_idle()), (vec![], None, true));
}

/// §9.2.2: a parameter in a message that it is not for is ignored. aiomoqt's relay says GROUP_ORDER in FETCH_OK.
#[test]
fn a_parameter_that_stands_in_the_wrong_answer_is_ignored() {
    let mut lone = Lone::new(Role::Client, 100);
    let request = lone.session.fetch(range(), None, Vec::new());
    let subscription = lone.session.subscribe(subscribe("audio"));
    lone.said();
    let misplaced =
        || Parameters { group_order: Some(GroupOrder::Ascending), forward: Some(true), ..Parameters::default() };
    let (end, properties) = (Location { group: 3, object: 1 }, TrackProperties::default());
    let ok = FetchOk { end_of_track: false, end, parameters: misplaced(), properties: properties.clone() };
    lone.hear(&Control::Answer { to: request.0, answer: Message::FetchOk(ok.clone()) });
    let largest = Some(end);
    let answer = Message::SubscribeOk { alias: 0, parameters: Parameters { largest, ..misplaced() }, properties };
    lone.hear(&Control::Answer { to: subscription.0, answer });
    let heard: Vec<_> = std::iter::from_fn(|| lone.session.poll_event()).collect();
    let plain = Box::new(FetchOk { parameters: Parameters::default(), ..ok });
    assert!(heard.contains(&Event::FetchOk { request, ok: plain }), "{heard:?}");
    let accepted = |event: &Event| matches!(event, Event::SubscribeOk { ok, .. } if ok.largest == largest);
    assert!(heard.iter().any(accepted), "{heard:?}");
    assert_eq!(lone.closed(), None);
}

/// The same of requests, updates and their answers: neither side closes, and nothing of it counts.
#[test]
fn a_parameter_that_stands_in_the_wrong_message_is_ignored_wherever_it_stands() {
    let everything = || Parameters {
        object_delivery_timeout: Some(Duration::from_secs(1)),
        expires: Some(Duration::from_secs(60)),
        largest: Some(Location { group: 9, object: 9 }),
        forward: Some(false),
        priority: Some(7),
        filter: Some(Filter::LargestObject),
        group_order: Some(GroupOrder::Descending),
        new_group_request: Some(3),
        ..Parameters::default()
    };
    let (name, namespace) = (track("audio"), track("audio").namespace);
    let mut lone = Lone::new(Role::Server, 100);
    let properties = TrackProperties::default();
    let asked = [
        Message::Subscribe { id: 0, track: name.clone(), parameters: everything() },
        Message::Publish { id: 2, track: track("up"), alias: 5, parameters: everything(), properties },
        Message::PublishNamespace { id: 4, namespace, parameters: everything() },
        Message::TrackStatus { id: 6, track: name.clone(), parameters: everything() },
        Message::Fetch { id: 8, fetch: range(), parameters: everything() },
    ];
    asked.into_iter().for_each(|message| lone.hear(&Control::Request(message)));
    let update = Message::RequestUpdate { id: 10, parameters: everything() };
    lone.hear(&Control::Update { of: 0, update });
    assert_eq!(lone.closed(), None);
    let heard: Vec<_> = std::iter::from_fn(|| lone.session.poll_event()).collect();
    assert_eq!(heard.len(), 1 + 5 + 1, "SETUP, five requests, and the update: {heard:?}");
    let mut lone = Lone::new(Role::Client, 100);
    let published = lone.session.publish(name.clone(), TrackProperties::default(), Vec::new());
    let announced = lone.session.publish_namespace(name.namespace.clone(), Vec::new());
    let status = lone.session.track_status(subscribe("audio"));
    let said = lone.said();
    let ok = || RequestOk { parameters: everything(), ..RequestOk::default() };
    lone.hear(&Control::PublishOk { to: published.0, ok: ok() });
    for to in [announced, status] {
        lone.hear(&Control::Answer { to: to.0, answer: Message::RequestOk(ok()) });
    }
    assert_eq!((said.len(), lone.closed()), (3, None));
    let heard: Vec<_> = std::iter::from_fn(|| lone.session.poll_event()).collect();
    let status =
        heard.iter().find_map(|event| if let Event::TrackStatusOk { ok, .. } = event { Some(ok) } else { None });
    let status = status.expect("it was answered");
    assert_eq!((status.largest, status.expires), (everything().largest, None));
    assert!(heard.contains(&Event::RequestOk { request: announced }), "{heard:?}");
    // What this draft does not know at all closes.
    let mut lone = Lone::new(Role::Server, 100);
    let unknown = Bytes::from_static(&[0x06, 0, 7, 0, 1, 1, b'a', 1, 0x04, 1]);
    lone.session.handle_data(lone.control, unknown, false, lone.now);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

/// DATA_STREAM_TIMEOUT: what the layer holds is looked at as in later drafts.
#[test]
fn what_a_data_stream_began_it_ends_in_time() {
    const STEP: Duration = constants::DATA_TIMEOUT;
    // SUBGROUP_HEADER of alias 7, group 0, priority 128; two objects of five bytes.
    let whole = Bytes::from_static(b"\x10\x07\x00\x80\x00\x05whole\x00\x05again");
    for (bytes, stalls) in [(1, true), (6, true), (whole.len() - 2, true), (11, false), (whole.len(), false)] {
        let mut lone = Lone::new(Role::Client, 100);
        let request = lone.session.subscribe(subscribe("audio"));
        lone.said();
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        let answer = Message::SubscribeOk { alias: 7, parameters, properties };
        lone.hear(&Control::Answer { to: request.0, answer });
        let stream = lone.session.accept_stream(Dir::Uni);
        lone.session.handle_data(stream, whole.slice(..bytes), false, lone.now);
        for (time, over) in [(STEP, false), (STEP * 2 - Duration::from_millis(1), false), (STEP * 2, stalls)] {
            lone.session.handle_timeout(lone.now + time);
            let code = over.then_some(CloseCode::DataStreamTimeout as u64);
            assert_eq!(lone.closed(), code, "{bytes} bytes after {time:?}");
        }
    }
}

#[test]
fn what_does_not_belong_on_the_control_stream_closes() {
    for wrong in [
        Control::Setup { from_client: true, setup: Setup::default(), max_request: 0 },
        Control::Namespace(track("audio").namespace),
        Control::GoAway("moqt://elsewhere".into()),
    ] {
        let mut lone = Lone::new(Role::Server, 100);
        lone.hear(&wrong);
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64), "{wrong:?}");
    }
}

/// What the link wrote is no backlog any more, though other bytes were written than the session counts.
#[test]
fn the_backlog_empties() {
    let mut pair = Pair::new(Conditions { draft: Draft::D16, ..Conditions::default() });
    let request = subscribed(&mut pair, "audio");
    pair.stall(Role::Server, true);
    let subgroup =
        pair.server.open_subgroup(request, &SubgroupHeader { group: 1 << 40, ..Default::default() }).unwrap();
    (0..50).for_each(|id| pair.server.send_object(subgroup, &object(1 << 40, id, "frame")));
    pair.settle();
    assert!(pair.server.backlog(request) > 50 * 5);
    pair.stall(Role::Server, false);
    pair.settle();
    assert_eq!(pair.server.backlog(request), 0);
    assert_eq!(pair.client_events.iter().filter(|event| matches!(event, Event::Object { .. })).count(), 50);
}

#[test]
fn spoiled_bytes_never_panic() {
    for seed in 0..3000 {
        let mut rng = Rng(seed);
        let mut lone = Lone::new(if seed % 2 == 0 { Role::Server } else { Role::Client }, 100);
        lone.session.subscribe(subscribe("audio"));
        for _ in 0..8 {
            let mut data = BytesMut::new();
            let _ = asked(2 * rng.below(8)).encode(&mut data);
            let at = rng.below(data.len() as u64) as usize;
            data[at] = rng.next() as u8;
            let stream = match rng.below(4) {
                0 => lone.session.accept_stream(Dir::Uni),
                1 => lone.session.accept_stream(Dir::Bi),
                _ => lone.control,
            };
            let data = if rng.below(3) == 0 { rng.bytes(30) } else { data.freeze() };
            lone.session.handle_data(stream, data, rng.below(9) == 0, lone.now);
            lone.session.handle_datagram(rng.bytes(20), lone.now);
            if rng.below(5) == 0 {
                lone.session.handle_reset(stream, 4, lone.now);
            }
            lone.session.handle_written(lone.control, rng.below(99) as usize);
        }
        while lone.session.poll_transmit().is_some() || lone.session.poll_event().is_some() {}
    }
}

/// Refusals are words too, and a peer that asks for ever without reading would have us hold them all.
#[test]
fn a_peer_that_reads_no_answer_is_left() {
    let mut lone = Lone::new(Role::Server, 0);
    let start = Location { group: 1, object: 0 };
    let fetch = Fetch::Standalone { track: track("audio"), start, end: Location { group: 2, object: 0 } };
    for id in (0..200_000).step_by(2) {
        lone.hear(&Control::Request(Message::Fetch { id, fetch: fetch.clone(), parameters: Parameters::default() }));
        if lone.closed().is_some() {
            break;
        }
    }
    assert_eq!(lone.closed(), Some(CloseCode::InternalError as u64));
}
