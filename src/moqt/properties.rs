//! Properties of tracks and objects (§2.5, §12): key-value pairs whose types ascend by delta (§1.4.3).
//!
//! Sessions and relays carry them as the bytes they came in. Whoever must know a value looks for it here: [`pairs`] walks,
//! [`number`] finds, [`Writer`] builds. Unknown properties are skipped, never an error.

use bytes::{Bytes, BytesMut};

use super::codec::{Read, Reader, put_prefixed};
use super::error::Violation;
use super::varint;

/// Registered types that we read or write.
pub mod kind {
    pub const OBJECT_DELIVERY_TIMEOUT: u64 = 0x02;
    pub const MAX_CACHE_DURATION: u64 = 0x04;
    pub const SUBGROUP_DELIVERY_TIMEOUT: u64 = 0x06;
    /// Ticks per second of [`TIMESTAMP`] (draft-ietf-moq-loc-04 "Timescale").
    pub const TIMESCALE: u64 = 0x08;
    pub const IMMUTABLE: u64 = 0x0b;
    pub const DEFAULT_PUBLISHER_PRIORITY: u64 = 0x0e;
    /// When an object was captured (draft-ietf-moq-loc-04 "Timestamp").
    pub const TIMESTAMP: u64 = 0x10;
    pub const DEFAULT_GROUP_ORDER: u64 = 0x22;
    pub const DYNAMIC_GROUPS: u64 = 0x30;
    /// So many groups before this object's, or objects before it in its group, do not exist (§12.8, §12.9).
    pub const PRIOR_GROUP_ID_GAP: u64 = 0x3c;
    pub const PRIOR_OBJECT_ID_GAP: u64 = 0x3e;
    /// A track with a property of this range must not be touched by who does not know it (§2.5.1).
    pub const MANDATORY: std::ops::RangeInclusive<u64> = 0x4000..=0x7fff;
}

/// Even types carry a number, odd ones bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Bytes),
}

/// Longest byte value (§1.4.3).
pub const MAX_VALUE: usize = 65_535;

/// Walks key-value pairs; ends after the first violation.
pub struct Pairs<'a> {
    reader: Reader<'a>,
    last: u64,
}

/// All pairs of a sequence that fills `bytes`.
pub fn pairs(bytes: &Bytes) -> Pairs<'_> {
    Pairs { reader: Reader::new(bytes), last: 0 }
}

impl Pairs<'_> {
    fn read(&mut self) -> Read<(u64, Value)> {
        let delta = self.reader.varint()?;
        self.last = self.last.checked_add(delta).ok_or(Violation::protocol("a key beyond 2^64 - 1"))?;
        let value = match self.last % 2 {
            0 => Value::Number(self.reader.varint()?),
            _ => Value::Bytes(self.reader.prefixed(MAX_VALUE, "a value longer than 65535 bytes")?),
        };
        Ok((self.last, value))
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<(u64, Value), Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let pair = super::codec::whole(self.read());
        if pair.is_err() {
            self.reader.rest();
        }
        Some(pair)
    }
}

/// The number of type `kind`, also inside IMMUTABLE (§12.7). `None`: absent, or the bytes are not pairs.
pub fn number(bytes: &Bytes, kind: u64) -> Option<u64> {
    for pair in pairs(bytes) {
        match pair.ok()? {
            (key, Value::Number(value)) if key == kind => return Some(value),
            // One level only: a nested IMMUTABLE is skipped, so hostile nesting costs nothing.
            (kind::IMMUTABLE, Value::Bytes(inner)) => {
                let found = pairs(&inner).map_while(Result::ok).find(|(key, _)| *key == kind);
                if let Some((_, Value::Number(value))) = found {
                    return Some(value);
                }
            }
            _ => {}
        }
    }
    None
}

/// Appends pairs; types must not descend.
#[derive(Default)]
pub struct Writer {
    out: BytesMut,
    last: u64,
}

impl Writer {
    /// A `kind` below the one before is a mistake of the caller; it is left out.
    pub fn number(mut self, kind: u64, value: u64) -> Self {
        if self.key(kind, 0) {
            varint::put(&mut self.out, value);
        }
        self
    }

    /// As [`Writer::number`], for odd types. A peer refuses more than [`MAX_VALUE`] bytes.
    pub fn bytes(mut self, kind: u64, value: &[u8]) -> Self {
        if self.key(kind, 1) {
            put_prefixed(&mut self.out, value);
        }
        self
    }

    fn key(&mut self, kind: u64, parity: u64) -> bool {
        let fits = kind >= self.last && kind % 2 == parity;
        debug_assert!(fits, "property {kind:#x} after {:#x}, or a value of the wrong form", self.last);
        if fits {
            varint::put(&mut self.out, kind - self.last);
            self.last = kind;
        }
        fits
    }

    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// The properties of a live audio object: its capture time in ticks of the track's TIMESCALE.
pub fn timestamp(ticks: u64) -> Bytes {
    Writer::default().number(kind::TIMESTAMP, ticks).finish()
}

/// The properties of a track whose timestamps count `ticks_per_second`.
pub fn timescale(ticks_per_second: u64) -> Bytes {
    Writer::default().number(kind::TIMESCALE, ticks_per_second).finish()
}

/// The properties with `kind` set to `value`, everything else as it was. Bytes that are not pairs come back unchanged.
pub fn with_number(bytes: &Bytes, kind: u64, value: u64) -> Bytes {
    let Ok(mut all) = pairs(bytes).collect::<Result<Vec<_>, _>>() else {
        return bytes.clone();
    };
    all.retain(|(key, _)| *key != kind);
    let at = all.partition_point(|(key, _)| *key < kind);
    all.insert(at, (kind, Value::Number(value)));
    let writer = all.into_iter().fold(Writer::default(), |writer, (key, value)| match value {
        Value::Number(value) => writer.number(key, value),
        Value::Bytes(value) => writer.bytes(key, &value),
    });
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_wherever_they_stand() {
        assert_eq!(timestamp(20_000), Bytes::from_static(&[0x10, 0xc0, 0x4e, 0x20]));
        assert_eq!(timescale(1_000_000), Bytes::from_static(&[0x08, 0xcf, 0x42, 0x40]));
        let inner = timestamp(7);
        let sealed = Writer::default().number(0x02, 5).bytes(kind::IMMUTABLE, &inner).bytes(0x77, b"x").finish();
        assert_eq!(number(&sealed, kind::TIMESTAMP), Some(7));
        assert_eq!(number(&sealed, 0x02), Some(5));
        assert_eq!(number(&sealed, kind::TIMESCALE), None);
    }

    #[test]
    fn what_is_not_pairs_ends_in_one_violation() {
        for wrong in [&[0x10][..], &[0x0b, 0x05, 1], &[0x0b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            let wrong = Bytes::copy_from_slice(wrong);
            assert_eq!(pairs(&wrong).filter(Result::is_err).count(), 1);
            assert_eq!(number(&wrong, 0x10), None);
        }
        let overflow = Bytes::from_static(&[0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 2, 0]);
        assert!(pairs(&overflow).any(|pair| pair.is_err()));
    }

    #[test]
    fn a_number_is_replaced_in_its_place() {
        let before = Writer::default().number(0x02, 1).number(0x22, 1).bytes(0x77, b"x").finish();
        let after = with_number(&before, 0x22, 2);
        assert_eq!(after, Writer::default().number(0x02, 1).number(0x22, 2).bytes(0x77, b"x").finish());
        assert_eq!(number(&with_number(&after, 0x08, 9), 0x08), Some(9));
    }
}
