//! Subgroup streams (§11.4.2): the header, and the objects behind it with ids as deltas.
//!
//! [`Objects`] is the part of reading and writing that remembers: the id of the object before.

use bytes::{BufMut, BytesMut};

use super::codec::{Read, Reader, put_prefixed};
use super::error::Violation;
use super::object::{Object, Status, SubgroupHeader, Unsendable};
use super::varint;

/// The type of a SUBGROUP_HEADER is 0b0XX1XXXX.
mod bit {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const ID_MODE: u64 = 0x06;
    pub(super) const END_OF_GROUP: u64 = 0x08;
    pub(super) const SUBGROUP: u64 = 0x10;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x20;
    pub(super) const FIRST_OBJECT: u64 = 0x40;
    pub(super) const ALL: u64 = 0x7f;
}

/// SUBGROUP_ID_MODE: where the subgroup id stands.
mod id_mode {
    pub(super) const ZERO: u64 = 0x00;
    pub(super) const FIRST_OBJECT_ID: u64 = 0x02;
    pub(super) const EXPLICIT: u64 = 0x04;
}

/// Whether a stream of this type is a subgroup's, valid or not.
pub(crate) fn is_subgroup(kind: u64) -> bool {
    kind & !bit::ALL == 0 && kind & bit::SUBGROUP != 0
}

/// The alias and the header, after `kind` was read. A subgroup named by its first object's id ends in
/// [`Stop::Short`](super::codec::Stop::Short) until that object's first bytes are there; they are not taken.
pub(crate) fn decode_header(kind: u64, reader: &mut Reader<'_>) -> Read<(u64, SubgroupHeader)> {
    let has = |bit: u64| kind & bit != 0;
    let mode = kind & bit::ID_MODE;
    if !is_subgroup(kind) || mode == bit::ID_MODE {
        return Err(Violation::protocol("an unknown subgroup type").into());
    }
    let alias = reader.varint()?;
    let group = reader.varint()?;
    let explicit = if mode == id_mode::EXPLICIT { reader.varint()? } else { 0 };
    let priority = if has(bit::DEFAULT_PRIORITY) { None } else { Some(reader.u8()?) };
    let header = SubgroupHeader {
        group,
        subgroup: if mode == id_mode::FIRST_OBJECT_ID { reader.peek_varint()? } else { explicit },
        priority,
        properties: has(bit::PROPERTIES),
        end_of_group: has(bit::END_OF_GROUP),
        first_object: has(bit::FIRST_OBJECT),
    };
    Ok((alias, header))
}

/// A header that lacks nothing but the first object, whose id names the subgroup.
pub(crate) fn waits_for_object(reader: &mut Reader<'_>) -> bool {
    let mut read = || {
        let kind = reader.varint()?;
        let (_alias, _group) = (reader.varint()?, reader.varint()?);
        if kind & bit::DEFAULT_PRIORITY == 0 {
            reader.u8()?;
        }
        Ok(is_subgroup(kind) && kind & bit::ID_MODE == id_mode::FIRST_OBJECT_ID && reader.is_empty())
    };
    let waits: Read<bool> = read();
    waits == Ok(true)
}

/// Appends the header of a stream, its type first. Subgroup 0 needs no id of its own.
pub fn encode_header(alias: u64, header: &SubgroupHeader, out: &mut BytesMut) {
    let mode = if header.subgroup == 0 { id_mode::ZERO } else { id_mode::EXPLICIT };
    let bits = [
        (bit::PROPERTIES, header.properties),
        (bit::END_OF_GROUP, header.end_of_group),
        (bit::DEFAULT_PRIORITY, header.priority.is_none()),
        (bit::FIRST_OBJECT, header.first_object),
    ];
    varint::put(out, bit::SUBGROUP | mode | bits.iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum::<u64>());
    varint::put(out, alias);
    varint::put(out, header.group);
    if mode == id_mode::EXPLICIT {
        varint::put(out, header.subgroup);
    }
    if let Some(priority) = header.priority {
        out.put_u8(priority);
    }
}

/// The objects of one subgroup stream, in either direction.
#[derive(Clone, Debug)]
pub struct Objects {
    header: SubgroupHeader,
    last: Option<u64>,
}

impl Objects {
    pub fn new(header: SubgroupHeader) -> Self {
        Self { header, last: None }
    }

    pub fn header(&self) -> &SubgroupHeader {
        &self.header
    }

    /// One object; what it says is remembered only when it is whole.
    pub(crate) fn decode(&mut self, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Object> {
        const TOO_LARGE: &str = "an object larger than this endpoint takes";
        let delta = reader.varint()?;
        let id = match self.last {
            None => Some(delta),
            Some(last) => last.checked_add(delta).and_then(|id| id.checked_add(1)),
        };
        let id = id.ok_or(Violation::protocol("an object id beyond 2^64 - 1"))?;
        let mut object = Object {
            group: self.header.group,
            subgroup: self.header.subgroup,
            id,
            priority: self.header.priority,
            ..Object::default()
        };
        if self.header.properties {
            object.properties = reader.prefixed(max_bytes, TOO_LARGE)?;
        }
        object.payload = reader.prefixed(max_bytes, TOO_LARGE)?;
        if object.payload.is_empty() {
            object.status = Status::decode(reader)?;
        }
        if object.check().is_err() {
            return Err(Violation::protocol("properties on an object that is not normal").into());
        }
        self.last = Some(id);
        Ok(object)
    }

    /// Appends one object. On an error nothing was written.
    pub fn encode(&mut self, object: &Object, out: &mut BytesMut) -> Result<(), Unsendable> {
        object.check()?;
        if !self.header.properties && !object.properties.is_empty() {
            return Err(Unsendable::Properties);
        }
        let delta = match self.last {
            None => Some(object.id),
            Some(last) => object.id.checked_sub(last).and_then(|delta| delta.checked_sub(1)),
        };
        let delta = delta.ok_or(Unsendable::IdDoesNotGrow)?;
        out.reserve(object.payload.len() + object.properties.len() + 3 * varint::MAX_LEN);
        varint::put(out, delta);
        if self.header.properties {
            put_prefixed(out, &object.properties);
        }
        put_prefixed(out, &object.payload);
        if object.payload.is_empty() {
            varint::put(out, object.status.code());
        }
        self.last = Some(object.id);
        Ok(())
    }
}
