//! 16-bit samples as bytes and bytes as samples, and what is done to samples of equal rate: channels and mixing.

/// Appends little-endian bytes as samples. A last odd byte is not a sample and left out.
pub fn from_bytes(bytes: &[u8], out: &mut Vec<i16>) {
    out.extend(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
}

/// Appends samples as little-endian bytes.
pub fn to_bytes(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

/// Adds a frame onto another of the same parameters; sums stop at the ends of 16 bits. What `other` has more is left out.
pub fn mix(frame: &mut [i16], other: &[i16]) {
    for (sample, other) in frame.iter_mut().zip(other) {
        *sample = sample.saturating_add(*other);
    }
}

/// Appends interleaved samples of `from` channels as `to` channels, each 1 or 2: doubled, averaged, or as they are.
pub fn channels(samples: &[i16], from: u8, to: u8, out: &mut Vec<i16>) {
    match (from, to) {
        (1, 2) => out.extend(samples.iter().flat_map(|sample| [*sample; 2])),
        (2, 1) => {
            out.extend(samples.chunks_exact(2).map(|pair| ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16))
        }
        _ => out.extend_from_slice(samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let samples = [0, 1, -1, i16::MAX, i16::MIN, 258];
        let mut bytes = Vec::new();
        to_bytes(&samples, &mut bytes);
        assert_eq!(bytes[10..], [2, 1]);
        bytes.push(7);
        let mut back = Vec::new();
        from_bytes(&bytes, &mut back);
        assert_eq!(back, samples);
    }

    #[test]
    fn mixing_stops_at_the_ends() {
        let mut frame = [30_000, -30_000, 5, 9];
        mix(&mut frame, &[30_000, -30_000, -7]);
        assert_eq!(frame, [i16::MAX, i16::MIN, -2, 9]);
    }

    #[test]
    fn channels_are_doubled_and_averaged() {
        let (mut stereo, mut mono) = (Vec::new(), Vec::new());
        channels(&[5, -6], 1, 2, &mut stereo);
        assert_eq!(stereo, [5, 5, -6, -6]);
        channels(&[i16::MAX, i16::MAX, -4, 8], 2, 1, &mut mono);
        assert_eq!(mono, [i16::MAX, 2]);
    }
}
