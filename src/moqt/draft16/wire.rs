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

/// Properties as they came ("extension headers" then) in our form, the list inside IMMUTABLE too.
pub(super) fn properties_in(bytes: &Bytes) -> Result<Bytes, Violation> {
    convert_in(bytes, list_in)
}

/// Our properties as they travel. What this draft can't say (an integer beyond [`MAX`]) is left out.
pub(super) fn properties_out(bytes: &Bytes) -> Bytes {
    convert_out(bytes, list_out)
}

/// The content of an IMMUTABLE property. What is no list of pairs says nothing to anybody, and `None` leaves it out. One level only: an
/// IMMUTABLE inside is passed on as it is, so that hostile nesting costs nothing.
fn list_in(bytes: &Bytes) -> Option<Bytes> {
    convert_in(bytes, |inner| Some(inner.clone())).ok()
}

fn list_out(bytes: &Bytes) -> Option<Bytes> {
    let whole = properties::pairs(bytes).all(|pair| pair.is_ok());
    whole.then(|| convert_out(bytes, |inner| Some(inner.clone())))
}

fn convert_in(bytes: &Bytes, immutable: fn(&Bytes) -> Option<Bytes>) -> Result<Bytes, Violation> {
    let (mut reader, mut writer, mut last) = (Reader::new(bytes), Writer::default(), 0);
    while !reader.is_empty() {
        let (key, value) = whole(pair(&mut reader, last))?;
        writer = match value {
            Value::Number(number) => writer.number(key, number),
            Value::Bytes(inner) if key == properties::kind::IMMUTABLE => match fitting(immutable(&inner)) {
                Some(inner) => writer.bytes(key, &inner),
                None => writer,
            },
            Value::Bytes(bytes) => writer.bytes(key, &bytes),
        };
        last = key;
    }
    Ok(writer.finish())
}

fn convert_out(bytes: &Bytes, immutable: fn(&Bytes) -> Option<Bytes>) -> Bytes {
    let (mut out, mut last) = (BytesMut::new(), 0);
    for (key, value) in properties::pairs(bytes).map_while(Result::ok) {
        let value = match value {
            Value::Number(number) if number > MAX => continue,
            Value::Bytes(inner) if key == properties::kind::IMMUTABLE => match fitting(immutable(&inner)) {
                Some(inner) => Value::Bytes(inner),
                None => continue,
            },
            value => value,
        };
        // A key is told by its distance, and half of the distances can't be.
        if key - last <= MAX {
            put_pair(&mut out, key, last, &value);
            last = key;
        }
    }
    out.freeze()
}

/// Integers may have grown by the conversion.
fn fitting(bytes: Option<Bytes>) -> Option<Bytes> {
    bytes.filter(|bytes| bytes.len() <= MAX_VALUE)
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

    #[test]
    fn what_this_draft_can_not_say_is_left_out_and_the_rest_keeps_its_place() {
        let far = MAX + 2 + MAX % 2;
        let ours = Writer::default().number(0x02, 1).bytes(0x0b, &[0xff]).number(0x10, 7).bytes(far * 2 + 1, b"far");
        let kept = Writer::default().number(0x02, 1).number(0x10, 7).finish();
        assert_eq!(properties_in(&properties_out(&ours.finish())), Ok(kept));
    }

    /// Every level is three bytes or five: thousands of them fit into one message of a stranger.
    #[test]
    fn nesting_costs_nothing() {
        let mut nested = Vec::new();
        while nested.len() < MAX_VALUE - 5 {
            let mut level = BytesMut::new();
            put_pair(&mut level, properties::kind::IMMUTABLE, 0, &Value::Bytes(Bytes::from(nested)));
            nested = level.to_vec();
        }
        let wire = Bytes::from(nested);
        let ours = properties_in(&wire).expect("pairs");
        assert_eq!(properties_out(&ours), wire);
    }
}
