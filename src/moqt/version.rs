//! The drafts we speak, and what differs between them: one table per draft, one codec, one state machine.
//!
//! A codepoint that moves between drafts is a row of a [`Profile`]; code asks the profile by name and never compares numbers.

use super::message::{FilterForm, Kind};
use super::parameters::{Parameter, Scopes};

/// A MoQT draft. Only drafts that the tests cover are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Draft {
    /// What a session says of it is in draft 18's form; [`super::draft16`] gives it its bytes.
    D16,
    D18,
    D20,
    D22,
}

impl Draft {
    /// What a WebTransport peer speaks that names none: older browsers can't.
    pub const UNNAMED: Draft = Draft::D18;
    /// Every draft that the codec speaks.
    pub const ALL: [Draft; 4] = [Draft::D18, Draft::D20, Draft::D22, Draft::D16];
    /// The drafts that foreign peers agree with us on, the preferred one first.
    pub const ADVERTISED: [Draft; 4] = [Draft::D18, Draft::D22, Draft::D20, Draft::D16];

    /// The ALPN of raw QUIC, and the token of WebTransport's protocol list.
    pub fn alpn(self) -> &'static str {
        self.profile().alpn
    }

    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|draft| draft.alpn().as_bytes() == alpn)
    }

    /// Whether the publisher ends a subscription whose range is over (SUBSCRIPTION_ENDED).
    pub fn ends_subscriptions(self) -> bool {
        self.profile().subscription_ends
    }

    /// Whether a session has a track once (DUPLICATE_SUBSCRIPTION).
    pub fn subscribes_once(self) -> bool {
        self.profile().one_subscription
    }

    /// Whether SUBSCRIBE_NAMESPACE asks for tracks too, so that their prefixes are of one space (draft 16 §9.25).
    pub fn lists_in_one(self) -> bool {
        self == Self::D16
    }

    /// Whether a subscription brings what was before it by FILL_PARAMETERS; before, a FETCH joins it.
    pub fn fills_subscriptions(self) -> bool {
        self.profile().fills
    }

    pub(crate) fn profile(self) -> &'static Profile {
        match self {
            Draft::D16 => &D16,
            Draft::D18 => &D18,
            Draft::D20 => &D20,
            Draft::D22 => &D22,
        }
    }
}

/// Drafts in the order in which a client offers them and a server chooses among those it is offered. Never none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Drafts(Vec<Draft>);

impl Default for Drafts {
    fn default() -> Self {
        Self(Draft::ADVERTISED.to_vec())
    }
}

impl From<Draft> for Drafts {
    fn from(draft: Draft) -> Self {
        Self(vec![draft])
    }
}

impl Drafts {
    /// From numbers such as `18`; none of them means the default. The error names the remedy.
    pub fn from_numbers(numbers: &[String]) -> Result<Self, String> {
        let mut drafts = Vec::new();
        for number in numbers {
            let draft = Draft::from_alpn(format!("moqt-{number}").as_bytes());
            let draft = draft.filter(|draft| Draft::ADVERTISED.contains(draft) && !drafts.contains(draft));
            drafts.push(draft.ok_or_else(|| {
                let known: Vec<_> = Draft::ADVERTISED.into_iter().map(|draft| &draft.alpn()["moqt-".len()..]).collect();
                format!(
                    "{number:?} is no draft that is spoken here, or stands twice: choose among {}",
                    known.join(", ")
                )
            })?);
        }
        if drafts.is_empty() { Ok(Self::default()) } else { Ok(Self(drafts)) }
    }

    pub fn iter(&self) -> impl Iterator<Item = Draft> {
        self.0.iter().copied()
    }
}

