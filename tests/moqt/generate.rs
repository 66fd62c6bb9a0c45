//! Seeded values of everything that travels. Which parameter may stand in which message is written here by hand, from the
//! drafts' lists, so that the table in the code is checked as well.

use std::time::Duration;

use bytes::Bytes;
use clutchcall::moqt::message::{
    Fetch, FetchOk, Filter, GoAway, GroupOrder, Location, Message, Parameters, PublishBlocked, PublishDone,
    RangeFilter, Redirect, RequestError, RequestOk, Setup, Token, TrackProperties,
};
use clutchcall::moqt::properties::Writer;
use clutchcall::moqt::{Draft, FullTrackName, Object, Status, SubgroupHeader, TrackNamespace};

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

    fn filter(&mut self, draft: Draft) -> Filter {
        let start = self.location();
        let end_group = start.group + self.number();
        match self.below(if draft == Draft::D18 { 4 } else { 6 }) {
            0 => Filter::NextGroupStart,
            1 => Filter::LargestObject,
            2 => Filter::AbsoluteStart(start),
            3 => Filter::AbsoluteRange { start, end_group },
            4 => Filter::NewestGroups(1 + self.number()),
            _ => Filter::LocationRange {
                start,
                end: Location { group: end_group, object: start.object + self.number() },
            },
        }
    }

    /// Some filters by range, of codes up to `last`, ascending.
    fn ranges(&mut self, last: u64) -> Vec<RangeFilter> {
        let mut filters = Vec::new();
        for code in 0x25..=last {
            for set in 0..self.below(3) as u8 {
                let range = [1 + self.below(60) as u8, self.below(60) as u8];
                let property = if code >= 0x28 { &[0x10][..] } else { &[] };
                filters.push(RangeFilter { code, value: [&[set], property, &range].concat().into() });
            }
        }
        filters
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

/// What a subscriber says of a subscription (SUBSCRIBE, REQUEST_UPDATE, and PUBLISH_OK of draft 18).
fn subscriber(rng: &mut Rng, draft: Draft) -> Parameters {
    let parameters = Parameters {
        object_delivery_timeout: rng.maybe(Rng::millis),
        subgroup_delivery_timeout: rng.maybe(Rng::millis),
        forward: rng.maybe(Rng::flip),
        priority: rng.maybe(|rng| rng.next() as u8),
        filter: rng.maybe(|rng| rng.filter(draft)),
        new_group_request: rng.maybe(Rng::number),
        ..Parameters::default()
    };
    match draft {
        Draft::D18 => parameters,
        _ => Parameters {
            fill: rng.maybe(|rng| Box::new(fill(rng, draft))),
            range_filters: rng.ranges(0x28),
            ..parameters
        },
    }
}

fn fill(rng: &mut Rng, draft: Draft) -> Parameters {
    Parameters {
        fill_timeout: rng.maybe(Rng::millis),
        priority: rng.maybe(|rng| rng.next() as u8),
        filter: rng.maybe(|rng| rng.filter(draft)),
        group_order: rng.maybe(Rng::order),
        range_filters: rng.ranges(0x28),
        ..Parameters::default()
    }
}

fn setup(rng: &mut Rng, draft: Draft) -> Setup {
    let newer = |number| if draft == Draft::D18 { 0 } else { number };
    Setup {
        path: rng.maybe(|rng| rng.text(50)),
        authority: rng.maybe(|rng| rng.text(50)),
        tokens: tokens(rng).tokens,
        token_aliases: Vec::new(),
        max_token_cache: rng.number(),
        implementation: rng.maybe(|rng| rng.text(50)),
        max_filter_ranges: newer(rng.number()),
        max_request_updates: newer(rng.number()),
    }
}

fn fetch(rng: &mut Rng, draft: Draft) -> Fetch {
    let group = rng.number();
    let joins = draft == Draft::D18;
    match rng.below(3) {
        0 => Fetch::Standalone {
            track: rng.track(),
            start: Location { group, object: rng.number() },
            end: Location { group: group + 1 + rng.number(), object: rng.number() },
        },
        1 if joins => Fetch::RelativeJoining { request: rng.number(), groups: group },
        _ if joins => Fetch::AbsoluteJoining { request: rng.number(), group },
        1 => Fetch::Newest { track: rng.track(), groups: group },
        _ => {
            let start = if rng.flip() { Location::default() } else { rng.location() };
            Fetch::Standalone { track: rng.track(), start, end: Fetch::TO_LARGEST }
        }
    }
}

fn refusal(rng: &mut Rng, code: u64) -> RequestError {
    RequestError { code, retry_after: rng.maybe(Rng::millis), reason: rng.text(100) }
}

/// Draft 16 has messages of its own.
pub(crate) const DRAFTS: [Draft; 3] = [Draft::D18, Draft::D20, Draft::D22];

/// Kinds of [`message`].
pub(crate) const KINDS: u64 = 20;

/// One of the messages, or a redirect.
pub(crate) fn message(rng: &mut Rng, draft: Draft, which: u64) -> Message {
    let id = rng.number();
    let is_18 = draft == Draft::D18;
    match which % KINDS {
        0 => Message::Setup(setup(rng, draft)),
        1 => Message::GoAway {
            goaway: GoAway { uri: rng.text(100), timeout: rng.maybe(|rng| Duration::from_millis(1 + rng.number())) },
            request: rng.maybe(Rng::number).filter(|_| is_18),
        },
        2 => {
            let parameters = if is_18 { subscriber(rng, draft) } else { described(rng) };
            let parameters = Parameters { expires: rng.maybe(Rng::millis), ..parameters };
            Message::RequestOk(RequestOk { parameters, properties: TrackProperties::default() })
        }
        3 => {
            // DUPLICATE_SUBSCRIPTION is gone.
            let code = Some(rng.below(0x34)).filter(|code| is_18 || *code != 0x19).unwrap_or(0x36);
            Message::RequestError(refusal(rng, code))
        }
        4 => Message::Redirected {
            error: refusal(rng, 0x34),
            redirect: Redirect { uri: rng.text(60), track: rng.track() },
        },
        7 => Message::SubscribeOk { alias: id, parameters: described(rng), properties: rng.track_properties() },
        10 => Message::PublishDone(PublishDone { code: rng.below(10), streams: rng.number(), reason: rng.text(900) }),
        11 => Message::PublishBlocked(PublishBlocked { suffix: rng.namespace(), name: rng.bytes(30) }),
        13 => Message::FetchOk(FetchOk {
            end_of_track: rng.flip(),
            end: rng.location(),
            parameters: Parameters::default(),
            properties: rng.track_properties(),
        }),
        14 => Message::PublishNamespace { id, namespace: rng.namespace(), parameters: tokens(rng) },
        15 => Message::SubscribeNamespace { id, prefix: rng.namespace(), parameters: tokens(rng) },
        17 => Message::Namespace(rng.namespace()),
        18 if !is_18 => Message::PublishStateNotify(Parameters {
            largest: rng.maybe(Rng::location),
            forward: rng.maybe(Rng::flip),
            filter: rng.maybe(|rng| rng.filter(draft)),
            ..Parameters::default()
        }),
        18 | 19 => Message::NamespaceDone(rng.namespace()),
        which => about_tracks(rng, draft, which, id),
    }
}

/// The requests whose parameters are many.
fn about_tracks(rng: &mut Rng, draft: Draft, which: u64, id: u64) -> Message {
    let newer = |rng: &mut Rng| rng.maybe(Rng::flip).filter(|_| draft != Draft::D18);
    match which {
        5 => Message::RequestUpdate {
            id,
            parameters: Parameters {
                tokens: tokens(rng).tokens,
                namespace_prefix: rng.maybe(Rng::namespace),
                ..subscriber(rng, draft)
            },
        },
        6 => Message::Subscribe {
            id,
            track: rng.track(),
            parameters: Parameters {
                tokens: tokens(rng).tokens,
                rendezvous_timeout: rng.maybe(Rng::millis),
                group_order: rng.maybe(Rng::order),
                include_properties: newer(rng),
                ..subscriber(rng, draft)
            },
        },
        8 => {
            let parameters = Parameters { include_properties: newer(rng), ..tokens(rng) };
            Message::TrackStatus { id, track: rng.track(), parameters }
        }
        9 => Message::Publish {
            id,
            track: rng.track(),
            alias: rng.number(),
            parameters: published(rng, draft),
            properties: rng.track_properties(),
        },
        12 => Message::Fetch {
            id,
            fetch: fetch(rng, draft),
            parameters: Parameters {
                fill_timeout: rng.maybe(Rng::millis),
                priority: rng.maybe(|rng| rng.next() as u8),
                group_order: rng.maybe(Rng::order),
                include_properties: newer(rng),
                range_filters: if draft == Draft::D18 { Vec::new() } else { rng.ranges(0x28) },
                ..tokens(rng)
            },
        },
        _ => Message::SubscribeTracks { id, prefix: rng.namespace(), parameters: wanted_tracks(rng, draft) },
    }
}

fn published(rng: &mut Rng, draft: Draft) -> Parameters {
    let parameters = Parameters { tokens: tokens(rng).tokens, forward: rng.maybe(Rng::flip), ..described(rng) };
    if draft == Draft::D18 {
        return parameters;
    }
    Parameters {
        object_delivery_timeout: rng.maybe(Rng::millis),
        subgroup_delivery_timeout: rng.maybe(Rng::millis),
        priority: rng.maybe(|rng| rng.next() as u8),
        filter: rng.maybe(|rng| rng.filter(draft)),
        group_order: rng.maybe(Rng::order),
        ..parameters
    }
}

fn wanted_tracks(rng: &mut Rng, draft: Draft) -> Parameters {
    let parameters = Parameters { forward: rng.maybe(Rng::flip), ..tokens(rng) };
    if draft == Draft::D18 {
        return parameters;
    }
    Parameters {
        group_order: rng.maybe(Rng::order),
        filter: rng.maybe(|rng| rng.filter(draft)),
        fill: rng.maybe(|rng| Box::new(fill(rng, draft))),
        range_filters: rng.ranges(0x29),
        include_properties: rng.maybe(Rng::flip),
        ..parameters
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
