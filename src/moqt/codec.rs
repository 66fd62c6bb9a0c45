//! Reading and writing fields: a cursor over one chunk of bytes, and the two ways a read can stop.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::Violation;
use super::varint;

/// Why a field could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes end before the field does: wait for more, or a violation when the whole is there.
    Short,
    Violation(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

pub(crate) type Read<T> = Result<T, Stop>;

/// A read of something that is there as a whole: too few bytes are the peer's fault.
pub(crate) fn whole<T>(read: Read<T>) -> Result<T, Violation> {
    read.map_err(|stop| match stop {
        Stop::Short => Violation::protocol("a field runs past the end of what holds it"),
        Stop::Violation(violation) => violation,
    })
}

/// A cursor over one chunk; byte fields are slices of it, not copies.
pub(crate) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Short)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    pub(crate) fn varint(&mut self) -> Read<u64> {
        let (value, len) = varint::read(&self.bytes[self.at..]).ok_or(Stop::Short)?;
        self.at += len;
        Ok(value)
    }

    /// The same value again on the next read.
    pub(crate) fn peek_varint(&self) -> Read<u64> {
        varint::read(&self.bytes[self.at..]).map(|(value, _)| value).ok_or(Stop::Short)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Read<Bytes> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(Stop::Short)?;
        let field = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(field)
    }

    /// A length and that many bytes; more than `max` is a violation, known before they arrive.
    pub(crate) fn prefixed(&mut self, max: usize, what: &'static str) -> Read<Bytes> {
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) if len <= max => self.bytes(len),
            _ => Err(Violation::protocol(what).into()),
        }
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }
}

pub(crate) fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.put_slice(bytes);
}
