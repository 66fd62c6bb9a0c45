//! The load every mode carries: `channels` frames of 160 bytes per 20 ms, spread over 20 slots of one millisecond.
//!
//! A frame carries its channel, its number and the time it was handed over, on the clock both processes share.

use crate::support::process::monotonic_ns;

pub(crate) const FRAME_BYTES: usize = 160;
const SLOTS: u32 = 20;
const SLOT_NS: u64 = 1_000_000;

/// The sending half.
pub(crate) struct Load {
    channels: u32,
    due_ns: u64,
    end_ns: u64,
    slot: u32,
    number: u32,
    pub(crate) sent: u64,
}

impl Load {
    pub(crate) fn new(channels: usize, from_ns: u64, secs: f64) -> Self {
        let end_ns = from_ns + (secs * 1e9) as u64;
        Self { channels: channels as u32, due_ns: from_ns, end_ns, slot: 0, number: 0, sent: 0 }
    }

    /// When the next slot is due; `None` after the last.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        (self.due_ns < self.end_ns).then_some(self.due_ns)
    }

    /// Hands over the frames of every slot that is due.
    pub(crate) fn send_due(&mut self, mut send: impl FnMut(usize, &[u8; FRAME_BYTES])) {
        let mut frame = [0x55; FRAME_BYTES];
        while self.due_ns < self.end_ns && self.due_ns <= monotonic_ns() {
            for channel in (self.slot..self.channels).step_by(SLOTS as usize) {
                frame[..4].copy_from_slice(&channel.to_le_bytes());
                frame[4..8].copy_from_slice(&self.number.to_le_bytes());
                frame[8..16].copy_from_slice(&monotonic_ns().to_le_bytes());
                send(channel as usize, &frame);
                self.sent += 1;
            }
            self.slot = (self.slot + 1) % SLOTS;
            self.number += u32::from(self.slot == 0);
            self.due_ns += SLOT_NS;
        }
    }
}

/// The receiving half: latencies only, in memory that is there before the clock runs.
pub(crate) struct Heard {
    latencies_ns: Vec<u32>,
}

impl Heard {
    pub(crate) fn new(channels: usize, secs: f64) -> Self {
        Self { latencies_ns: Vec::with_capacity((channels as f64 * secs * 50.0) as usize + channels) }
    }

    /// Bytes of a stream of frames; `partial` keeps the part of one that has come so far.
    pub(crate) fn chunk(&mut self, partial: &mut Vec<u8>, bytes: &[u8]) {
        if partial.is_empty() && bytes.len() == FRAME_BYTES {
            return self.frame(bytes);
        }
        partial.extend_from_slice(bytes);
        while partial.len() >= FRAME_BYTES {
            self.frame(&partial[..FRAME_BYTES]);
            partial.drain(..FRAME_BYTES);
        }
    }

    pub(crate) fn frame(&mut self, frame: &[u8]) {
        assert_eq!(frame.len(), FRAME_BYTES, "a frame arrives whole");
        let sent = u64::from_le_bytes(frame[8..16].try_into().expect("eight bytes"));
        let late = monotonic_ns().saturating_sub(sent);
        self.latencies_ns.push(u32::try_from(late).unwrap_or(u32::MAX));
    }

    pub(crate) fn count(&self) -> u64 {
        self.latencies_ns.len() as u64
    }

    /// Median and 99th percentile in µs.
    pub(crate) fn percentiles_us(&mut self) -> (f64, f64) {
        self.latencies_ns.sort_unstable();
        let at = |share: f64| {
            let index = (self.latencies_ns.len() as f64 * share) as usize;
            self.latencies_ns
                .get(index.min(self.latencies_ns.len().saturating_sub(1)))
                .map_or(0.0, |ns| f64::from(*ns) / 1e3)
        };
        (at(0.5), at(0.99))
    }
}