/// What differs between drafts.
pub(crate) struct Profile {
    pub(crate) alpn: &'static str,
    pub(crate) messages: &'static [(u64, Kind)],
    /// Ascending by codepoint, the order in which parameters travel (§10.2).
    pub(crate) parameters: &'static [Row],
    /// Stream count of a PUBLISH_DONE whose sender lost count.
    pub(crate) unknown_stream_count: u64,
    pub(crate) filter: FilterForm,
    /// FETCH names its range by a filter, and the end of a range is its last object.
    pub(crate) fetch_by_filter: bool,
    /// GOAWAY on a control stream says which requests it leaves alone.
    pub(crate) goaway_has_request: bool,
    /// The answer to PUBLISH says what the subscriber wants; otherwise an update behind it does.
    pub(crate) publish_ok_subscribes: bool,
    /// A subscription ends with its filter's range (SUBSCRIPTION_ENDED).
    pub(crate) subscription_ends: bool,
    /// One subscription to a track per session (DUPLICATE_SUBSCRIPTION).
    pub(crate) one_subscription: bool,
    /// FIN of a requester withdraws its request.
    pub(crate) fin_cancels: bool,
    /// Range filters and the SETUP options that bound them and updates.
    pub(crate) has_range_filters: bool,
    /// FILL_PARAMETERS bring what was before a subscription; there is no joining FETCH.
    pub(crate) fills: bool,
}

/// A message parameter: its codepoint and the messages it may stand in.
pub(crate) struct Row {
    pub(crate) code: u64,
    pub(crate) parameter: Parameter,
    pub(crate) scopes: Scopes,
}

impl Profile {
    pub(crate) fn kind(&self, code: u64) -> Option<Kind> {
        self.messages.iter().find(|(row, _)| *row == code).map(|(_, kind)| *kind)
    }

    pub(crate) fn code(&self, kind: Kind) -> Option<u64> {
        self.messages.iter().find(|(_, row)| *row == kind).map(|(code, _)| *code)
    }

    pub(crate) fn parameter(&self, code: u64) -> Option<&Row> {
        self.parameters.iter().find(|row| row.code == code)
    }
}

const fn row(code: u64, parameter: Parameter, scopes: Scopes) -> Row {
    Row { code, parameter, scopes }
}

/// A subscription's subscriber speaks: the three messages that share most parameters.
const SUBSCRIBER: Scopes = Scopes::SUBSCRIBE.or(Scopes::PUBLISH_OK).or(Scopes::REQUEST_UPDATE);

/// Of all drafts with a stream for each request.
const MESSAGES: [(u64, Kind); 19] = [
    (0x02, Kind::RequestUpdate),
    (0x03, Kind::Subscribe),
    (0x04, Kind::SubscribeOk),
    (0x05, Kind::RequestError),
    (0x06, Kind::PublishNamespace),
    (0x07, Kind::RequestOk),
    (0x08, Kind::Namespace),
    (0x0b, Kind::PublishDone),
    (0x0d, Kind::TrackStatus),
    (0x0e, Kind::NamespaceDone),
    (0x0f, Kind::PublishBlocked),
    (0x10, Kind::GoAway),
    (0x16, Kind::Fetch),
    (0x18, Kind::FetchOk),
    (0x1d, Kind::Publish),
    (0x22, Kind::PublishStateNotify),
    (0x50, Kind::SubscribeNamespace),
    (0x51, Kind::SubscribeTracks),
    (0x2f00, Kind::Setup),
];

/// Without PUBLISH_STATE_NOTIFY.
const MESSAGES_18: [(u64, Kind); 18] = {
    let mut kept = [MESSAGES[0]; 18];
    let (mut from, mut to) = (0, 0);
    while from < MESSAGES.len() {
        if MESSAGES[from].0 != 0x22 {
            kept[to] = MESSAGES[from];
            to += 1;
        }
        from += 1;
    }
    kept
};

