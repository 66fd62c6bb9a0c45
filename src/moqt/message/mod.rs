//! Control messages (§10): plain values, and the frame `type, length, body` that carries them.
//!
//! [`Message`] is what stands on a control or request stream, request ids and aliases included; the nouns inside
//! ([`Subscribe`], [`Publish`], …) are what the session shows to its application. Decoding never copies byte fields, never
//! panics, and takes nothing that the draft forbids: a body has exactly the bytes of its fields.
//! Encoding takes any value; what can't be said in 65535 bytes is [`TooLong`].

mod fetch;
mod filter;
mod namespace;
mod publish;
mod reply;
mod setup;
mod subscribe;
mod update;

use bytes::{Bytes, BytesMut};

pub use super::authorization::Token;
pub use super::parameters::{DEFAULT_PRIORITY, Parameters, RangeFilter, Scopes};
pub use fetch::{Fetch, FetchOk};
pub use filter::Filter;
pub(crate) use filter::Form as FilterForm;
pub use namespace::PublishBlocked;
pub use publish::{Publish, PublishDone, PublishOk, Wishes};
pub use reply::{GoAway, MAX_REASON, MAX_URI, Redirect, RequestError, RequestOk};
pub use setup::Setup;
pub use subscribe::{GroupOrder, Location, Subscribe, SubscribeOk, TrackProperties};
pub use update::{Update, UpdateOk};

use super::codec::{Read, Reader, whole};
use super::error::Violation;
use super::name::{FullTrackName, TrackNamespace};
use super::varint;
use super::version::{Draft, Profile};

/// Longest body (§10): its length travels in 16 bits.
pub const MAX_BODY: usize = 65_535;

/// One message of a control or request stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Setup(Setup),
    /// `request` stands on the control stream only (§10.4).
    GoAway {
        goaway: GoAway,
        request: Option<u64>,
    },
    RequestOk(RequestOk),
    RequestError(RequestError),
    /// `redirect` belongs to the code REDIRECT and to no other.
    Redirected {
        error: RequestError,
        redirect: Redirect,
    },
    RequestUpdate {
        id: u64,
        parameters: Parameters,
    },
    Subscribe {
        id: u64,
        track: FullTrackName,
        parameters: Parameters,
    },
    SubscribeOk {
        alias: u64,
        parameters: Parameters,
        properties: TrackProperties,
    },
    TrackStatus {
        id: u64,
        track: FullTrackName,
        parameters: Parameters,
    },
    Publish {
        id: u64,
        track: FullTrackName,
        alias: u64,
        parameters: Parameters,
        properties: TrackProperties,
    },
    PublishDone(PublishDone),
    /// What the publisher changed by itself (since draft 20); nobody answers it.
    PublishStateNotify(Parameters),
    PublishBlocked(PublishBlocked),
    Fetch {
        id: u64,
        fetch: Fetch,
        parameters: Parameters,
    },
    FetchOk(FetchOk),
    PublishNamespace {
        id: u64,
        namespace: TrackNamespace,
        parameters: Parameters,
    },
    SubscribeNamespace {
        id: u64,
        prefix: TrackNamespace,
        parameters: Parameters,
    },
    SubscribeTracks {
        id: u64,
        prefix: TrackNamespace,
        parameters: Parameters,
    },
    /// The suffix of a namespace that began to be published.
    Namespace(TrackNamespace),
    NamespaceDone(TrackNamespace),
}

/// The messages by name; their codepoints are rows of the draft's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Setup,
    GoAway,
    RequestOk,
    RequestError,
    RequestUpdate,
    Subscribe,
    SubscribeOk,
    TrackStatus,
    Publish,
    PublishDone,
    PublishStateNotify,
    /// PUBLISH_SKIPPED since draft 20.
    PublishBlocked,
    Fetch,
    FetchOk,
    PublishNamespace,
    SubscribeNamespace,
    SubscribeTracks,
    Namespace,
    NamespaceDone,
}

/// A message that does not fit into [`MAX_BODY`] bytes, or that the draft does not have. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message does not fit into 65535 bytes: shorten names, tokens or properties")]
pub struct TooLong;

