//! One RTP packet (RFC 3550 §5.1): read without a copy, written into a buffer.

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 12;
const VERSION: u8 = 2;
/// A header's count of contributing sources has four bits.
const MOST_CSRCS: usize = 15;

/// What stands in every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    /// Seven bits.
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// A header extension (RFC 3550 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    pub profile: u16,
    /// Whole words of 32 bits.
    pub bytes: &'a [u8],
}

/// A packet as it lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub header: Header,
    csrcs: &'a [u8],
    pub extension: Option<Extension<'a>>,
    pub payload: &'a [u8],
    /// Bytes of padding behind the payload, the last of them their count; 0: none.
    pub padding: u8,
}

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("the packet ends inside its header")]
    Truncated,
    #[error("RTP version {0}, not 2")]
    Version(u8),
    #[error("padding of {0} bytes does not fit")]
    Padding(u8),
}

/// Whether a datagram on a port of both is RTCP: its type is between 192 and 223 (RFC 5761 §4).
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 192..=223, ..] if first >> 6 == VERSION)
}

impl Header {
    /// Appends the header of a packet without contributing sources, extension or padding; its payload follows.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_with(0, out);
    }

    /// `flags`: padding, extension and the count of sources, as they stand in the first byte.
    fn write_with(&self, flags: u8, out: &mut Vec<u8>) {
        out.push(VERSION << 6 | flags);
        out.push(u8::from(self.marker) << 7 | (self.payload_type & 0x7f));
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
    }
}

impl<'a> Packet<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (fixed, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(PacketError::Truncated)?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != VERSION {
            return Err(PacketError::Version(first >> 6));
        }
        let header = Header {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        let csrc_bytes = usize::from(first & 0x0f) * 4;
        let (csrcs, mut rest) = rest.split_at_checked(csrc_bytes).ok_or(PacketError::Truncated)?;
        let mut extension = None;
        if first & 0x10 != 0 {
            let (found, behind) = Extension::parse(rest)?;
            extension = Some(found);
            rest = behind;
        }
        let mut padding = 0;
        if first & 0x20 != 0 {
            padding = rest.last().copied().ok_or(PacketError::Truncated)?;
            let kept = rest.len().checked_sub(usize::from(padding)).filter(|_| padding > 0);
            rest = &rest[..kept.ok_or(PacketError::Padding(padding))?];
        }
        Ok(Self { header, csrcs, extension, payload: rest, padding })
    }

    /// Who contributed to a mixed packet.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.csrcs.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    }

    /// Appends the packet as it would be read again.
    pub fn write(&self, out: &mut Vec<u8>) {
        let count = (self.csrcs.len() / 4).min(MOST_CSRCS);
        let flags = u8::from(self.padding > 0) << 5 | u8::from(self.extension.is_some()) << 4 | count as u8;
        self.header.write_with(flags, out);
        out.extend_from_slice(&self.csrcs[..count * 4]);
        if let Some(extension) = self.extension {
            out.extend_from_slice(&extension.profile.to_be_bytes());
            out.extend_from_slice(&((extension.bytes.len() / 4) as u16).to_be_bytes());
            out.extend_from_slice(extension.bytes);
        }
        out.extend_from_slice(self.payload);
        if self.padding > 0 {
            out.resize(out.len() + usize::from(self.padding) - 1, 0);
            out.push(self.padding);
        }
    }
}

impl<'a> Extension<'a> {
    /// The extension, and what follows it.
    fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), PacketError> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(PacketError::Truncated)?;
        let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (bytes, rest) = rest.split_at_checked(words * 4).ok_or(PacketError::Truncated)?;
        Ok((Self { profile: u16::from_be_bytes([head[0], head[1]]), bytes }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2, marker, PCMU, sequence 0x1234, timestamp 0x89abcdef, SSRC 0xdeadbeef (RFC 3550 §5.1, by hand).
    const PLAIN: &[u8] = &[0x80, 0x80, 0x12, 0x34, 0x89, 0xab, 0xcd, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xff, 0x7f, 0x00];
    const HEADER: Header =
        Header { marker: true, payload_type: 0, sequence: 0x1234, timestamp: 0x89ab_cdef, ssrc: 0xdead_beef };

    #[test]
    fn a_plain_packet_byte_for_byte() {
        let packet = Packet::parse(PLAIN).unwrap();
        assert_eq!((packet.header, packet.payload, packet.padding), (HEADER, &[0xff, 0x7f, 0x00][..], 0));
        let mut written = Vec::new();
        HEADER.write(&mut written);
        written.extend_from_slice(packet.payload);
        assert_eq!(written, PLAIN);
    }

    #[test]
    fn sources_extension_and_padding_byte_for_byte() {
        // P, X, two CSRCs; payload type 101; extension 0xbede of one word; payload of two bytes; three bytes of padding.
        let bytes = [
            0xb2, 0x65, 0x00, 0x01, 0x00, 0x00, 0x00, 0xa0, 0x00, 0x00, 0x00, 0x07, // fixed
            0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22, // CSRCs
            0xbe, 0xde, 0x00, 0x01, 0x10, 0xaa, 0x00, 0x00, // extension
            0x0b, 0x8a, // payload
            0x00, 0x00, 0x03, // padding
        ];
        let packet = Packet::parse(&bytes).unwrap();
        let header = Header { marker: false, payload_type: 101, sequence: 1, timestamp: 160, ssrc: 7 };
        assert_eq!((packet.header, packet.payload, packet.padding), (header, &[0x0b, 0x8a][..], 3));
        assert_eq!(packet.csrcs().collect::<Vec<_>>(), [0x1111_1111, 0x2222_2222]);
        let extension = Extension { profile: 0xbede, bytes: &[0x10, 0xaa, 0, 0] };
        assert_eq!(packet.extension, Some(extension));
        let mut written = Vec::new();
        packet.write(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn every_cut_of_a_packet_is_an_error_or_a_shorter_payload() {
        let whole = [0x91, 0x08, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9, 0xd5, 0xd5];
        for length in 0..24 {
            assert_eq!(Packet::parse(&whole[..length]), Err(PacketError::Truncated), "{length}");
        }
        for length in 24..=whole.len() {
            assert_eq!(Packet::parse(&whole[..length]).unwrap().payload.len(), length - 24);
        }
    }

    #[test]
    fn what_is_no_rtp_is_named() {
        assert_eq!(Packet::parse(&[0x40; 12]), Err(PacketError::Version(1)));
        let mut padded = PLAIN.to_vec();
        padded[0] = 0xa0;
        assert_eq!(Packet::parse(&padded), Err(PacketError::Padding(0)), "a count of none");
        padded[14] = 4;
        assert_eq!(Packet::parse(&padded), Err(PacketError::Padding(4)), "more than there is");
        padded[14] = 3;
        assert!(Packet::parse(&padded).unwrap().payload.is_empty(), "nothing but padding is an empty packet");
        assert_eq!(Packet::parse(&padded[..12]), Err(PacketError::Truncated));
    }

    #[test]
    fn rtcp_on_the_same_port_is_told_apart() {
        for kind in [200, 201, 202, 203, 204, 205, 207] {
            assert!(is_rtcp(&[0x80, kind, 0, 0]));
        }
        // PCMU and dynamic type 96..=127, with and without marker.
        for second in [0x00, 0x80, 96, 127, 0x80 | 96, 0x80 | 127] {
            assert_eq!(is_rtcp(&[0x80, second, 0, 0]), (192..=223).contains(&second), "{second}");
        }
        assert!(!is_rtcp(&[]) && !is_rtcp(&[0x80]) && !is_rtcp(&[0x00, 200]));
    }
}
