//! Packets of any duration to frames of one, for codecs of one byte per sample (G.711).
//!
//! A peer may pack 10, 20, 30, 40 or 60 ms, or what he likes (RFC 3551 §4.2 lets every multiple of a sample be). A packet of just
//! one frame is handed on as it is. Behind a hole the rest of what came before is filled up with silence: the time of what
//! follows is right.

use bytes::Bytes;

#[derive(Clone, Debug)]
pub struct Framer {
    frame_bytes: usize,
    silence: u8,
    /// Less than a frame, and the timestamp of its first sample.
    rest: Vec<u8>,
    rest_at: u64,
}

impl Framer {
    /// `silence`: the byte of it.
    pub fn new(frame_bytes: usize, silence: u8) -> Self {
        Self { frame_bytes: frame_bytes.max(1), silence, rest: Vec::new(), rest_at: 0 }
    }

    /// One packet's payload at its timestamp; `out` gets each frame that is complete by now, with its own.
    pub fn push(&mut self, payload: Bytes, timestamp: u64, mut out: impl FnMut(u64, Bytes)) {
        if self.rest.is_empty() && payload.len() == self.frame_bytes {
            return out(timestamp, payload);
        }
        if !self.rest.is_empty() && self.rest_at + self.rest.len() as u64 != timestamp {
            self.fill_up(&mut out);
        }
        if self.rest.is_empty() {
            self.rest_at = timestamp;
        }
        let mut at = 0;
        if !self.rest.is_empty() {
            let wanted = (self.frame_bytes - self.rest.len()).min(payload.len());
            self.rest.extend_from_slice(&payload[..wanted]);
            at = wanted;
            if self.rest.len() < self.frame_bytes {
                return;
            }
            out(self.rest_at, Bytes::copy_from_slice(&self.rest));
            self.rest_at += self.frame_bytes as u64;
            self.rest.clear();
        }
        while payload.len() - at >= self.frame_bytes {
            out(self.rest_at, payload.slice(at..at + self.frame_bytes));
            self.rest_at += self.frame_bytes as u64;
            at += self.frame_bytes;
        }
        self.rest.extend_from_slice(&payload[at..]);
    }

    /// What is left of another stream is nobody's.
    pub fn clear(&mut self) {
        self.rest.clear();
    }

    fn fill_up(&mut self, out: &mut impl FnMut(u64, Bytes)) {
        self.rest.resize(self.frame_bytes, self.silence);
        out(self.rest_at, Bytes::copy_from_slice(&self.rest));
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(framer: &mut Framer, payload: &[u8], timestamp: u64) -> Vec<(u64, Vec<u8>)> {
        let mut frames = Vec::new();
        framer.push(Bytes::copy_from_slice(payload), timestamp, |at, frame| frames.push((at, frame.to_vec())));
        frames
    }

    #[test]
    fn a_packet_of_one_frame_is_not_copied() {
        let (mut framer, payload) = (Framer::new(160, 0xff), Bytes::from(vec![7; 160]));
        let (mut found, place) = (None, payload.as_ptr());
        framer.push(payload, 320, |at, frame| found = Some((at, frame.as_ptr())));
        assert_eq!(found, Some((320, place)));
    }

    #[test]
    fn behind_a_hole_the_rest_is_filled_up() {
        let mut framer = Framer::new(4, 0xd5);
        assert_eq!(frames(&mut framer, &[1, 2, 3, 4, 5, 6], 100), [(100, vec![1, 2, 3, 4])]);
        assert_eq!(frames(&mut framer, &[9, 9], 112), [(104, vec![5, 6, 0xd5, 0xd5])]);
        assert_eq!(frames(&mut framer, &[8, 8], 114), [(112, vec![9, 9, 8, 8])]);
        framer.push(Bytes::from_static(&[1]), 116, |_, _| panic!("less than a frame"));
        framer.clear();
        assert_eq!(frames(&mut framer, &[5, 5, 5, 5], 0), [(0, vec![5; 4])]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_moved(sizes in proptest::collection::vec(0usize..500, 1..60), frame in 1usize..200) {
            let mut framer = Framer::new(frame, 0);
            let (mut sent, mut heard, mut next) = (Vec::new(), Vec::new(), 1000);
            for size in sizes {
                let payload: Vec<u8> = (0..size).map(|n| (sent.len() + n) as u8).collect();
                for (at, bytes) in frames(&mut framer, &payload, 1000 + sent.len() as u64) {
                    prop_assert_eq!((at, bytes.len()), (next, frame));
                    next += frame as u64;
                    heard.extend(bytes);
                }
                sent.extend(payload);
            }
            prop_assert_eq!(&heard[..], &sent[..sent.len() / frame * frame]);
        }
    }
}
