//! Seeded values of everything that travels. Which parameter may stand in which message is written here by hand, from §10.2 of
//! the draft, so that the table in the code is checked as well.

use std::time::Duration;

use bytes::Bytes;
use clutchcall::moqt::message::{
    Fetch, FetchOk, Filter, GoAway, GroupOrder, Location, Message, Parameters, PublishBlocked, PublishDone, Redirect,
    RequestError, RequestOk, Setup, Token, TrackProperties,
};
use clutchcall::moqt::properties::Writer;
use clutchcall::moqt::{FullTrackName, Object, Status, SubgroupHeader, TrackNamespace};

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    /// Of every length that an integer can have.
    pub(crate) fn number(&mut self) -> u64 {
        let bits = 1 + self.below(61);
        self.next() >> (64 - bits)
    }

    pub(crate) fn bytes(&mut self, below: u64) -> Bytes {
        let len = self.below(below);
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, below: u64) -> String {
        let len = self.below(below);
        (0..len).map(|_| (b'!' + self.below(90) as u8) as char).collect()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flip().then(|| value(self))
    }

    fn millis(&mut self) -> Duration {
        Duration::from_millis(self.number())
    }

    fn namespace(&mut self) -> TrackNamespace {
        let count = self.below(6);
        let field = |rng: &mut Self| [rng.bytes(20), Bytes::from_static(b".")].concat();
        TrackNamespace::new((0..count).map(|_| field(self)).collect::<Vec<_>>()).unwrap()
    }

    fn track(&mut self) -> FullTrackName {
        FullTrackName::new(self.namespace(), self.bytes(30)).unwrap()
    }

    pub(crate) fn location(&mut self) -> Location {
        Location { group: self.number(), object: self.number() }
    }

    fn token(&mut self) -> Token {
        Token { kind: self.number(), value: self.bytes(200) }
    }

    fn filter(&mut self) -> Filter {
        let start = self.location();
        match self.below(4) {
            0 => Filter::NextGroupStart,
            1 => Filter::LargestObject,
            2 => Filter::AbsoluteStart(start),
            _ => Filter::AbsoluteRange { start, end_group: start.group + self.number() },
        }
    }

    fn order(&mut self) -> GroupOrder {
        if self.flip() { GroupOrder::Ascending } else { GroupOrder::Descending }
    }

    /// Key-value pairs of unknown meaning, ascending, some repeated.
    pub(crate) fn properties(&mut self) -> Bytes {
        let mut kind = 0x80;
        let mut writer = Writer::default();
        for _ in 0..self.below(4) {
            kind += self.below(5);
            writer = match kind % 2 {
                0 => writer.number(kind, self.number()),
                _ => writer.bytes(kind, &self.bytes(40)),
            };
        }
        writer.finish()
    }

    fn track_properties(&mut self) -> TrackProperties {
        TrackProperties(self.properties())
    }
}

fn tokens(rng: &mut Rng) -> Parameters {
    let count = rng.below(3);
    Parameters { tokens: (0..count).map(|_| rng.token()).collect(), ..Parameters::default() }
}

/// What a subscriber says of a subscription (SUBSCRIBE, PUBLISH_OK, REQUEST_UPDATE).
fn subscriber(rng: &mut Rng) -> Parameters {
    Parameters {
        object_delivery_timeout: rng.maybe(Rng::millis),
        subgroup_delivery_timeout: rng.maybe(Rng::millis),
        forward: rng.maybe(Rng::flip),
        priority: rng.maybe(|rng| rng.next() as u8),
        filter: rng.maybe(Rng::filter),
        new_group_request: rng.maybe(Rng::number),
        ..Parameters::default()
    }
}

fn setup(rng: &mut Rng) -> Setup {
    Setup {
        path: rng.maybe(|rng| rng.text(50)),
        authority: rng.maybe(|rng| rng.text(50)),
        tokens: tokens(rng).tokens,
        max_token_cache: rng.number(),
        implementation: rng.maybe(|rng| rng.text(50)),
    }
}

fn fetch(rng: &mut Rng) -> Fetch {
    let group = rng.number();
    match rng.below(3) {
        0 => Fetch::Standalone {
            track: rng.track(),
            start: Location { group, object: rng.number() },
            end: Location { group: group + 1 + rng.number(), object: rng.number() },
        },
        1 => Fetch::RelativeJoining { request: rng.number(), groups: group },
        _ => Fetch::AbsoluteJoining { request: rng.number(), group },
    }
}

fn refusal(rng: &mut Rng, code: u64) -> RequestError {
    RequestError { code, retry_after: rng.maybe(Rng::millis), reason: rng.text(100) }
}

