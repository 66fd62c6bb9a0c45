//! Bytes of HTTP/3 that stand around a WebTransport session: what a stream starts with, frames of the CONNECT stream, capsules in them.

use bytes::{Buf, Bytes, BytesMut};
use web_transport_proto::{Capsule, CapsuleError, Frame, StreamUni, VarInt};

/// Of one frame or capsule that we keep whole.
const MESSAGE_BYTES: usize = 64 << 10;

/// What a stream of the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Of a WebTransport session: the id of its CONNECT stream.
    Session(u64),
    /// HTTP/3 control, whose SETTINGS we read.
    Control,
    /// A request: the CONNECT.
    Request,
    /// QPACK without a dynamic table, and greasing: read and forgotten.
    Ignored,
    Unknown,
}

/// The head of a stream from its first bytes; `None`: more are needed. A control or request stream keeps its bytes, a
/// session's stream goes on behind them.
pub(super) fn head(mut bytes: &[u8], unidirectional: bool) -> Option<Head> {
    let kind = VarInt::decode(&mut bytes).ok()?;
    let belongs = match unidirectional {
        true => StreamUni(kind) == StreamUni::WEBTRANSPORT,
        false => Frame(kind) == Frame::WEBTRANSPORT,
    };
    if belongs {
        return VarInt::decode(&mut bytes).ok().map(|session| Head::Session(session.into_inner()));
    }
    Some(match (unidirectional, StreamUni(kind)) {
        (true, StreamUni::CONTROL) => Head::Control,
        (true, StreamUni::QPACK_ENCODER | StreamUni::QPACK_DECODER) => Head::Ignored,
        (true, other) if other.is_grease() => Head::Ignored,
        (true, _) => Head::Unknown,
        (false, _) if Frame(kind) == Frame::HEADERS || Frame(kind).is_grease() => Head::Request,
        (false, _) => Head::Unknown,
    })
}

/// How many more bytes [`head`] may be given without taking what belongs to the session.
pub(super) fn missing(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for _ in 0..2 {
        let Some(first) = rest.first() else { return 1 };
        let size = 1usize << (first >> 6);
        if rest.len() < size {
            return size - rest.len();
        }
        rest = &rest[size..];
    }
    1
}

/// The start of our streams of the session whose CONNECT is stream `session`.
pub(super) fn stream_heads(session: u64) -> [Bytes; 2] {
    [Frame::WEBTRANSPORT.0, StreamUni::WEBTRANSPORT.0].map(|kind| {
        let mut head = BytesMut::new();
        kind.encode(&mut head);
        varint(session).encode(&mut head);
        head.freeze()
    })
}

/// Stream ids and their quarters are below 2^62 by construction.
pub(super) fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

/// A capsule in a DATA frame (RFC 9297 §3.2).
pub(super) fn close_frame(code: u32, reason: &str) -> BytesMut {
    let mut capsule = BytesMut::new();
    // At most 1024 bytes of reason (draft-ietf-webtrans-http3 §5).
    let end = reason.floor_char_boundary(1_024);
    Capsule::CloseWebTransportSession { code, reason: reason[..end].to_owned() }.encode(&mut capsule);
    let mut frame = BytesMut::new();
    Frame::DATA.encode(&mut frame);
    varint(capsule.len() as u64).encode(&mut frame);
    frame.extend_from_slice(&capsule);
    frame
}

/// The CONNECT stream after its headers: DATA frames, whose content is a sequence of capsules.
#[derive(Default)]
pub(super) struct Capsules {
    frames: BytesMut,
    /// Of the frame in hand: bytes to come, and whether they are data.
    left: u64,
    is_data: bool,
    capsules: BytesMut,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Capsules {
    /// The session's close, if it is among them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<(u32, String)>, TooLong> {
        self.frames.extend_from_slice(bytes);
        while self.next_part() {}
        if self.frames.len() > 16 || self.capsules.len() > MESSAGE_BYTES {
            return Err(TooLong);
        }
        self.next_close()
    }

