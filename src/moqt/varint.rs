//! The draft's own variable-length integer, vi64 (§1.4.1): the leading 1 bits of the first byte count the bytes that follow.
//!
//! All of `u64` can travel, in 1 to 9 bytes. We write the shortest form and read any. This is not QUIC's integer (RFC 9000 §16).

use bytes::{BufMut, BytesMut};

/// Longest encoding.
pub const MAX_LEN: usize = 9;

/// Bytes of the shortest encoding.
pub fn len(value: u64) -> usize {
    let bits = (64 - value.leading_zeros() as usize).max(1);
    if bits > 56 { MAX_LEN } else { bits.div_ceil(7) }
}

/// Appends the shortest encoding.
pub fn put(out: &mut BytesMut, value: u64) {
    let len = len(value);
    let bytes = value.to_be_bytes();
    if len == MAX_LEN {
        out.put_u8(0xff);
        out.put_slice(&bytes);
        return;
    }
    let start = out.len();
    out.put_slice(&bytes[8 - len..]);
    out[start] |= !(0xff_u8 >> (len - 1));
}

/// The value at the start of `bytes` and the bytes it took. `None`: more bytes are needed.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let more = first.leading_ones() as usize;
    let rest = bytes.get(1..=more)?;
    let high = u64::from(first) & (0xff >> (more + 1));
    Some((rest.iter().fold(high, |value, byte| value << 8 | u64::from(*byte)), more + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The draft's table of examples (§1.4.1), and the border of every length.
    #[test]
    fn reads_the_drafts_examples() {
        let examples: [(&[u8], u64); 8] = [
            (&[0x25], 37),
            (&[0x80, 0x25], 37),
            (&[0xbb, 0xbd], 15_293),
            (&[0xed, 0x7f, 0x3e, 0x7d], 226_442_877),
            (&[0xfa, 0xa1, 0xa0, 0xe4, 0x03, 0xd8], 2_893_212_287_960),
            (&[0xfc, 0x89, 0x98, 0xab, 0xc6, 0x6b, 0xc0], 151_288_809_941_952),
            (&[0xfe, 0xfa, 0x31, 0x8f, 0xa8, 0xe3, 0xca, 0x11], 70_423_237_261_249_041),
            (&[0xff; 9], u64::MAX),
        ];
        for (bytes, value) in examples {
            assert_eq!(read(bytes), Some((value, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn writes_the_shortest_form_at_every_border() {
        for bits in 1..=64_u32 {
            for value in [1 << (bits - 1), u64::MAX >> (64 - bits)] {
                let mut out = BytesMut::new();
                put(&mut out, value);
                assert_eq!(out.len(), len(value));
                assert_eq!(out.len(), (bits as usize).div_ceil(7).min(9), "{value:#x}");
                assert_eq!(read(&out), Some((value, out.len())));
            }
        }
        let mut zero = BytesMut::new();
        put(&mut zero, 0);
        assert_eq!(&zero[..], [0]);
    }
}
