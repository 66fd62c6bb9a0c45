//! Draft-18 messages as bytes, written by hand: what a peer of another make, or of bad will, may say.
//!
//! Nothing of the crate under test is used, so that a message our own codec would not write can be said too.

/// vi64 (§1.4.1): as many leading 1 bits as bytes follow the first.
pub fn vi(value: u64) -> Vec<u8> {
    let extra = (1..8).find(|bytes| value < 1 << (7 * bytes)).map_or(8, |bytes| bytes - 1);
    if extra == 8 {
        return [&[0xff][..], &value.to_be_bytes()].concat();
    }
    let mut bytes = value.to_be_bytes()[7 - extra..].to_vec();
    bytes[0] |= !(0xff_u16 >> extra) as u8;
    bytes
}

pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [vi(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A control message: type, 16-bit length, body (§10).
pub fn message(kind: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).expect("a message is at most 65535 bytes");
    [vi(kind), length.to_be_bytes().to_vec(), body].concat()
}

/// Fields of a namespace as they are, also empty ones and none.
pub fn fields(fields: &[&[u8]]) -> Vec<u8> {
    [vi(fields.len() as u64), fields.iter().flat_map(|field| sized(field)).collect()].concat()
}

/// Slashes part the fields; an empty text has none.
pub fn namespace(text: &str) -> Vec<u8> {
    fields(&text.split('/').filter(|field| !field.is_empty()).map(str::as_bytes).collect::<Vec<_>>())
}

/// USE_VALUE (3) of an out-of-band token (type 0), §10.2.2.
pub fn token(jwt: &[u8]) -> Vec<u8> {
    [vi(3), vi(0), jwt.to_vec()].concat()
}

/// SETUP, with a token as option 0x03 unless it is empty.
pub fn setup(jwt: &[u8]) -> Vec<u8> {
    let option = if jwt.is_empty() { Vec::new() } else { [vi(3), sized(&token(jwt))].concat() };
    message(0x2f00, &[&option])
}

const NONE: &[u8] = &[0];
const AUDIO: &[u8] = b"audio";

pub fn subscribe(id: u64, namespace: &[u8], parameters: &[u8]) -> Vec<u8> {
    message(0x03, &[&vi(id), namespace, &sized(AUDIO), parameters])
}

/// SUBSCRIBE that waits for its publisher: RENDEZVOUS_TIMEOUT (0x04), and Largest Object as filter (0x21).
pub fn subscribe_patiently(id: u64, namespace: &[u8]) -> Vec<u8> {
    subscribe(id, namespace, &[vi(2), vi(4), vi(30_000), vi(0x21 - 4), sized(&vi(2))].concat())
}

pub fn subscribe_plainly(id: u64, namespace: &[u8]) -> Vec<u8> {
    subscribe(id, namespace, NONE)
}

pub fn track_status(id: u64, namespace: &[u8]) -> Vec<u8> {
    message(0x0d, &[&vi(id), namespace, &sized(AUDIO), NONE])
}

pub fn publish(id: u64, namespace: &[u8], alias: u64) -> Vec<u8> {
    message(0x1d, &[&vi(id), namespace, &sized(AUDIO), &vi(alias), NONE])
}

pub fn publish_namespace(id: u64, namespace: &[u8]) -> Vec<u8> {
    message(0x06, &[&vi(id), namespace, NONE])
}

pub fn subscribe_namespace(id: u64, prefix: &[u8]) -> Vec<u8> {
    message(0x50, &[&vi(id), prefix, NONE])
}

pub fn subscribe_tracks(id: u64, prefix: &[u8]) -> Vec<u8> {
    message(0x51, &[&vi(id), prefix, NONE])
}

/// All that there is: from the first group on, open at its end.
pub fn fetch(id: u64, namespace: &[u8]) -> Vec<u8> {
    let range = [vi(0), vi(0), vi(1 << 20), vi(0)].concat();
    message(0x16, &[&vi(id), &vi(1), namespace, &sized(AUDIO), &range, NONE])
}

/// A joining FETCH of the last groups of what request `joining` is about: relative (2) or absolute (3).
pub fn fetch_joining(id: u64, kind: u64, joining: u64, start: u64) -> Vec<u8> {
    message(0x16, &[&vi(id), &vi(kind), &vi(joining), &vi(start), NONE])
}

pub fn request_update(id: u64) -> Vec<u8> {
    message(0x02, &[&vi(id), &[1, 0x10, 1]])
}

/// A subgroup stream's header (0x50: first object present, subgroup 0) and its first object.
pub fn subgroup(alias: u64, group: u64, payload: &[u8]) -> Vec<u8> {
    [vi(0x50), vi(alias), vi(group), vec![64], vi(0), sized(payload)].concat()
}

/// An object as datagram: object 0 of its group, without properties.
pub fn datagram(alias: u64, group: u64, payload: &[u8]) -> Vec<u8> {
    [vi(0x04), vi(alias), vi(group), vec![64], payload.to_vec()].concat()
}

/// The first whole message of `bytes`: its type and body.
pub fn first_message(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (kind, rest) = read_vi(bytes)?;
    let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    Some((kind, rest.get(2..2 + length)?))
}

pub fn read_vi(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let extra = bytes.first()?.leading_ones() as usize;
    let (head, rest) = (bytes.get(..=extra)?, &bytes[extra + 1..]);
    let first = if extra >= 7 { 0 } else { u64::from(head[0] & (0x7f >> extra)) };
    Some((head[1..].iter().fold(first, |value, byte| value << 8 | u64::from(*byte)), rest))
}

#[test]
fn numbers_are_those_of_the_draft() {
    let golden: [(u64, &[u8]); 5] = [
        (37, &[0x25]),
        (15_293, &[0xbb, 0xbd]),
        (226_442_877, &[0xed, 0x7f, 0x3e, 0x7d]),
        (0x2f00, &[0xaf, 0x00]),
        (u64::MAX, &[0xff; 9]),
    ];
    for (value, bytes) in golden {
        assert_eq!(vi(value), bytes);
        assert_eq!(read_vi(bytes), Some((value, &[][..])));
    }
    for shift in 0..64 {
        for value in [1_u64 << shift, (1 << shift) - 1] {
            assert_eq!(read_vi(&vi(value)), Some((value, &[][..])), "{value}");
        }
    }
}