    /// Takes one frame's header or content; `false`: more bytes are needed.
    fn next_part(&mut self) -> bool {
        if self.left > 0 {
            let count = self.frames.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let part = self.frames.split_to(count);
            self.left -= count as u64;
            if self.is_data {
                self.capsules.extend_from_slice(&part);
            }
            return count > 0;
        }
        let mut rest = &self.frames[..];
        let (Ok(kind), Ok(size)) = (Frame::decode(&mut rest), VarInt::decode(&mut rest)) else { return false };
        let used = self.frames.len() - rest.len();
        self.frames.advance(used);
        (self.left, self.is_data) = (size.into_inner(), kind == Frame::DATA);
        true
    }

    fn next_close(&mut self) -> Result<Option<(u32, String)>, TooLong> {
        loop {
            let mut rest = &self.capsules[..];
            match Capsule::decode(&mut rest) {
                Ok(Capsule::CloseWebTransportSession { code, reason }) => return Ok(Some((code, reason))),
                Ok(_) => {
                    let used = self.capsules.len() - rest.len();
                    self.capsules.advance(used);
                }
                Err(CapsuleError::UnexpectedEnd | CapsuleError::VarInt(_)) => return Ok(None),
                Err(_) => return Err(TooLong),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_byte_by_byte_and_never_too_far() {
        for (index, unidirectional) in [(0, false), (1, true)] {
            let wire = [&stream_heads(0x1234)[index][..], b"payload"].concat();
            let mut taken = Vec::new();
            let head = loop {
                if let Some(head) = head(&taken, unidirectional) {
                    break head;
                }
                let next = taken.len() + missing(&taken);
                taken.extend_from_slice(&wire[taken.len()..next]);
            };
            assert_eq!(head, Head::Session(0x1234));
            assert_eq!(&wire[taken.len()..], b"payload");
        }
        assert_eq!(head(&[0x00], true), Some(Head::Control));
        assert_eq!(head(&[0x03], true), Some(Head::Ignored));
        assert_eq!(head(&[0x01], false), Some(Head::Request));
        assert_eq!(head(&[0x07], true), Some(Head::Unknown));
        assert_eq!(head(&[], true), None);
    }

    #[test]
    fn a_close_is_found_however_it_is_cut() {
        let mut wire = BytesMut::new();
        // A greased frame, an unknown capsule, then the close in two DATA frames.
        wire.extend_from_slice(&[0x21, 3, 1, 2, 3, 0x00, 4, 0x19, 2, 9, 9]);
        let close = close_frame(77, "so long");
        let (first, second) = close[2..].split_at(5);
        for part in [first, second] {
            wire.extend_from_slice(&[0x00, part.len() as u8]);
            wire.extend_from_slice(part);
        }
        for step in 1..wire.len() {
            let mut capsules = Capsules::default();
            let found = wire.chunks(step).find_map(|part| capsules.push(part).expect("well-formed"));
            assert_eq!(found, Some((77, "so long".to_owned())), "in steps of {step}");
        }
    }

    #[test]
    fn garbage_is_bounded() {
        let mut random = 7u64;
        for _ in 0..2_000 {
            let mut capsules = Capsules::default();
            for _ in 0..20 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let bytes = random.to_be_bytes();
                head(&bytes, random & 1 == 0);
                if capsules.push(&bytes).is_err() {
                    break;
                }
            }
        }
        let mut capsules = Capsules::default();
        let endless =
            [&[0x00, 0xc0, 0, 0, 1, 0, 0, 0, 0, 0x40, 0x43, 0xbf, 0xff, 0xff, 0xff][..], &[0; 1_000]].concat();
        let flooded = std::iter::once(&endless[..]).chain(std::iter::repeat_n(&[0u8; 1_000][..], 80));
        assert!(flooded.into_iter().any(|part| capsules.push(part).is_err()));
    }
}
