//! Objects and the headers of the streams and datagrams that carry them (§10).

use bytes::Bytes;

/// Object status (§10.2.1.1).
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

/// SUBGROUP_HEADER (§10.4.2), without the alias.
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
