//! Objects (§11.2) as they travel: the nouns that session, relay and tracks share, and the datagram that carries one of them.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Read, Reader, put_prefixed, whole};
use super::error::Violation;
use super::varint;

/// Object status (§11.2.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Normal,
    EndOfGroup,
    EndOfTrack,
}

/// One object as it travels: encoded properties and payload, never taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub group: u64,
    pub subgroup: u64,
    pub id: u64,
    /// `None`: the track's default.
    pub priority: Option<u8>,
    pub status: Status,
    /// Raw key-value pairs, without their length.
    pub properties: Bytes,
    pub payload: Bytes,
    /// Datagrams only: the END_OF_GROUP bit.
    pub end_of_group: bool,
}

/// SUBGROUP_HEADER (§11.4.2), without the alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubgroupHeader {
    pub group: u64,
    pub subgroup: u64,
    pub priority: Option<u8>,
    /// Objects on this stream may carry properties.
    pub properties: bool,
    /// The last object of the stream, when it ends by FIN, is the last of the group.
    pub end_of_group: bool,
    /// The first object on the stream is the subgroup's first.
    pub first_object: bool,
}

/// An object that its carrier can't say: its receiver would close the session over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    #[error("only normal objects have a payload or properties")]
    StatusWithContent,
    #[error("object ids on a stream must grow")]
    IdDoesNotGrow,
    #[error("properties on a stream whose header announces none")]
    Properties,
    #[error("an object status can't end a group in a datagram")]
    StatusEndsGroup,
}

impl Status {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        match reader.varint()? {
            0x0 => Ok(Self::Normal),
            0x3 => Ok(Self::EndOfGroup),
            0x4 => Ok(Self::EndOfTrack),
            _ => Err(Violation::protocol("an unknown object status").into()),
        }
    }

    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Normal => 0x0,
            Self::EndOfGroup => 0x3,
            Self::EndOfTrack => 0x4,
        }
    }
}

impl Object {
    /// What holds for every carrier (§11.2.1.1, §11.2.1.2).
    pub(crate) fn check(&self) -> Result<(), Unsendable> {
        let empty = self.payload.is_empty() && self.properties.is_empty();
        if self.status == Status::Normal || empty { Ok(()) } else { Err(Unsendable::StatusWithContent) }
    }
}

/// The type of an OBJECT_DATAGRAM is 0b00X0XXXX (§11.3.1).
mod bit {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const END_OF_GROUP: u64 = 0x02;
    pub(super) const ZERO_OBJECT_ID: u64 = 0x04;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x08;
    pub(super) const STATUS: u64 = 0x20;
    pub(super) const ALL: u64 = 0x2f;
}

/// Type of a datagram that carries nothing (§11.5.2).
pub const PADDING_DATAGRAM: u64 = 0x132b_3e29;

/// A whole datagram: the track alias and the object. `None`: padding.
pub fn decode_datagram(datagram: &Bytes) -> Result<Option<(u64, Object)>, Violation> {
    whole(read_datagram(&mut Reader::new(datagram)))
}

fn read_datagram(reader: &mut Reader<'_>) -> Read<Option<(u64, Object)>> {
    let kind = reader.varint()?;
    if kind == PADDING_DATAGRAM {
        return Ok(None);
    }
    let has = |bit: u64| kind & bit != 0;
    if kind & !bit::ALL != 0 || has(bit::STATUS) && has(bit::END_OF_GROUP) {
        return Err(Violation::protocol("an unknown datagram type").into());
    }
    let alias = reader.varint()?;
    let mut object = Object { group: reader.varint()?, end_of_group: has(bit::END_OF_GROUP), ..Object::default() };
    if !has(bit::ZERO_OBJECT_ID) {
        object.id = reader.varint()?;
    }
    if !has(bit::DEFAULT_PRIORITY) {
        object.priority = Some(reader.u8()?);
    }
    if has(bit::PROPERTIES) {
        object.properties = reader.prefixed(usize::MAX, "")?;
        if object.properties.is_empty() {
            return Err(Violation::protocol("a datagram that announces properties and has none").into());
        }
    }
    if !has(bit::STATUS) {
        object.payload = reader.rest();
        return Ok(Some((alias, object)));
    }
    object.status = Status::decode(reader)?;
    if !reader.is_empty() || object.check().is_err() {
        return Err(Violation::protocol("an object status with more behind it, or with properties").into());
    }
    Ok(Some((alias, object)))
}

/// Appends the object as one datagram. On an error nothing was written.
pub fn encode_datagram(alias: u64, object: &Object, out: &mut BytesMut) -> Result<(), Unsendable> {
    object.check()?;
    let status = object.status != Status::Normal;
    if status && object.end_of_group {
        return Err(Unsendable::StatusEndsGroup);
    }
    let bits = [
        (bit::PROPERTIES, !object.properties.is_empty()),
        (bit::END_OF_GROUP, object.end_of_group),
        (bit::ZERO_OBJECT_ID, object.id == 0),
        (bit::DEFAULT_PRIORITY, object.priority.is_none()),
        (bit::STATUS, status),
    ];
    out.reserve(object.payload.len() + object.properties.len() + 5 * varint::MAX_LEN);
    varint::put(out, bits.iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum());
    varint::put(out, alias);
    varint::put(out, object.group);
    if object.id != 0 {
        varint::put(out, object.id);
    }
    if let Some(priority) = object.priority {
        out.put_u8(priority);
    }
    if !object.properties.is_empty() {
        put_prefixed(out, &object.properties);
    }
    if status {
        varint::put(out, object.status.code());
    }
    out.extend_from_slice(&object.payload);
    Ok(())
}
