//! An object as it lies in the cache: its fields at fixed places, its properties, its payload.

use bytes::Bytes;

use crate::moqt::{Object, Status};

/// The fields of an object as they are kept, before its properties and payload.
pub(super) struct Head([u8; Head::LEN]);

mod flag {
    pub(super) const PRIORITY: u8 = 1;
    pub(super) const DATAGRAM: u8 = 1 << 1;
    pub(super) const END_OF_GROUP: u8 = 1 << 2;
    pub(super) const STATUS: u8 = 3;
}

impl Head {
    /// Bytes of properties and payload, flags, priority, and four numbers.
    pub(super) const LEN: usize = 4 + 4 + 2 + 4 * 8;

    pub(super) fn of(object: &Object, datagram: bool, at_us: u64) -> Self {
        let status = match object.status {
            Status::Normal => 0,
            Status::EndOfGroup => 1,
            Status::EndOfTrack => 2,
        };
        let bits = [
            (flag::PRIORITY, object.priority.is_some()),
            (flag::DATAGRAM, datagram),
            (flag::END_OF_GROUP, object.end_of_group),
        ];
        let flags = bits.iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum::<u8>() | status << flag::STATUS;
        let mut head = [0; Self::LEN];
        // Lengths are within `CacheLimits::MOST_TRACK_BYTES`.
        head[..4].copy_from_slice(&(object.properties.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(object.payload.len() as u32).to_le_bytes());
        head[8..10].copy_from_slice(&[flags, object.priority.unwrap_or(0)]);
        for (at, number) in [object.group, object.subgroup, object.id, at_us].into_iter().enumerate() {
            head[10 + 8 * at..18 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        Self(head)
    }

    /// The fields that a record begins with; `None`: it is shorter than that.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        record.first_chunk().copied().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn properties(&self) -> usize {
        self.length(0)
    }

    pub(super) fn payload(&self) -> usize {
        self.length(4)
    }

    pub(super) fn at_us(&self) -> u64 {
        self.number(3)
    }

    pub(super) fn is_datagram(&self) -> bool {
        self.0[8] & flag::DATAGRAM != 0
    }

    fn length(&self, at: usize) -> usize {
        let bytes = [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
        u32::from_le_bytes(bytes) as usize
    }

    fn number(&self, which: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[10 + 8 * which..18 + 8 * which]);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn object(&self, properties: Bytes, payload: Bytes) -> Object {
        let (flags, priority) = (self.0[8], self.0[9]);
        Object {
            group: self.number(0),
            subgroup: self.number(1),
            id: self.number(2),
            priority: (flags & flag::PRIORITY != 0).then_some(priority),
            status: match flags >> flag::STATUS {
                0 => Status::Normal,
                1 => Status::EndOfGroup,
                _ => Status::EndOfTrack,
            },
            properties,
            payload,
            end_of_group: flags & flag::END_OF_GROUP != 0,
        }
    }
}