/// One of the 18 messages, or a redirect.
pub(crate) fn message(rng: &mut Rng, which: u64) -> Message {
    let id = rng.number();
    match which % 19 {
        0 => Message::Setup(setup(rng)),
        1 => Message::GoAway {
            goaway: GoAway { uri: rng.text(100), timeout: rng.maybe(|rng| Duration::from_millis(1 + rng.number())) },
            request: rng.maybe(Rng::number),
        },
        2 => Message::RequestOk(RequestOk {
            parameters: Parameters { expires: rng.maybe(Rng::millis), ..subscriber(rng) },
            properties: TrackProperties::default(),
        }),
        3 => {
            let code = rng.below(0x34);
            Message::RequestError(refusal(rng, code))
        }
        4 => Message::Redirected {
            error: refusal(rng, 0x34),
            redirect: Redirect { uri: rng.text(60), track: rng.track() },
        },
        5 => Message::RequestUpdate {
            id,
            parameters: Parameters {
                tokens: tokens(rng).tokens,
                namespace_prefix: rng.maybe(Rng::namespace),
                ..subscriber(rng)
            },
        },
        6 => Message::Subscribe {
            id,
            track: rng.track(),
            parameters: Parameters {
                tokens: tokens(rng).tokens,
                rendezvous_timeout: rng.maybe(Rng::millis),
                group_order: rng.maybe(Rng::order),
                ..subscriber(rng)
            },
        },
        7 => Message::SubscribeOk { alias: id, parameters: described(rng), properties: rng.track_properties() },
        8 => Message::TrackStatus { id, track: rng.track(), parameters: tokens(rng) },
        9 => Message::Publish {
            id,
            track: rng.track(),
            alias: rng.number(),
            parameters: Parameters { tokens: tokens(rng).tokens, forward: rng.maybe(Rng::flip), ..described(rng) },
            properties: rng.track_properties(),
        },
        10 => Message::PublishDone(PublishDone { code: rng.below(10), streams: rng.number(), reason: rng.text(900) }),
        11 => Message::PublishBlocked(PublishBlocked { suffix: rng.namespace(), name: rng.bytes(30) }),
        12 => Message::Fetch {
            id,
            fetch: fetch(rng),
            parameters: Parameters {
                fill_timeout: rng.maybe(Rng::millis),
                priority: rng.maybe(|rng| rng.next() as u8),
                group_order: rng.maybe(Rng::order),
                ..tokens(rng)
            },
        },
        13 => Message::FetchOk(FetchOk {
            end_of_track: rng.flip(),
            end: rng.location(),
            parameters: Parameters::default(),
            properties: rng.track_properties(),
        }),
        14 => Message::PublishNamespace { id, namespace: rng.namespace(), parameters: tokens(rng) },
        15 => Message::SubscribeNamespace { id, prefix: rng.namespace(), parameters: tokens(rng) },
        16 => Message::SubscribeTracks {
            id,
            prefix: rng.namespace(),
            parameters: Parameters { forward: rng.maybe(Rng::flip), ..tokens(rng) },
        },
        17 => Message::Namespace(rng.namespace()),
        _ => Message::NamespaceDone(rng.namespace()),
    }
}

fn described(rng: &mut Rng) -> Parameters {
    Parameters { expires: rng.maybe(Rng::millis), largest: rng.maybe(Rng::location), ..Parameters::default() }
}

pub(crate) fn header(rng: &mut Rng) -> SubgroupHeader {
    SubgroupHeader {
        group: rng.number(),
        subgroup: if rng.flip() { 0 } else { rng.number() },
        priority: rng.maybe(|rng| rng.next() as u8),
        properties: rng.flip(),
        end_of_group: rng.flip(),
        first_object: rng.flip(),
    }
}

/// Objects that a stream with this header can say.
pub(crate) fn objects(rng: &mut Rng, header: &SubgroupHeader) -> Vec<Object> {
    let mut id = rng.number() >> 8;
    let count = rng.below(8);
    let mut next = |rng: &mut Rng| {
        id += 1 + (rng.number() >> 40);
        let object = Object { id, ..object(rng, header.properties) };
        Object { group: header.group, subgroup: header.subgroup, priority: header.priority, ..object }
    };
    (0..count).map(|_| next(rng)).collect()
}

/// An object without a place.
pub(crate) fn object(rng: &mut Rng, properties: bool) -> Object {
    let status = [Status::Normal, Status::Normal, Status::EndOfGroup, Status::EndOfTrack][rng.below(4) as usize];
    let normal = status == Status::Normal;
    Object {
        status,
        properties: if properties && normal { rng.properties() } else { Bytes::new() },
        payload: if normal { rng.bytes(400) } else { Bytes::new() },
        ..Object::default()
    }
}
