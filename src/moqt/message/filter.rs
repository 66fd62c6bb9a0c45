//! Which objects of a track are wanted (§5.1.2): one [`Filter`] for all drafts, and the form that each draft gives it.
//!
//! Session, relay and tracks know the meaning only. Drafts 20 and 22 can say more than 18; what an older form can't say is written
//! as the nearest one that leaves nothing out.

use bytes::{Bytes, BytesMut};

use super::Location;
use crate::moqt::codec::{Read, Reader, put_prefixed, whole};
use crate::moqt::error::Violation;
use crate::moqt::varint;

/// Subscription filter (§5.1.2), LOCATION_FILTER since draft 20.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    NextGroupStart,
    /// From the object behind the largest on ("Next Object" since draft 20).
    LargestObject,
    /// From 0, 0 on is no filter at all.
    AbsoluteStart(Location),
    /// `end_group` is the last group that passes, never before `start`'s.
    AbsoluteRange {
        start: Location,
        end_group: u64,
    },
    /// From the start of the `n`th newest group on; 1 is the current one (since draft 20).
    NewestGroups(u64),
    /// Both ends pass (since draft 20).
    LocationRange {
        start: Location,
        end: Location,
    },
}

/// How a draft writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Length, type 1 to 4, fields (draft 18).
    Typed,
    /// Length, and up to four integers: how many there are is the type (draft 20).
    Counted,
    /// Type 0 to 5 and its fields, without a length (draft 22).
    Bare,
}

/// Longest value with a length of its own.
const MAX_VALUE: usize = 65_535;
/// No place in a track is behind it.
const LAST: Location = Location { group: u64::MAX, object: u64::MAX };

impl Filter {
    /// What passes on a track whose largest object is `largest`: from the first place to the second, both included.
    pub fn range(self, largest: Option<Location>) -> (Location, Location) {
        let from = |start| (start, LAST);
        let group = |group| Location { group, object: 0 };
        match self {
            Self::NextGroupStart => from(group(largest.map_or(0, |l| l.group.saturating_add(1)))),
            Self::LargestObject => {
                from(largest.map_or(group(0), |l| Location { object: l.object.saturating_add(1), ..l }))
            }
            Self::AbsoluteStart(start) => from(start),
            Self::AbsoluteRange { start, end_group } => (start, Location { group: end_group, object: u64::MAX }),
            Self::NewestGroups(count) => {
                from(group(largest.map_or(0, |l| l.group.saturating_add(1).saturating_sub(count))))
            }
            Self::LocationRange { start, end } => (start, end),
        }
    }

    pub(crate) fn decode(form: Form, reader: &mut Reader<'_>) -> Read<Self> {
        if form == Form::Bare {
            return Self::decode_bare(reader);
        }
        let value = reader.prefixed(MAX_VALUE, "a filter longer than 65535 bytes")?;
        let read = if form == Form::Typed { Self::decode_typed } else { Self::decode_counted };
        Ok(whole(read(&value))?)
    }

    fn decode_typed(value: &Bytes) -> Read<Self> {
        let reader = &mut Reader::new(value);
        let filter = match reader.varint()? {
            1 => Self::NextGroupStart,
            2 => Self::LargestObject,
            3 => Self::AbsoluteStart(Location::decode(reader)?),
            4 => Self::from_fields(&[reader.varint()?, reader.varint()?, reader.varint()?])?,
            _ => return Err(Violation::protocol("an unknown filter type").into()),
        };
        if reader.is_empty() { Ok(filter) } else { Err(Violation::protocol("a filter longer than its fields").into()) }
    }

    fn decode_counted(value: &Bytes) -> Read<Self> {
        let (reader, mut fields, mut count) = (&mut Reader::new(value), [0; 4], 0);
        while !reader.is_empty() {
            let field = fields.get_mut(count).ok_or(Violation::protocol("a filter of more than four fields"))?;
            *field = reader.varint()?;
            count += 1;
        }
        match fields[..count] {
            [0, 0] => Ok(Self::LargestObject),
            _ => Ok(Self::from_fields(&fields[..count])?),
        }
    }

    fn decode_bare(reader: &mut Reader<'_>) -> Read<Self> {
        let count = match reader.varint()? {
            5 => return Ok(Self::LargestObject),
            count @ 0..=4 => count as usize,
            _ => return Err(Violation::protocol("an unknown filter type").into()),
        };
        let mut fields = [0; 4];
        for field in &mut fields[..count] {
            *field = reader.varint()?;
        }
        Ok(Self::from_fields(&fields[..count])?)
    }

    /// The fields of drafts 20 and later; the third is a distance from the first.
    fn from_fields(fields: &[u64]) -> Result<Self, Violation> {
        let end = |group: u64, delta: u64| {
            group.checked_add(delta).ok_or(Violation::protocol("a filter that ends beyond 2^64 - 1"))
        };
        Ok(match *fields {
            [0] => Self::NextGroupStart,
            [count] => Self::NewestGroups(count),
            [group, object] => Self::AbsoluteStart(Location { group, object }),
            [group, object, delta] => {
                Self::AbsoluteRange { start: Location { group, object }, end_group: end(group, delta)? }
            }
            [group, object, delta, last] => Self::LocationRange {
                start: Location { group, object },
                end: Location { group: end(group, delta)?, object: last },
            },
            _ => Self::AbsoluteStart(Location::default()),
        })
    }

