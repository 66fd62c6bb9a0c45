//! G.711 µ-law and A-law, bit-exact with the ITU's own software (G.191 STL, `ulaw_compress`, `alaw_compress` and their inverses).
//!
//! Encoders in the field disagree: Python's former `audioop` differs from the STL in 508 of the 65,536 µ-law inputs (all
//! negative), ffmpeg in 964. All agree on decoding.

/// One sample to one µ-law code.
pub const fn ulaw_encode(sample: i16) -> u8 {
    // 14-bit magnitude in one's complement, biased by 33 and clipped.
    let magnitude = ((if sample < 0 { !sample } else { sample }) >> 2) + 33;
    let magnitude = if magnitude > 0x1FFF { 0x1FFF } else { magnitude };
    let segment = 16 - (magnitude >> 6).leading_zeros() as i16 + 1;
    let code = (((8 - segment) << 4) | (15 - ((magnitude >> segment) & 15))) as u8;
    if sample >= 0 { code | 0x80 } else { code }
}

/// One µ-law code to one sample.
pub const fn ulaw_decode(code: u8) -> i16 {
    ULAW[code as usize]
}

/// One sample to one A-law code.
pub const fn alaw_encode(sample: i16) -> u8 {
    let mut code = (if sample < 0 { !sample } else { sample }) >> 4;
    if code > 15 {
        let exponent = 16 - (code >> 5).leading_zeros() as i16 + 1;
        code = ((code >> (exponent - 1)) - 16) + (exponent << 4);
    }
    (if sample >= 0 { code | 0x80 } else { code }) as u8 ^ 0x55
}

/// One A-law code to one sample.
pub const fn alaw_decode(code: u8) -> i16 {
    ALAW[code as usize]
}

const ULAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = ulaw_expand(code as u8);
        code += 1;
    }
    table
};

const ALAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = alaw_expand(code as u8);
        code += 1;
    }
    table
};

const fn ulaw_expand(code: u8) -> i16 {
    let exponent = (!code >> 4) as i16 & 7;
    let mantissa = !code as i16 & 15;
    let step = 8 << exponent;
    let magnitude = (0x80 << exponent) + step * mantissa + step / 2 - 4 * 33;
    if code < 0x80 { -magnitude } else { magnitude }
}

const fn alaw_expand(code: u8) -> i16 {
    let exponent = ((code ^ 0x55) & 0x7F) as i16 >> 4;
    let mantissa = ((code ^ 0x55) & 15) as i16 | if exponent > 0 { 16 } else { 0 };
    let magnitude = ((mantissa << 4) + 8) << if exponent > 1 { exponent - 1 } else { 0 };
    if code > 127 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ulaw_compress` of the ITU-T G.191 STL, written out: shifts and counts as there.
    fn ulaw_reference(sample: i16) -> u8 {
        let mut absno = if sample < 0 { (!sample >> 2) + 33 } else { (sample >> 2) + 33 };
        absno = absno.min(0x1FFF);
        let (mut i, mut segno) = (absno >> 6, 1);
        while i != 0 {
            segno += 1;
            i >>= 1;
        }
        let high = 8 - segno;
        let low = 15 - ((absno >> segno) & 15);
        let code = (high << 4) | low;
        (if sample >= 0 { code | 0x80 } else { code }) as u8
    }

    /// `alaw_compress` of the same.
    fn alaw_reference(sample: i16) -> u8 {
        let mut ix = if sample < 0 { !sample >> 4 } else { sample >> 4 };
        if ix > 15 {
            let mut exponent = 1;
            while ix > 16 + 15 {
                ix >>= 1;
                exponent += 1;
            }
            ix -= 16;
            ix += exponent << 4;
        }
        (if sample >= 0 { ix | 0x80 } else { ix }) as u8 ^ 0x55
    }

    fn sha256(encode: fn(i16) -> u8) -> String {
        let codes: Vec<u8> = (i16::MIN..=i16::MAX).map(encode).collect();
        let digest = ring::digest::digest(&ring::digest::SHA256, &codes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn encoders_equal_the_stl_on_every_input() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(ulaw_encode(sample), ulaw_reference(sample), "µ-law of {sample}");
            assert_eq!(alaw_encode(sample), alaw_reference(sample), "A-law of {sample}");
        }
        // Digests of what the STL itself (openitu/STL@139db49, src/g711) gives for -32768..=32767 in order.
        assert_eq!(sha256(ulaw_encode), "90c29de505fb68e766118303bd552a16005dcf810873698bee1d8f3b247ce28c");
        assert_eq!(sha256(alaw_encode), "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b");
    }

    #[test]
    fn golden_values_of_the_recommendation() {
        // ITU-T G.711 tables 1a/1b (A-law) and 2a/2b (µ-law), scaled to 16 bits: decision values' outputs at the ends
        // of segments, and the two zeros.
        let ulaw = [(0x80, 32_124), (0x00, -32_124), (0xFF, 0), (0x7F, 0), (0xF0, 120), (0x8F, 16_764), (0xEF, 132)];
        for (code, sample) in ulaw {
            assert_eq!(ulaw_decode(code), sample, "µ-law {code:#x}");
        }
        let alaw = [(0xAA, 32_256), (0x2A, -32_256), (0xD5, 8), (0x55, -8), (0x80, 5_504), (0x00, -5_504)];
        for (code, sample) in alaw {
            assert_eq!(alaw_decode(code), sample, "A-law {code:#x}");
        }
    }

    #[test]
    fn every_code_comes_back() {
        for code in 0..=255 {
            assert_eq!(alaw_encode(alaw_decode(code)), code);
            // 0x7F is the negative zero of µ-law; there is one zero in 16 bits.
            assert_eq!(ulaw_encode(ulaw_decode(code)), if code == 0x7F { 0xFF } else { code });
        }
    }
}
