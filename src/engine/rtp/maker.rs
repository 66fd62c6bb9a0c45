//! [`Maker`]: payloads of the far end to frames of the call, of 20 ms, in the leg's codec, each with the time it was spoken.
//!
//! A frame in the leg's codec is the packet's own bytes. Packets of other lengths are cut and joined (G.711), or decoded and encoded
//! (Opus: its frames can't be cut); a codec that the far end may also send is transcoded to the leg's. For that there is one
//! recoder per codec of the far end, for the life of the leg's own codec: whoever changes his codec or the length of his packets with
//! each of them has none made anew.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::audio::{self, Frame, Params, Transcoder, opus};
use crate::rtp::framing::Framer;

pub(super) const FRAME_MS: u32 = 20;
const FRAME_US: u32 = FRAME_MS * 1000;
/// Of G.711.
const FRAME_BYTES: usize = 160;
const G711_CLOCK: u32 = 8000;
/// What an Opus recoder's frames are called: any but the call's own, which would pass through. Packets tell their length themselves.
const OTHER_MS: u8 = 60;
/// A frame that would have been spoken so long after, or before, it came is of a clock that has jumped, or has drifted away.
const AHEAD: Duration = Duration::from_millis(200);
const BEHIND: Duration = Duration::from_secs(1);

pub(super) struct Maker {
    to: Params,
    framer: Framer,
    /// Whose bytes are in the framer.
    framed: audio::Codec,
    recoders: Recoders,
    timeline: Timeline,
    spoiled: u64,
}

impl Maker {
    pub(super) fn new(to: Params) -> Self {
        let framed = if to.codec == audio::Codec::Opus { audio::Codec::G711Ulaw } else { to.codec };
        Self {
            to,
            framer: framer(framed),
            framed,
            recoders: Recoders::default(),
            timeline: Timeline::default(),
            spoiled: 0,
        }
    }

    /// Another stream: what is left of the one before is nobody's.
    pub(super) fn clear(&mut self) {
        self.framer.clear();
        self.timeline = Timeline::default();
    }

    /// Payloads that are none of their codec.
    pub(super) fn spoiled(&self) -> u64 {
        self.spoiled + self.recoders.0.iter().map(|recoder| recoder.transcoder.errors()).sum::<u64>()
    }

    #[cfg(test)]
    pub(super) fn codecs_made(&self) -> usize {
        self.recoders.0.len()
    }

    /// One payload; `out` gets each frame that is complete by now, and when it was spoken.
    pub(super) fn push(
        &mut self,
        codec: audio::Codec,
        timestamp: u64,
        payload: Bytes,
        now: Instant,
        mut out: impl FnMut(Frame, Instant),
    ) {
        if codec == audio::Codec::Opus {
            return self.push_opus(timestamp, payload, now, out);
        }
        if codec != self.framed {
            (self.framed, self.framer) = (codec, framer(codec));
        }
        let Self { to, framer, recoders, timeline, .. } = self;
        timeline.set_clock(G711_CLOCK);
        let from = Params { codec, sample_rate: G711_CLOCK, channels: 1, frame_ms: FRAME_MS as u8 };
        framer.push(payload, timestamp, |timestamp, frame| match from == *to {
            true => out(frame, timeline.at(timestamp, now)),
            false => {
                let Some(recoder) = recoders.of(from, *to) else { return };
                recoder.push(&frame, timestamp, FRAME_BYTES as u64, G711_CLOCK, |frame, timestamp| {
                    out(frame, timeline.at(timestamp, now));
                });
            }
        });
    }

    fn push_opus(&mut self, timestamp: u64, payload: Bytes, now: Instant, mut out: impl FnMut(Frame, Instant)) {
        let Some(duration_us) = opus::duration_us(&payload) else {
            self.spoiled += 1;
            return;
        };
        let clock = Params::CALL.sample_rate;
        self.timeline.set_clock(clock);
        if self.to == Params::CALL && duration_us == FRAME_US {
            return out(payload, self.timeline.at(timestamp, now));
        }
        let units = u64::from(duration_us) * u64::from(clock) / 1_000_000;
        let Self { to, recoders, timeline, .. } = self;
        let Some(recoder) = recoders.of(Params { frame_ms: OTHER_MS, ..Params::CALL }, *to) else { return };
        recoder.push(&payload, timestamp, units, clock, |frame, timestamp| out(frame, timeline.at(timestamp, now)));
    }
}

fn framer(codec: audio::Codec) -> Framer {
    Framer::new(FRAME_BYTES, super::outward::silence_byte(codec))
}

/// At most one per codec.
#[derive(Default)]
struct Recoders(Vec<Recoder>);

impl Recoders {
    fn of(&mut self, from: Params, to: Params) -> Option<&mut Recoder> {
        let at = match self.0.iter().position(|recoder| recoder.codec == from.codec) {
            Some(at) => at,
            None => match Transcoder::new(from, to) {
                Ok(transcoder) => {
                    self.0.push(Recoder { codec: from.codec, transcoder, next: 0, expected: None });
                    self.0.len() - 1
                }
                Err(error) => {
                    tracing::error!(?from, ?to, %error, "what a far end says can't be transcoded");
                    return None;
                }
            },
        };
        self.0.get_mut(at)
    }
}

/// Frames of one codec to the leg's.
struct Recoder {
    codec: audio::Codec,
    transcoder: Transcoder,
    /// Of the next frame that goes up, and of the next one that comes if none is missing.
    next: u64,
    expected: Option<u64>,
}

impl Recoder {
    /// `units`: what the frame takes of the timestamp, which runs at `clock`. Behind a gap, frames that are joined of others begin
    /// afresh.
    fn push(&mut self, frame: &Frame, timestamp: u64, units: u64, clock: u32, mut out: impl FnMut(Frame, u64)) {
        if self.expected != Some(timestamp) {
            self.transcoder.drop_rest();
            self.next = timestamp;
        }
        let errors = self.transcoder.errors();
        let (next, step) = (&mut self.next, u64::from(clock * FRAME_MS / 1000));
        self.transcoder.push(Some(frame), |frame| {
            out(frame, *next);
            *next += step;
        });
        // What was put in the place of a spoiled frame may have another length.
        self.expected = (self.transcoder.errors() == errors).then_some(timestamp + units);
    }
}

/// RTP's time to ours: the first packet's arrival, and from there the far end's clock, so that frames lie one frame apart exactly.
#[derive(Default)]
struct Timeline {
    clock: u32,
    anchor: Option<(u64, Instant)>,
}

impl Timeline {
    fn set_clock(&mut self, clock: u32) {
        if self.clock != clock {
            *self = Self { clock, anchor: None };
        }
    }

    fn at(&mut self, timestamp: u64, now: Instant) -> Instant {
        let (first, began) = *self.anchor.get_or_insert((timestamp, now));
        let nanos = |units: u64| u128::from(units) * 1_000_000_000 / u128::from(self.clock.max(1));
        let span = |units: u64| Duration::from_nanos(u64::try_from(nanos(units)).unwrap_or(u64::MAX));
        let at = match timestamp.checked_sub(first) {
            Some(after) => began.checked_add(span(after)),
            None => began.checked_sub(span(first - timestamp)),
        };
        match at.filter(|at| *at <= now + AHEAD && *at + BEHIND >= now) {
            Some(at) => at,
            None => {
                self.anchor = Some((timestamp, now));
                now
            }
        }
    }
}
