//! FETCH (§10.12) and FETCH_OK (§10.13).

use bytes::{BufMut, BytesMut};

use super::{Filter, Location, Message, Parameters, Scopes, TrackProperties};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::error::Violation;
use crate::moqt::name::FullTrackName;
use crate::moqt::varint;
use crate::moqt::version::Profile;

/// Which published objects are wanted. `end` is one past the last object; object 0 means the whole of its group, and
/// [`Fetch::TO_LARGEST`] whatever is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    Standalone {
        track: FullTrackName,
        start: Location,
        end: Location,
    },
    /// The newest `groups` groups, up to the largest object; 0 is an empty range (since draft 20).
    Newest {
        track: FullTrackName,
        groups: u64,
    },
    /// From `groups` before the largest group of the subscription `request` up to where that began (until draft 19).
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
    /// One past the last object, as in [`Fetch`].
    pub end: Location,
    pub parameters: Parameters,
    pub properties: TrackProperties,
}

pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Message> {
    let id = reader.varint()?;
    if profile.fetch_by_filter {
        let track = FullTrackName::decode(reader)?;
        let mut parameters = Parameters::decode(reader, profile, Scopes::FETCH)?;
        let fetch = Fetch::by_filter(track, parameters.filter.take());
        return Ok(Message::Fetch { id, fetch, parameters });
    }
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

/// Since draft 20 an end is the last object itself; one past it, and 0 for a whole group, are ours. Both ways the whole group is
/// the largest object id there is.
fn past(last: Location) -> Location {
    Location { object: last.object.wrapping_add(1), ..last }
}

fn last(past: Location) -> Location {
    Location { object: past.object.wrapping_sub(1), ..past }
}

impl Fetch {
    pub const TO_LARGEST: Location = Location { group: u64::MAX, object: 0 };

    /// Whether the draft can say it.
    pub(super) fn fits(&self, profile: &Profile) -> bool {
        match self {
            Self::Standalone { .. } => true,
            Self::Newest { .. } => profile.fetch_by_filter,
            Self::RelativeJoining { .. } | Self::AbsoluteJoining { .. } => !profile.fetch_by_filter,
        }
    }

    fn by_filter(track: FullTrackName, filter: Option<Filter>) -> Self {
        let (start, end) = match filter {
            None => (Location::default(), Self::TO_LARGEST),
            Some(Filter::AbsoluteStart(start)) => (start, Self::TO_LARGEST),
            Some(Filter::AbsoluteRange { start, end_group }) => (start, Location { group: end_group, object: 0 }),
            Some(Filter::LocationRange { start, end }) => (start, past(end)),
            Some(Filter::NewestGroups(groups)) => return Self::Newest { track, groups },
            Some(Filter::NextGroupStart | Filter::LargestObject) => return Self::Newest { track, groups: 0 },
        };
        Self::Standalone { track, start, end }
    }

    fn filter(&self) -> Option<Filter> {
        match *self {
            Self::Standalone { start, end, .. } if end == Self::TO_LARGEST => Some(Filter::AbsoluteStart(start)),
            Self::Standalone { start, end: Location { group: end_group, object: 0 }, .. } => {
                Some(Filter::AbsoluteRange { start, end_group })
            }
            Self::Standalone { start, end, .. } => Some(Filter::LocationRange { start, end: last(end) }),
            Self::Newest { groups: 0, .. } => Some(Filter::NextGroupStart),
            Self::Newest { groups, .. } => Some(Filter::NewestGroups(groups)),
            Self::RelativeJoining { .. } | Self::AbsoluteJoining { .. } => None,
        }
    }

    pub(super) fn encode(&self, parameters: &Parameters, profile: &Profile, out: &mut BytesMut) {
        if profile.fetch_by_filter {
            if let Self::Standalone { track, .. } | Self::Newest { track, .. } = self {
                track.encode(out);
            }
            // No filter asks for everything.
            let filter = self.filter().filter(|filter| *filter != Filter::AbsoluteStart(Location::default()));
            return Parameters { filter, ..parameters.clone() }.encode(profile, out);
        }
        let (code, request, start) = match self {
            Self::Standalone { track, start, end } => {
                varint::put(out, 1);
                track.encode(out);
                start.encode(out);
                end.encode(out);
                return parameters.encode(profile, out);
            }
            // Refused before.
            Self::Newest { .. } => return,
            Self::RelativeJoining { request, groups } => (2, *request, *groups),
            Self::AbsoluteJoining { request, group } => (3, *request, *group),
        };
        varint::put(out, code);
        varint::put(out, request);
        varint::put(out, start);
        parameters.encode(profile, out);
    }
}

impl FetchOk {
    /// The last place of the range.
    pub fn last(&self) -> Location {
        last(self.end)
    }

    pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Self> {
        let end_of_track = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Violation::protocol("an End Of Track that is neither 0 nor 1").into()),
        };
        let end = Location::decode(reader)?;
        Ok(Self {
            end_of_track,
            end: if profile.fetch_by_filter { past(end) } else { end },
            parameters: Parameters::decode(reader, profile, Scopes::FETCH_OK)?,
            properties: TrackProperties::decode(reader)?,
        })
    }

    pub(super) fn encode(&self, profile: &Profile, out: &mut BytesMut) {
        out.put_u8(u8::from(self.end_of_track));
        if profile.fetch_by_filter { last(self.end) } else { self.end }.encode(out);
        self.parameters.encode(profile, out);
        out.extend_from_slice(&self.properties.0);
    }
}
