//! The fields of draft 16: integers of QUIC (RFC 9000 §16), names, key-value pairs, and the same pairs in our own form.

use bytes::{BufMut, Bytes, BytesMut};

use crate::moqt::codec::{Read, Reader, Stop, whole};
use crate::moqt::error::Violation;
use crate::moqt::message::Location;
use crate::moqt::name::{FullTrackName, MAX_FIELDS, MAX_NAME_BYTES, TrackNamespace};
use crate::moqt::properties::{self, Value, Writer};

/// Largest integer that can travel.
pub(super) const MAX: u64 = (1 << 62) - 1;
/// Longest byte value of a key-value pair (§1.4.2).
const MAX_VALUE: usize = 65_535;

pub(super) fn read(reader: &mut Reader<'_>) -> Read<u64> {
    let first = reader.u8()?;
    let mut value = u64::from(first & 0x3f);
    for _ in 1..1_u8 << (first >> 6) {
        value = value << 8 | u64::from(reader.u8()?);
    }
    Ok(value)
}

/// The shortest form; what is too large becomes the largest.
pub(super) fn put(out: &mut BytesMut, value: u64) {
    match value.min(MAX) {
        value @ 0..0x40 => out.put_u8(value as u8),
        value @ 0x40..0x4000 => out.put_u16(value as u16 | 0x4000),
        value @ 0x4000..0x4000_0000 => out.put_u32(value as u32 | 0x8000_0000),
        value => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

pub(super) fn prefixed(reader: &mut Reader<'_>, max: usize, what: &'static str) -> Read<Bytes> {
    match usize::try_from(read(reader)?) {
        Ok(len) if len <= max => reader.bytes(len),
        _ => Err(Violation::protocol(what).into()),
    }
}

pub(super) fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

pub(super) fn location(reader: &mut Reader<'_>) -> Read<Location> {
    Ok(Location { group: read(reader)?, object: read(reader)? })
}

pub(super) fn put_location(out: &mut BytesMut, place: Location) {
    put(out, place.group);
    put(out, place.object);
}

pub(super) fn namespace(reader: &mut Reader<'_>) -> Read<TrackNamespace> {
    const WRONG: Violation = Violation::protocol("a namespace outside the draft's bounds");
    let count = read(reader)?;
    if count > MAX_FIELDS as u64 {
        return Err(WRONG.into());
    }
    let fields: Result<Vec<Bytes>, Stop> =
        (0..count).map(|_| prefixed(reader, MAX_NAME_BYTES, "a track name longer than 4096 bytes")).collect();
    Ok(TrackNamespace::new(fields?).map_err(|_| WRONG)?)
}

pub(super) fn put_namespace(out: &mut BytesMut, namespace: &TrackNamespace) {
    put(out, namespace.fields().len() as u64);
    namespace.fields().iter().for_each(|field| put_prefixed(out, field));
}

pub(super) fn track(reader: &mut Reader<'_>) -> Read<FullTrackName> {
    const LONG: &str = "a track name longer than 4096 bytes";
    let namespace = namespace(reader)?;
    if namespace.fields().is_empty() {
        return Err(Violation::protocol("a track in no namespace").into());
    }
    let name = prefixed(reader, MAX_NAME_BYTES, LONG)?;
    Ok(FullTrackName::new(namespace, name).map_err(|_| Violation::protocol(LONG))?)
}

pub(super) fn put_track(out: &mut BytesMut, track: &FullTrackName) {
    put_namespace(out, &track.namespace);
    put_prefixed(out, &track.name);
}

/// One key-value pair behind the key `last` (§1.4.2): even keys have a number, odd ones bytes.
pub(super) fn pair(reader: &mut Reader<'_>, last: u64) -> Read<(u64, Value)> {
    let key = last.checked_add(read(reader)?).ok_or(Violation::protocol("a key beyond 2^64 - 1"))?;
    let value = match key % 2 {
        0 => Value::Number(read(reader)?),
        _ => Value::Bytes(prefixed(reader, MAX_VALUE, "a value longer than 65535 bytes")?),
    };
    Ok((key, value))
}

pub(super) fn put_pair(out: &mut BytesMut, key: u64, last: u64, value: &Value) {
    put(out, key - last);
    match value {
        Value::Number(number) => put(out, *number),
        Value::Bytes(bytes) => put_prefixed(out, bytes),
    }
}

/// Properties as they came ("extension headers" then) in our form. A list inside IMMUTABLE is one too.
pub(super) fn properties_in(bytes: &Bytes) -> Result<Bytes, Violation> {
    let (mut reader, mut writer, mut last) = (Reader::new(bytes), Writer::default(), 0);
    while !reader.is_empty() {
        let (key, value) = whole(pair(&mut reader, last))?;
        writer = match value {
            Value::Number(number) => writer.number(key, number),
            Value::Bytes(inner) if key == properties::kind::IMMUTABLE => {
                // What is no list of pairs is somebody's business, not ours.
                writer.bytes(key, &properties_in(&inner).unwrap_or(inner))
            }
            Value::Bytes(bytes) => writer.bytes(key, &bytes),
        };
        last = key;
    }
    Ok(writer.finish())
}

/// Our properties as they travel. A number that can't is left out.
pub(super) fn properties_out(bytes: &Bytes) -> Bytes {
    let (mut out, mut last) = (BytesMut::new(), 0);
    for (key, value) in properties::pairs(bytes).map_while(Result::ok) {
        let value = match value {
            Value::Number(number) if number > MAX || key > MAX => continue,
            Value::Bytes(inner) if key == properties::kind::IMMUTABLE => Value::Bytes(properties_out(&inner)),
            value => value,
        };
        put_pair(&mut out, key, last, &value);
        last = key;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 §A.1.
    #[test]
    fn integers_are_those_of_quic() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let wire = Bytes::copy_from_slice(bytes);
            assert_eq!(read(&mut Reader::new(&wire)), Ok(value));
            let mut out = BytesMut::new();
            put(&mut out, value);
            assert_eq!(out, wire);
        }
    }

    #[test]
    fn properties_keep_their_meaning() {
        let inner = properties::timestamp(1_700_000_000_000_000);
        let ours = Writer::default().number(0x02, 300).bytes(0x0b, &inner).number(0x10, u64::MAX).bytes(0x77, b"x");
        let wire = properties_out(&ours.finish());
        let kept = Writer::default().number(0x02, 300).bytes(0x0b, &inner).bytes(0x77, b"x").finish();
        assert_eq!(properties_in(&wire), Ok(kept));
        assert!(properties_in(&Bytes::from_static(&[0x01, 0x05, 1])).is_err());
    }
}
