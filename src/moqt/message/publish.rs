//! PUBLISH (§10.10), its good answer, and PUBLISH_DONE (§10.11).

use std::time::Duration;

use bytes::BytesMut;

use super::reply::{put_reason, reason};
use super::{Filter, GroupOrder, Location, Message, Parameters, Scopes, Token, TrackProperties};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::name::FullTrackName;
use crate::moqt::parameters::DEFAULT_PRIORITY;
use crate::moqt::varint;
use crate::moqt::version::{Draft, Profile};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub track: FullTrackName,
    pub forward: bool,
    pub largest: Option<Location>,
    /// How long its sender lets the subscription go on.
    pub expires: Option<Duration>,
    pub tokens: Vec<Token>,
    pub properties: TrackProperties,
}

/// How a subscription is to begin that a SUBSCRIBE_TRACKS brings about: the PUBLISH says so too (draft 20 §"Parameters on
/// SUBSCRIBE_TRACKS"). Before draft 20 only FORWARD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    pub forward: bool,
    pub filter: Option<Filter>,
    pub priority: Option<u8>,
    pub group_order: Option<GroupOrder>,
    pub object_delivery_timeout: Option<Duration>,
    pub subgroup_delivery_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOk {
    pub forward: bool,
    pub priority: u8,
    pub filter: Option<Filter>,
    /// How long the subscription goes on from here.
    pub expires: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishDone {
    /// See [`crate::moqt::PublishDoneCode`].
    pub code: u64,
    /// Filled in by the session when sending.
    pub streams: u64,
    pub reason: String,
}

impl Default for Wishes {
    fn default() -> Self {
        Self::from_parameters(&Parameters::default())
    }
}

impl Wishes {
    pub fn from_parameters(parameters: &Parameters) -> Self {
        Self {
            forward: parameters.forward.unwrap_or(true),
            filter: parameters.filter,
            priority: parameters.priority,
            group_order: parameters.group_order,
            object_delivery_timeout: parameters.object_delivery_timeout,
            subgroup_delivery_timeout: parameters.subgroup_delivery_timeout,
        }
    }

    /// FORWARD 1 is left unsaid.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            forward: Some(false).filter(|_| !self.forward),
            filter: self.filter,
            priority: self.priority,
            group_order: self.group_order,
            object_delivery_timeout: self.object_delivery_timeout,
            subgroup_delivery_timeout: self.subgroup_delivery_timeout,
            ..Parameters::default()
        }
    }
}

impl Publish {
    pub fn from_parameters(track: FullTrackName, parameters: Parameters, properties: TrackProperties) -> Self {
        Self {
            track,
            forward: parameters.forward.unwrap_or(true),
            largest: parameters.largest,
            expires: parameters.expires.filter(|expires| !expires.is_zero()),
            tokens: parameters.tokens,
            properties,
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            forward: Some(self.forward),
            largest: self.largest,
            expires: self.expires,
            tokens: self.tokens.clone(),
            ..Parameters::default()
        }
    }
}

impl PublishOk {
    pub fn from_parameters(parameters: &Parameters) -> Self {
        Self {
            forward: parameters.forward.unwrap_or(true),
            priority: parameters.priority.unwrap_or(DEFAULT_PRIORITY),
            filter: parameters.filter,
            expires: parameters.expires.filter(|expires| !expires.is_zero()),
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            forward: Some(self.forward),
            priority: Some(self.priority).filter(|priority| *priority != DEFAULT_PRIORITY),
            filter: self.filter,
            expires: self.expires,
            ..Parameters::default()
        }
    }
}

impl PublishDone {
    /// `streams` of a publisher that lost count (§10.11).
    pub fn unknown_streams(draft: Draft) -> u64 {
        draft.profile().unknown_stream_count
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        Ok(Self { code: reader.varint()?, streams: reader.varint()?, reason: reason(reader)? })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        varint::put(out, self.code);
        varint::put(out, self.streams);
        put_reason(out, &self.reason);
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Message> {
    Ok(Message::Publish {
        id: reader.varint()?,
        track: FullTrackName::decode(reader)?,
        alias: reader.varint()?,
        parameters: Parameters::decode(reader, profile, Scopes::PUBLISH)?,
        properties: TrackProperties::decode(reader)?,
    })
}