    pub(crate) fn encode(&self, form: Form, out: &mut BytesMut) {
        if form == Form::Bare {
            return self.encode_bare(out);
        }
        let mut value = BytesMut::new();
        match form {
            Form::Typed => self.encode_typed(&mut value),
            _ => self.fields(&mut value),
        }
        put_prefixed(out, &value);
    }

    fn encode_typed(&self, out: &mut BytesMut) {
        match *self {
            Self::NextGroupStart => varint::put(out, 1),
            // What was published before a subscription is not delivered anyway.
            Self::LargestObject | Self::NewestGroups(_) => varint::put(out, 2),
            Self::AbsoluteStart(start) => {
                varint::put(out, 3);
                start.encode(out);
            }
            Self::AbsoluteRange { start, end_group }
            | Self::LocationRange { start, end: Location { group: end_group, .. } } => {
                varint::put(out, 4);
                start.encode(out);
                varint::put(out, end_group.saturating_sub(start.group));
            }
        }
    }

    fn encode_bare(&self, out: &mut BytesMut) {
        varint::put(
            out,
            match self {
                Self::LargestObject => 5,
                Self::NextGroupStart | Self::NewestGroups(_) => 1,
                Self::AbsoluteStart(start) if *start == Location::default() => 0,
                Self::AbsoluteStart(_) => 2,
                Self::AbsoluteRange { .. } => 3,
                Self::LocationRange { .. } => 4,
            },
        );
        if *self != Self::LargestObject {
            self.fields(out);
        }
    }

    fn fields(&self, out: &mut BytesMut) {
        match *self {
            Self::NextGroupStart => varint::put(out, 0),
            Self::LargestObject => out.extend_from_slice(&[0, 0]),
            // Two zeros would be the next object.
            Self::AbsoluteStart(start) if start == Location::default() => {}
            Self::AbsoluteStart(start) => start.encode(out),
            Self::NewestGroups(count) => varint::put(out, count),
            Self::AbsoluteRange { start, end_group } => {
                start.encode(out);
                varint::put(out, end_group.saturating_sub(start.group));
            }
            Self::LocationRange { start, end } => {
                start.encode(out);
                varint::put(out, end.group.saturating_sub(start.group));
                varint::put(out, end.object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(group: u64, object: u64) -> Location {
        Location { group, object }
    }

    #[test]
    fn a_filter_is_a_range_of_places() {
        let largest = Some(at(7, 3));
        for (filter, fresh, running) in [
            (Filter::NextGroupStart, at(0, 0), at(8, 0)),
            (Filter::LargestObject, at(0, 0), at(7, 4)),
            (Filter::AbsoluteStart(at(2, 1)), at(2, 1), at(2, 1)),
            (Filter::NewestGroups(1), at(0, 0), at(7, 0)),
            (Filter::NewestGroups(3), at(0, 0), at(5, 0)),
            (Filter::NewestGroups(90), at(0, 0), at(0, 0)),
        ] {
            assert_eq!((filter.range(None), filter.range(largest)), ((fresh, LAST), (running, LAST)), "{filter:?}");
        }
        let range = Filter::AbsoluteRange { start: at(1, 2), end_group: 4 };
        assert_eq!(range.range(largest), (at(1, 2), at(4, u64::MAX)));
        let range = Filter::LocationRange { start: at(1, 2), end: at(4, 5) };
        assert_eq!(range.range(None), (at(1, 2), at(4, 5)));
    }

    #[test]
    fn what_is_no_filter_is_a_violation() {
        for (form, bytes) in [
            (Form::Typed, &[1, 0][..]),
            (Form::Typed, &[2, 2, 0]),
            (Form::Typed, &[1, 5]),
            (Form::Counted, &[5, 1, 1, 1, 1, 1]),
            (Form::Counted, &[1, 0x80]),
            (Form::Counted, &[11, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 1]),
            (Form::Bare, &[6]),
        ] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert!(whole(Filter::decode(form, &mut Reader::new(&bytes))).is_err(), "{form:?} {bytes:?}");
        }
    }

    /// Since draft 20 a filter of length or type 0 takes one away.
    #[test]
    fn no_filter_lets_everything_pass() {
        for form in [Form::Counted, Form::Bare] {
            let none = Bytes::from_static(&[0]);
            let read = Filter::decode(form, &mut Reader::new(&none));
            assert_eq!(read, Ok(Filter::AbsoluteStart(at(0, 0))));
            let mut out = BytesMut::new();
            Filter::AbsoluteStart(at(0, 0)).encode(form, &mut out);
            assert_eq!(out, none);
        }
    }
}
