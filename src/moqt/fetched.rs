//! The objects of a fetch stream (§11.4.4): each told by what differs from the one before, and ranges of which nothing is told.
//!
//! The places of End of Range markers are absolute, as every codec that we know reads them: a delta could not say the group of the
//! object before. An object status can't be said here; who has one leaves it out.

use bytes::{BufMut, BytesMut};

use super::codec::{Read, Reader, put_prefixed};
use super::error::Violation;
use super::message::{GroupOrder, Location};
use super::object::{Object, Status};
use super::parameters::DEFAULT_PRIORITY;
use super::varint;

/// One thing on a fetch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// `datagram`: its publisher sends it as one, so it has no subgroup.
    Object { object: Object, datagram: bool },
    /// What lies between the thing before and this place, inclusive, does not exist.
    Absent(Location),
    /// The same, but nobody knows whether it exists.
    Unknown(Location),
}

/// Serialization Flags, the same in all drafts.
pub(crate) mod flag {
    pub(crate) const SUBGROUP: u64 = 0x03;
    pub(crate) const SUBGROUP_ZERO: u64 = 0x00;
    pub(crate) const SUBGROUP_PRIOR: u64 = 0x01;
    pub(crate) const SUBGROUP_NEXT: u64 = 0x02;
    pub(crate) const OBJECT: u64 = 0x04;
    pub(crate) const GROUP: u64 = 0x08;
    pub(crate) const PRIORITY: u64 = 0x10;
    pub(crate) const PROPERTIES: u64 = 0x20;
    pub(crate) const DATAGRAM: u64 = 0x40;
    pub(crate) const ALL: u64 = 0x7f;
    pub(crate) const ABSENT: u64 = 0x8c;
    pub(crate) const UNKNOWN: u64 = 0x10c;
}

/// The part of reading and writing that remembers: the object before.
#[derive(Clone, Debug)]
pub struct FetchedObjects {
    order: GroupOrder,
    prior: Option<Location>,
    subgroup: Option<u64>,
    priority: Option<u8>,
}

impl FetchedObjects {
    pub fn new(order: GroupOrder) -> Self {
        Self { order, prior: None, subgroup: None, priority: None }
    }

    /// Appends one thing. `false`, and nothing written: it does not stand behind the one before, or it has a status.
    pub fn encode(&mut self, fetched: &Fetched, out: &mut BytesMut) -> bool {
        match fetched {
            Fetched::Absent(end) => self.put_range(flag::ABSENT, *end, out),
            Fetched::Unknown(end) => self.put_range(flag::UNKNOWN, *end, out),
            Fetched::Object { object, datagram } => self.put_object(object, *datagram, out),
        }
    }

    fn put_range(&mut self, kind: u64, end: Location, out: &mut BytesMut) -> bool {
        [kind, end.group, end.object].into_iter().for_each(|field| varint::put(out, field));
        self.prior = Some(end);
        true
    }

    fn put_object(&mut self, object: &Object, datagram: bool, out: &mut BytesMut) -> bool {
        let at = Location { group: object.group, object: object.id };
        let priority = object.priority.unwrap_or(DEFAULT_PRIORITY);
        let Some((group, id)) = self.deltas(at).filter(|_| object.status == Status::Normal) else { return false };
        let subgroup = match (datagram, object.subgroup, self.subgroup) {
            (true, ..) => flag::DATAGRAM,
            (_, 0, _) => flag::SUBGROUP_ZERO,
            (_, subgroup, Some(prior)) if subgroup == prior => flag::SUBGROUP_PRIOR,
            _ => flag::SUBGROUP,
        };
        let present = [
            (flag::GROUP, group.is_some()),
            (flag::OBJECT, id.is_some()),
            (flag::PRIORITY, self.priority != Some(priority)),
            (flag::PROPERTIES, !object.properties.is_empty()),
        ];
        let flags = subgroup | present.iter().filter(|(_, set)| *set).map(|(flag, _)| flag).sum::<u64>();
        varint::put(out, flags);
        group.into_iter().for_each(|group| varint::put(out, group));
        if flags & flag::SUBGROUP == flag::SUBGROUP {
            varint::put(out, object.subgroup);
        }
        id.into_iter().for_each(|id| varint::put(out, id));
        if flags & flag::PRIORITY != 0 {
            out.put_u8(priority);
        }
        if flags & flag::PROPERTIES != 0 {
            put_prefixed(out, &object.properties);
        }
        put_prefixed(out, &object.payload);
        (self.prior, self.priority) = (Some(at), Some(priority));
        // A datagram has no subgroup that the next could refer to.
        self.subgroup = if datagram { Some(0) } else { Some(object.subgroup) };
        true
    }

