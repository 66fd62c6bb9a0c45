//! FETCH (§10.12) and FETCH_OK (§10.13).

use bytes::{BufMut, BytesMut};

use super::{Location, Message, Parameters, Scopes, TrackProperties};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::error::Violation;
use crate::moqt::name::FullTrackName;
use crate::moqt::varint;
use crate::moqt::version::Profile;

/// Which published objects are wanted. `end` is one past the last object; object 0 means the whole of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    Standalone {
        track: FullTrackName,
        start: Location,
        end: Location,
    },
    /// From `groups` before the largest group of the subscription `request` up to where that began.
    RelativeJoining {
        request: u64,
        groups: u64,
    },
    /// The same, from `group` on.
    AbsoluteJoining {
        request: u64,
        group: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOk {
    /// `end` is the end of the track, not only of the range.
    pub end_of_track: bool,
    pub end: Location,
    pub parameters: Parameters,
    pub properties: TrackProperties,
}

pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Message> {
    let id = reader.varint()?;
    let fetch = match reader.varint()? {
        1 => Fetch::Standalone {
            track: FullTrackName::decode(reader)?,
            start: Location::decode(reader)?,
            end: Location::decode(reader)?,
        },
        2 => Fetch::RelativeJoining { request: reader.varint()?, groups: reader.varint()? },
        3 => Fetch::AbsoluteJoining { request: reader.varint()?, group: reader.varint()? },
        _ => return Err(Violation::protocol("an unknown fetch type").into()),
    };
    Ok(Message::Fetch { id, fetch, parameters: Parameters::decode(reader, profile, Scopes::FETCH)? })
}

impl Fetch {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (code, request, start) = match self {
            Self::Standalone { track, start, end } => {
                varint::put(out, 1);
                track.encode(out);
                start.encode(out);
                end.encode(out);
                return;
            }
            Self::RelativeJoining { request, groups } => (2, *request, *groups),
            Self::AbsoluteJoining { request, group } => (3, *request, *group),
        };
        varint::put(out, code);
        varint::put(out, request);
        varint::put(out, start);
    }
}

impl FetchOk {
    pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Self> {
        let end_of_track = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Violation::protocol("an End Of Track that is neither 0 nor 1").into()),
        };
        Ok(Self {
            end_of_track,
            end: Location::decode(reader)?,
            parameters: Parameters::decode(reader, profile, Scopes::FETCH_OK)?,
            properties: TrackProperties::decode(reader)?,
        })
    }

    pub(super) fn encode(&self, profile: &Profile, out: &mut BytesMut) {
        out.put_u8(u8::from(self.end_of_track));
        self.end.encode(out);
        self.parameters.encode(profile, out);
        out.extend_from_slice(&self.properties.0);
    }
}
