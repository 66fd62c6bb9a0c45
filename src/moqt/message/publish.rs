//! PUBLISH (§10.10), its good answer, and PUBLISH_DONE (§10.11).

use bytes::BytesMut;

use super::reply::{put_reason, reason};
use super::{Filter, Location, Message, Parameters, Scopes, Token, TrackProperties};
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
    pub tokens: Vec<Token>,
    pub properties: TrackProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOk {
    pub forward: bool,
    pub priority: u8,
    pub filter: Option<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishDone {
    /// See [`crate::moqt::PublishDoneCode`].
    pub code: u64,
    /// Filled in by the session when sending.
    pub streams: u64,
    pub reason: String,
}

impl Publish {
    pub fn from_parameters(track: FullTrackName, parameters: Parameters, properties: TrackProperties) -> Self {
        Self {
            track,
            forward: parameters.forward.unwrap_or(true),
            largest: parameters.largest,
            tokens: parameters.tokens,
            properties,
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            forward: Some(self.forward),
            largest: self.largest,
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
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            forward: Some(self.forward),
            priority: Some(self.priority).filter(|priority| *priority != DEFAULT_PRIORITY),
            filter: self.filter,
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