const PARAMETERS_18: [Row; 13] = [
    row(0x02, Parameter::ObjectDeliveryTimeout, SUBSCRIBER),
    row(0x03, Parameter::AuthorizationToken, Scopes::REQUESTS),
    row(0x04, Parameter::RendezvousTimeout, Scopes::SUBSCRIBE),
    row(0x06, Parameter::SubgroupDeliveryTimeout, SUBSCRIBER),
    row(
        0x08,
        Parameter::Expires,
        Scopes::SUBSCRIBE_OK.or(Scopes::PUBLISH).or(Scopes::PUBLISH_OK).or(Scopes::REQUEST_UPDATE_OK),
    ),
    row(
        0x09,
        Parameter::LargestObject,
        Scopes::SUBSCRIBE_OK.or(Scopes::PUBLISH).or(Scopes::REQUEST_UPDATE_OK).or(Scopes::TRACK_STATUS_OK),
    ),
    row(0x0a, Parameter::FillTimeout, Scopes::FETCH),
    row(0x10, Parameter::Forward, SUBSCRIBER.or(Scopes::PUBLISH).or(Scopes::SUBSCRIBE_TRACKS)),
    row(0x20, Parameter::SubscriberPriority, SUBSCRIBER.or(Scopes::FETCH)),
    row(0x21, Parameter::SubscriptionFilter, SUBSCRIBER),
    row(0x22, Parameter::GroupOrder, Scopes::SUBSCRIBE.or(Scopes::PUBLISH_OK).or(Scopes::FETCH)),
    row(0x32, Parameter::NewGroupRequest, SUBSCRIBER),
    row(0x34, Parameter::TrackNamespacePrefix, Scopes::REQUEST_UPDATE),
];

/// SUBSCRIBE_NAMESPACE may ask for PUBLISHes too.
const PARAMETERS_16: [Row; 13] = {
    let mut rows = PARAMETERS_18;
    let mut at = 0;
    while at < rows.len() {
        if rows[at].code == 0x10 {
            rows[at].scopes = rows[at].scopes.or(Scopes::SUBSCRIBE_NAMESPACE);
        }
        at += 1;
    }
    rows
};

const D18: Profile = Profile {
    alpn: "moqt-18",
    messages: &MESSAGES_18,
    parameters: &PARAMETERS_18,
    unknown_stream_count: (1 << 62) - 1,
    filter: FilterForm::Typed,
    fetch_by_filter: false,
    goaway_has_request: true,
    publish_ok_subscribes: true,
    subscription_ends: true,
    one_subscription: true,
    fin_cancels: true,
    has_range_filters: false,
    fills: false,
};

const D16: Profile = Profile { alpn: "moqt-16", parameters: &PARAMETERS_16, goaway_has_request: false, ..D18 };

/// What makes a subscription or changes it. SUBSCRIBE_TRACKS speaks for those to come.
const WISHES: Scopes = Scopes::SUBSCRIBE.or(Scopes::REQUEST_UPDATE).or(Scopes::SUBSCRIBE_TRACKS);

