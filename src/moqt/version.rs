//! The drafts we speak, and what differs between them: one table per draft, one codec, one state machine.
//!
//! A codepoint that moves between drafts is a row of a [`Profile`]; code asks the profile by name and never compares numbers.

use super::message::Kind;
use super::parameters::{Parameter, Scopes};

/// A MoQT draft. Only drafts that the tests cover are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Draft {
    D18,
}

impl Draft {
    /// Every draft, newest first: the order in which a client offers them.
    pub const ALL: [Draft; 1] = [Draft::D18];

    /// The ALPN of raw QUIC, and the token of WebTransport's protocol list.
    pub fn alpn(self) -> &'static str {
        self.profile().alpn
    }

    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|draft| draft.alpn().as_bytes() == alpn)
    }

    pub(crate) fn profile(self) -> &'static Profile {
        match self {
            Draft::D18 => &D18,
        }
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

const D18: Profile = Profile {
    alpn: "moqt-18",
    messages: &[
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
        (0x50, Kind::SubscribeNamespace),
        (0x51, Kind::SubscribeTracks),
        (0x2f00, Kind::Setup),
    ],
    parameters: &[
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
    ],
    unknown_stream_count: (1 << 62) - 1,
};

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
                assert_eq!(profile.code(kind).and_then(|code| profile.kind(code)), Some(kind));
            }
        }
        assert_eq!(Draft::from_alpn(b"moqt-17"), None);
    }
}