    /// Group and object as they are written, where they are. `None`: the place can't follow the one before.
    fn deltas(&self, at: Location) -> Option<(Option<u64>, Option<u64>)> {
        let Some(prior) = self.prior else { return Some((Some(at.group), Some(at.object))) };
        if at.group == prior.group {
            let delta = at.object.checked_sub(prior.object).filter(|delta| *delta > 0)?;
            return Some((None, Some(delta).filter(|delta| *delta != 1)));
        }
        let between = match self.order {
            GroupOrder::Ascending => at.group.checked_sub(prior.group)?,
            GroupOrder::Descending => prior.group.checked_sub(at.group)?,
        };
        Some((Some(between - 1), Some(at.object)))
    }

    pub(crate) fn decode(&mut self, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Fetched> {
        match reader.varint()? {
            kind @ (flag::ABSENT | flag::UNKNOWN) => {
                let end = Location { group: reader.varint()?, object: reader.varint()? };
                self.prior = Some(end);
                Ok(if kind == flag::ABSENT { Fetched::Absent(end) } else { Fetched::Unknown(end) })
            }
            flags if flags & !flag::ALL == 0 => self.read_object(flags, reader, max_bytes),
            _ => Err(Violation::protocol("unknown serialization flags").into()),
        }
    }

    fn read_object(&mut self, flags: u64, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Fetched> {
        const TOO_LARGE: &str = "an object larger than this endpoint takes";
        let has = |flag: u64| flags & flag != 0;
        let group = if has(flag::GROUP) { Some(reader.varint()?) } else { None };
        let datagram = has(flag::DATAGRAM);
        let subgroup = match (datagram, flags & flag::SUBGROUP) {
            (true, _) | (_, flag::SUBGROUP_ZERO) => Some(0),
            (_, flag::SUBGROUP_PRIOR) => self.subgroup,
            (_, flag::SUBGROUP_NEXT) => self.subgroup.and_then(|subgroup| subgroup.checked_add(1)),
            _ => Some(reader.varint()?),
        };
        let id = if has(flag::OBJECT) { Some(reader.varint()?) } else { None };
        let priority = if has(flag::PRIORITY) { Some(reader.u8()?) } else { self.priority };
        let at = self.place(group, id);
        let (Some(at), Some(subgroup), Some(priority)) = (at, subgroup, priority) else {
            return Err(
                Violation::protocol("a fetched object that refers to none before it, or beyond 2^64 - 1").into()
            );
        };
        let mut object =
            Object { group: at.group, subgroup, id: at.object, priority: Some(priority), ..Object::default() };
        if has(flag::PROPERTIES) {
            object.properties = reader.prefixed(max_bytes, TOO_LARGE)?;
        }
        object.payload = reader.prefixed(max_bytes, TOO_LARGE)?;
        (self.prior, self.subgroup, self.priority) = (Some(at), Some(subgroup), Some(priority));
        Ok(Fetched::Object { object, datagram })
    }

    fn place(&self, group: Option<u64>, id: Option<u64>) -> Option<Location> {
        match (self.prior, group) {
            (None, group) => Some(Location { group: group?, object: id? }),
            (Some(prior), Some(delta)) => {
                let group = match self.order {
                    GroupOrder::Ascending => prior.group.checked_add(delta)?.checked_add(1)?,
                    GroupOrder::Descending => prior.group.checked_sub(delta)?.checked_sub(1)?,
                };
                Some(Location { group, object: id.or(prior.object.checked_add(1))? })
            }
            (Some(prior), None) => Some(Location { object: prior.object.checked_add(id.unwrap_or(1))?, ..prior }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn object(group: u64, id: u64) -> Object {
        Object { group, id, priority: Some(128), payload: Bytes::from_static(b"ab"), ..Object::default() }
    }

    fn write(order: GroupOrder, items: &[Fetched]) -> Bytes {
        let (mut writer, mut out) = (FetchedObjects::new(order), BytesMut::new());
        assert!(items.iter().all(|item| writer.encode(item, &mut out)));
        out.freeze()
    }

    fn read(order: GroupOrder, bytes: &Bytes) -> Read<Vec<Fetched>> {
        let (mut reader, mut objects) = (Reader::new(bytes), FetchedObjects::new(order));
        let mut items = Vec::new();
        while !reader.is_empty() {
            items.push(objects.decode(&mut reader, 1000)?);
        }
        Ok(items)
    }

    fn item(object: Object) -> Fetched {
        Fetched::Object { object, datagram: false }
    }

    #[test]
    fn what_is_written_is_read_in_both_orders() {
        let with_properties = Object { properties: Bytes::from_static(&[16, 1]), subgroup: 4, ..object(7, 3) };
        let urgent = Object { priority: Some(3), subgroup: 4, ..object(7, 9) };
        let up = [
            Fetched::Unknown(Location { group: 7, object: 1 }),
            item(object(7, 2)),
            item(with_properties.clone()),
            item(urgent.clone()),
            Fetched::Absent(Location { group: 7, object: 20 }),
            Fetched::Object { object: object(9, 0), datagram: true },
            item(object(10, 5)),
        ];
        assert_eq!(read(GroupOrder::Ascending, &write(GroupOrder::Ascending, &up)), Ok(up.to_vec()));
        let down = [item(object(10, 0)), item(object(10, 1)), item(object(7, 2)), item(with_properties), item(urgent)];
        assert_eq!(read(GroupOrder::Descending, &write(GroupOrder::Descending, &down)), Ok(down.to_vec()));
    }

    #[test]
    fn the_bytes_are_the_drafts() {
        let items = [item(object(7, 2)), item(object(7, 3)), item(object(7, 6)), item(object(9, 0))];
        let expected = [
            &[0x1c, 7, 2, 128, 2, b'a', b'b'][..],
            &[0x00, 2, b'a', b'b'],
            &[0x04, 3, 2, b'a', b'b'],
            &[0x0c, 1, 0, 2, b'a', b'b'],
        ];
        assert_eq!(write(GroupOrder::Ascending, &items), expected.concat());
        let unknown = [Fetched::Unknown(Location { group: 7, object: 1 })];
        assert_eq!(write(GroupOrder::Ascending, &unknown)[..], [0x81, 0x0c, 7, 1]);
    }

    #[test]
    fn what_can_not_follow_is_not_written() {
        let (mut writer, mut out) = (FetchedObjects::new(GroupOrder::Ascending), BytesMut::new());
        assert!(writer.encode(&item(object(7, 2)), &mut out));
        let len = out.len();
        let ended = Object { status: Status::EndOfGroup, payload: Bytes::new(), ..object(7, 3) };
        for wrong in [object(7, 2), object(7, 1), object(6, 9), ended] {
            assert!(!writer.encode(&item(wrong), &mut out));
        }
        assert_eq!(out.len(), len);
    }

    #[test]
    fn a_first_object_that_refers_to_one_before_is_a_violation() {
        for bytes in [&[0x00, 0][..], &[0x0c, 1, 1, 0], &[0x1d, 1, 1, 1, 0], &[0x14, 1, 1, 0], &[0x80, 0x80]] {
            let read = read(GroupOrder::Ascending, &Bytes::copy_from_slice(bytes));
            assert!(matches!(read, Err(crate::moqt::codec::Stop::Violation(_))), "{bytes:?} {read:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..12)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 56) as u8
                })
                .collect();
            let order = if random & 1 == 0 { GroupOrder::Ascending } else { GroupOrder::Descending };
            let _ = read(order, &Bytes::from(bytes));
        }
    }
}