const PARAMETERS_20: &[Row] = &[
    row(0x02, Parameter::ObjectDeliveryTimeout, WISHES.or(Scopes::PUBLISH)),
    row(0x03, Parameter::AuthorizationToken, Scopes::REQUESTS),
    row(0x04, Parameter::RendezvousTimeout, Scopes::SUBSCRIBE.or(Scopes::SUBSCRIBE_TRACKS)),
    row(0x06, Parameter::SubgroupDeliveryTimeout, WISHES.or(Scopes::PUBLISH)),
    row(
        0x08,
        Parameter::Expires,
        Scopes::SUBSCRIBE_OK
            .or(Scopes::PUBLISH)
            .or(Scopes::PUBLISH_OK)
            .or(Scopes::REQUEST_UPDATE_OK)
            .or(Scopes::NAMESPACE_OK),
    ),
    row(
        0x09,
        Parameter::LargestObject,
        Scopes::SUBSCRIBE_OK
            .or(Scopes::PUBLISH)
            .or(Scopes::REQUEST_UPDATE_OK)
            .or(Scopes::TRACK_STATUS_OK)
            .or(Scopes::PUBLISH_STATE_NOTIFY),
    ),
    row(0x0a, Parameter::FillTimeout, Scopes::FETCH.or(Scopes::FILL)),
    row(0x10, Parameter::Forward, WISHES.or(Scopes::PUBLISH).or(Scopes::PUBLISH_STATE_NOTIFY)),
    row(0x20, Parameter::SubscriberPriority, WISHES.or(Scopes::PUBLISH).or(Scopes::FETCH).or(Scopes::FILL)),
    row(
        0x21,
        Parameter::SubscriptionFilter,
        WISHES.or(Scopes::PUBLISH).or(Scopes::FETCH).or(Scopes::FILL).or(Scopes::PUBLISH_STATE_NOTIFY),
    ),
    row(
        0x22,
        Parameter::GroupOrder,
        Scopes::SUBSCRIBE.or(Scopes::PUBLISH).or(Scopes::SUBSCRIBE_TRACKS).or(Scopes::FETCH).or(Scopes::FILL),
    ),
    row(0x23, Parameter::FillParameters, WISHES),
    row(0x25, Parameter::RangeFilter, WISHES.or(Scopes::FETCH).or(Scopes::FILL)),
    row(0x26, Parameter::RangeFilter, WISHES.or(Scopes::FETCH).or(Scopes::FILL)),
    row(0x27, Parameter::RangeFilter, WISHES.or(Scopes::FETCH).or(Scopes::FILL)),
    row(0x28, Parameter::RangeFilter, WISHES.or(Scopes::FETCH).or(Scopes::FILL)),
    row(0x29, Parameter::RangeFilter, Scopes::SUBSCRIBE_TRACKS.or(Scopes::REQUEST_UPDATE)),
    row(0x32, Parameter::NewGroupRequest, WISHES),
    row(0x34, Parameter::TrackNamespacePrefix, Scopes::REQUEST_UPDATE),
    row(
        0x35,
        Parameter::IncludeProperties,
        Scopes::SUBSCRIBE.or(Scopes::TRACK_STATUS).or(Scopes::FETCH).or(Scopes::SUBSCRIBE_TRACKS),
    ),
];

const D20: Profile = Profile {
    alpn: "moqt-20",
    messages: &MESSAGES,
    parameters: PARAMETERS_20,
    unknown_stream_count: u64::MAX,
    filter: FilterForm::Counted,
    fetch_by_filter: true,
    goaway_has_request: false,
    publish_ok_subscribes: false,
    subscription_ends: false,
    one_subscription: false,
    fin_cancels: false,
    has_range_filters: true,
    fills: true,
};

const D22: Profile = Profile { alpn: "moqt-22", filter: FilterForm::Bare, ..D20 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_draft_has_a_sound_table() {
        for draft in Draft::ALL {
            let profile = draft.profile();
            assert_eq!(Draft::from_alpn(profile.alpn.as_bytes()), Some(draft));
            assert!(profile.messages.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(profile.parameters.windows(2).all(|pair| pair[0].code < pair[1].code));
            for kind in Kind::ALL {
                let known = profile.code(kind).map(|code| profile.kind(code));
                let wanted = (kind != Kind::PublishStateNotify || profile.has_range_filters).then_some(Some(kind));
                assert_eq!(known, wanted, "{draft:?}");
            }
        }
        assert_eq!(Draft::from_alpn(b"moqt-17"), None);
    }

    #[test]
    fn the_order_of_drafts_can_be_chosen() {
        let numbers = |numbers: &[&str]| numbers.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(Drafts::from_numbers(&[]), Ok(Drafts::default()));
        let mut newest_first: Vec<Draft> = Draft::ADVERTISED.to_vec();
        newest_first.reverse();
        let names: Vec<&str> = newest_first.iter().map(|draft| &draft.alpn()[5..]).collect();
        assert_eq!(Drafts::from_numbers(&numbers(&names)), Ok(Drafts(newest_first)));
        for wrong in [&["19"][..], &["18", "18"], &["moqt-18"], &[""]] {
            let error = Drafts::from_numbers(&numbers(wrong)).unwrap_err();
            assert!(error.contains("18"), "{error}");
        }
    }
}
