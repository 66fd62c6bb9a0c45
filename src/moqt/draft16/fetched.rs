//! The objects of a fetch stream in draft 16 (§10.4.4): the flags of later drafts, but every place that is told is told whole, where
//! later drafts tell its distance from the one before.
//!
//! What we write tells everything each time, so only reading remembers the object before.

use bytes::{BufMut, BytesMut};

use super::wire::{self, MAX};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::error::Violation;
use crate::moqt::fetched::{Fetched, flag};
use crate::moqt::message::{DEFAULT_PRIORITY, Location};
use crate::moqt::object::Object;

const TOO_LARGE: &str = "an object larger than this endpoint takes";

/// What an object may refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Prior {
    at: Option<Location>,
    subgroup: Option<u64>,
    priority: Option<u8>,
}

impl Prior {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Fetched> {
        match wire::read(reader)? {
            kind @ (flag::ABSENT | flag::UNKNOWN) => {
                let end = wire::location(reader)?;
                self.at = Some(end);
                // The last place of a group, whichever number that has.
                let end = if end.object == MAX { Location { object: u64::MAX, ..end } } else { end };
                Ok(if kind == flag::ABSENT { Fetched::Absent(end) } else { Fetched::Unknown(end) })
            }
            flags if flags & !flag::ALL == 0 => self.object(flags, reader, max_bytes),
            _ => Err(Violation::protocol("unknown serialization flags").into()),
        }
    }

    fn object(&mut self, flags: u64, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Fetched> {
        let has = |flag: u64| flags & flag != 0;
        let group = if has(flag::GROUP) { Some(wire::read(reader)?) } else { self.at.map(|at| at.group) };
        let datagram = has(flag::DATAGRAM);
        let subgroup = match (datagram, flags & flag::SUBGROUP) {
            (true, _) | (_, flag::SUBGROUP_ZERO) => Some(0),
            (_, flag::SUBGROUP_PRIOR) => self.subgroup,
            (_, flag::SUBGROUP_NEXT) => self.subgroup.map(|subgroup| subgroup + 1),
            _ => Some(wire::read(reader)?),
        };
        let id = if has(flag::OBJECT) { Some(wire::read(reader)?) } else { self.at.map(|at| at.object + 1) };
        let priority = if has(flag::PRIORITY) { Some(reader.u8()?) } else { self.priority };
        let (Some(group), Some(subgroup), Some(id), Some(priority)) = (group, subgroup, id, priority) else {
            return Err(Violation::protocol("a fetched object that refers to none before it").into());
        };
        let mut object = Object { group, subgroup, id, priority: Some(priority), ..Object::default() };
        if has(flag::PROPERTIES) {
            object.properties = wire::properties_in(&wire::prefixed(reader, max_bytes, TOO_LARGE)?)?;
        }
        object.payload = wire::prefixed(reader, max_bytes, TOO_LARGE)?;
        *self = Self { at: Some(Location { group, object: id }), subgroup: Some(subgroup), priority: Some(priority) };
        Ok(Fetched::Object { object, datagram })
    }
}

/// An object whose place this draft can't name is left out; no range reaches further than what it can name.
pub(super) fn put(fetched: &Fetched, out: &mut BytesMut) {
    let fits = |at: Location| at.group <= MAX && at.object <= MAX;
    match fetched {
        Fetched::Absent(end) | Fetched::Unknown(end) => {
            let absent = matches!(fetched, Fetched::Absent(_));
            wire::put(out, if absent { flag::ABSENT } else { flag::UNKNOWN });
            wire::put_location(out, *end);
        }
        Fetched::Object { object, datagram }
            if fits(Location { group: object.group, object: object.id }) && object.subgroup <= MAX =>
        {
            let properties = wire::properties_out(&object.properties);
            let subgroup = if *datagram { flag::DATAGRAM } else { flag::SUBGROUP };
            let described = if properties.is_empty() { 0 } else { flag::PROPERTIES };
            wire::put(out, flag::GROUP | flag::OBJECT | flag::PRIORITY | subgroup | described);
            wire::put(out, object.group);
            if !datagram {
                wire::put(out, object.subgroup);
            }
            wire::put(out, object.id);
            out.put_u8(object.priority.unwrap_or(DEFAULT_PRIORITY));
            if !properties.is_empty() {
                wire::put_prefixed(out, &properties);
            }
            wire::put_prefixed(out, &object.payload);
        }
        Fetched::Object { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::moqt::codec::whole;
    use crate::moqt::properties;

    fn object(group: u64, subgroup: u64, id: u64) -> Object {
        let payload = Bytes::from_static(b"ab");
        Object { group, subgroup, id, priority: Some(7), payload, ..Object::default() }
    }

    fn read(bytes: &[u8]) -> Result<Vec<Fetched>, Violation> {
        let bytes = Bytes::copy_from_slice(bytes);
        let (mut reader, mut prior, mut items) = (Reader::new(&bytes), Prior::default(), Vec::new());
        while !reader.is_empty() {
            items.push(whole(prior.read(&mut reader, 1000))?);
        }
        Ok(items)
    }

    #[test]
    fn what_is_written_is_read() {
        let stamped = Object { properties: properties::timestamp(1_700_000_000_000_000), ..object(70, 9, 300) };
        let at = Location { group: 71, object: 4 };
        let items = [
            Fetched::Object { object: object(5, 0, 0), datagram: false },
            Fetched::Object { object: stamped, datagram: false },
            Fetched::Unknown(at),
            Fetched::Absent(Location { object: 9, ..at }),
            Fetched::Object { object: object(80, 0, 0), datagram: true },
        ];
        let mut out = BytesMut::new();
        items.iter().for_each(|item| put(item, &mut out));
        assert_eq!(read(&out).unwrap(), items);
    }

    #[test]
    fn an_object_refers_to_the_one_before() {
        // All fields, then none: the next object of the group, subgroup plus one.
        let items = read(&[0x1f, 5, 3, 8, 7, 1, b'x', 0x01, 1, b'y', 0x0a, 6, 1, b'z']).unwrap();
        let places: Vec<_> = items
            .into_iter()
            .map(|item| match item {
                Fetched::Object { object, .. } => (object.group, object.subgroup, object.id, object.priority),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(places, [(5, 3, 8, Some(7)), (5, 3, 9, Some(7)), (6, 4, 10, Some(7))]);
        for wrong in
            [&[0x00, 0][..], &[0x1e, 1, 1, 1, 0], &[0x0c, 1, 1, 0], &[0x40, 0x80, 0], &[0x1f, 5, 3, 8, 7, 0x43, 0xe9]]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_this_draft_can_not_name_is_left_out() {
        let mut out = BytesMut::new();
        put(&Fetched::Object { object: object(MAX + 1, 0, 0), datagram: false }, &mut out);
        assert!(out.is_empty());
        let rest = Fetched::Absent(Location { group: 3, object: u64::MAX });
        put(&rest, &mut out);
        assert_eq!(read(&out).unwrap(), [rest]);
    }
}