impl Kind {
    pub const ALL: [Kind; 19] = [
        Self::Setup,
        Self::GoAway,
        Self::RequestOk,
        Self::RequestError,
        Self::RequestUpdate,
        Self::Subscribe,
        Self::SubscribeOk,
        Self::TrackStatus,
        Self::Publish,
        Self::PublishDone,
        Self::PublishStateNotify,
        Self::PublishBlocked,
        Self::Fetch,
        Self::FetchOk,
        Self::PublishNamespace,
        Self::SubscribeNamespace,
        Self::SubscribeTracks,
        Self::Namespace,
        Self::NamespaceDone,
    ];
}

impl Message {
    /// The Request ID of a message that begins a request (§10.1).
    pub(crate) fn asks(&self) -> Option<u64> {
        match self {
            Self::Subscribe { id, .. }
            | Self::TrackStatus { id, .. }
            | Self::Publish { id, .. }
            | Self::Fetch { id, .. }
            | Self::PublishNamespace { id, .. }
            | Self::SubscribeNamespace { id, .. }
            | Self::SubscribeTracks { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Those of a message that asks for something.
    pub(crate) fn asking_parameters(&mut self) -> Option<&mut Parameters> {
        match self {
            Self::RequestUpdate { parameters, .. }
            | Self::Subscribe { parameters, .. }
            | Self::TrackStatus { parameters, .. }
            | Self::Publish { parameters, .. }
            | Self::Fetch { parameters, .. }
            | Self::PublishNamespace { parameters, .. }
            | Self::SubscribeNamespace { parameters, .. }
            | Self::SubscribeTracks { parameters, .. } => Some(parameters),
            _ => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Setup(_) => Kind::Setup,
            Self::GoAway { .. } => Kind::GoAway,
            Self::RequestOk(_) => Kind::RequestOk,
            Self::RequestError(_) | Self::Redirected { .. } => Kind::RequestError,
            Self::RequestUpdate { .. } => Kind::RequestUpdate,
            Self::Subscribe { .. } => Kind::Subscribe,
            Self::SubscribeOk { .. } => Kind::SubscribeOk,
            Self::TrackStatus { .. } => Kind::TrackStatus,
            Self::Publish { .. } => Kind::Publish,
            Self::PublishDone(_) => Kind::PublishDone,
            Self::PublishStateNotify(_) => Kind::PublishStateNotify,
            Self::PublishBlocked(_) => Kind::PublishBlocked,
            Self::Fetch { .. } => Kind::Fetch,
            Self::FetchOk(_) => Kind::FetchOk,
            Self::PublishNamespace { .. } => Kind::PublishNamespace,
            Self::SubscribeNamespace { .. } => Kind::SubscribeNamespace,
            Self::SubscribeTracks { .. } => Kind::SubscribeTracks,
            Self::Namespace(_) => Kind::Namespace,
            Self::NamespaceDone(_) => Kind::NamespaceDone,
        }
    }

    /// The message at the start of `bytes` and the bytes it took. `None`: the rest has not arrived.
    pub fn decode(draft: Draft, bytes: &Bytes) -> Result<Option<(Self, usize)>, Violation> {
        let profile = draft.profile();
        let mut reader = Reader::new(bytes);
        let Ok(code) = reader.varint() else { return Ok(None) };
        // Known before the body is there, so that nothing is held for a message that nobody understands.
        let kind = profile.kind(code).ok_or(Violation::protocol("an unknown message type"))?;
        let Ok(length) = reader.u16() else { return Ok(None) };
        let Ok(body) = reader.bytes(usize::from(length)) else { return Ok(None) };
        Ok(Some((Self::decode_body(profile, kind, &body)?, reader.position())))
    }

    fn decode_body(profile: &Profile, kind: Kind, body: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let message = whole(Self::read(profile, kind, &mut reader))?;
        if reader.is_empty() { Ok(message) } else { Err(Violation::protocol("a message longer than its fields")) }
    }

    fn read(profile: &Profile, kind: Kind, reader: &mut Reader<'_>) -> Read<Self> {
        match kind {
            Kind::Setup => Ok(Self::Setup(Setup::decode(reader, profile)?)),
            Kind::GoAway => reply::decode_goaway(reader, profile),
            Kind::RequestOk => RequestOk::decode(reader, profile).map(Self::RequestOk),
            Kind::RequestError => reply::decode_error(reader),
            Kind::RequestUpdate => Ok(Self::RequestUpdate {
                id: reader.varint()?,
                parameters: Parameters::decode(reader, profile, Scopes::REQUEST_UPDATE)?,
            }),
            Kind::Subscribe => Ok(Self::Subscribe {
                id: reader.varint()?,
                track: FullTrackName::decode(reader)?,
                parameters: Parameters::decode(reader, profile, Scopes::SUBSCRIBE)?,
            }),
            Kind::SubscribeOk => Ok(Self::SubscribeOk {
                alias: reader.varint()?,
                parameters: Parameters::decode(reader, profile, Scopes::SUBSCRIBE_OK)?,
                properties: TrackProperties::decode(reader)?,
            }),
            Kind::TrackStatus => Ok(Self::TrackStatus {
                id: reader.varint()?,
                track: FullTrackName::decode(reader)?,
                parameters: Parameters::decode(reader, profile, Scopes::TRACK_STATUS)?,
            }),
            Kind::Publish => publish::decode(reader, profile),
            Kind::PublishDone => PublishDone::decode(reader).map(Self::PublishDone),
            Kind::PublishStateNotify => {
                Parameters::decode(reader, profile, Scopes::PUBLISH_STATE_NOTIFY).map(Self::PublishStateNotify)
            }
            Kind::PublishBlocked => PublishBlocked::decode(reader).map(Self::PublishBlocked),
            Kind::Fetch => fetch::decode(reader, profile),
            Kind::FetchOk => FetchOk::decode(reader, profile).map(Self::FetchOk),
            Kind::PublishNamespace | Kind::SubscribeNamespace | Kind::SubscribeTracks => {
                namespace::decode(reader, profile, kind)
            }
            Kind::Namespace => TrackNamespace::decode(reader).map(Self::Namespace),
            Kind::NamespaceDone => TrackNamespace::decode(reader).map(Self::NamespaceDone),
        }
    }

    /// Appends the whole message to `out`.
    pub fn encode(&self, draft: Draft, out: &mut BytesMut) -> Result<(), TooLong> {
        let profile = draft.profile();
        let start = out.len();
        if matches!(self, Self::Fetch { fetch, .. } if !fetch.fits(profile)) {
            return Err(TooLong);
        }
        varint::put(out, profile.code(self.kind()).ok_or(TooLong)?);
        let length = out.len();
        out.extend_from_slice(&[0, 0]);
        self.write(profile, out);
        let Ok(body) = u16::try_from(out.len() - length - 2) else {
            out.truncate(start);
            return Err(TooLong);
        };
        out[length..length + 2].copy_from_slice(&body.to_be_bytes());
        Ok(())
    }

    fn write(&self, profile: &Profile, out: &mut BytesMut) {
        match self {
            Self::Setup(setup) => setup.encode(profile, out),
            Self::GoAway { goaway, request } => goaway.encode(request.filter(|_| profile.goaway_has_request), out),
            Self::RequestOk(ok) => ok.encode(profile, out),
            Self::RequestError(error) => error.encode(None, profile, out),
            Self::Redirected { error, redirect } => error.encode(Some(redirect), profile, out),
            Self::RequestUpdate { id, parameters } => {
                varint::put(out, *id);
                parameters.encode(profile, out);
            }
            Self::Subscribe { id, track, parameters } | Self::TrackStatus { id, track, parameters } => {
                varint::put(out, *id);
                track.encode(out);
                parameters.encode(profile, out);
            }
            Self::SubscribeOk { alias, parameters, properties } => {
                varint::put(out, *alias);
                parameters.encode(profile, out);
                out.extend_from_slice(&properties.0);
            }
            Self::Publish { id, track, alias, parameters, properties } => {
                varint::put(out, *id);
                track.encode(out);
                varint::put(out, *alias);
                parameters.encode(profile, out);
                out.extend_from_slice(&properties.0);
            }
            Self::PublishDone(done) => done.encode(out),
            Self::PublishStateNotify(parameters) => parameters.encode(profile, out),
            Self::PublishBlocked(blocked) => blocked.encode(out),
            Self::Fetch { id, fetch, parameters } => {
                varint::put(out, *id);
                fetch.encode(parameters, profile, out);
            }
            Self::FetchOk(ok) => ok.encode(profile, out),
            Self::PublishNamespace { id, namespace: name, parameters }
            | Self::SubscribeNamespace { id, prefix: name, parameters }
            | Self::SubscribeTracks { id, prefix: name, parameters } => {
                varint::put(out, *id);
                name.encode(out);
                parameters.encode(profile, out);
            }
            Self::Namespace(suffix) | Self::NamespaceDone(suffix) => suffix.encode(out),
        }
    }
}
