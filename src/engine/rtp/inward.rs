//! Packets of the far end to frames of the call: in order, of 20 ms, in the leg's codec, each with the time it was spoken.
//!
//! A frame in the leg's codec is the packet's own bytes. Packets of other lengths are cut and joined (G.711), or decoded and encoded
//! (Opus: its frames can't be cut); a codec that the far end may also send is transcoded to the leg's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Negotiated, Settings};
use crate::audio::{self, Frame, Params, Transcoder, opus};
use crate::engine::leg::Heard;
use crate::jitter::{Buffer, Pulled, Rules};
use crate::rtp::dtmf::Press;
use crate::rtp::framing::Framer;
use crate::rtp::{Packet, Receiver, Stream};

const FRAME_MS: u32 = 20;
const FRAME_US: u32 = FRAME_MS * 1000;
/// Of G.711.
const FRAME_BYTES: usize = 160;
/// Packets that may be kept behind a hole, and where none waits.
const PLACES: usize = 32;
const FEW_PLACES: usize = 4;
/// A frame that would have been spoken so long after, or before, it came is of a clock that has jumped, or has drifted away.
const AHEAD: Duration = Duration::from_millis(200);
const BEHIND: Duration = Duration::from_secs(1);

/// A payload and its type; `None`: an event's place.
type Item = Option<(u8, Bytes)>;

pub(super) struct Inward {
    params: Params,
    types: Vec<(u8, audio::Codec)>,
    pub(super) receiver: Receiver,
    buffer: Buffer<Item>,
    maker: Maker,
}

impl Inward {
    pub(super) fn new(negotiated: &Negotiated, settings: &Settings, now: Instant) -> Self {
        let wait = settings.reorder;
        let capacity = if wait.is_zero() { FEW_PLACES } else { PLACES };
        let params = params(negotiated);
        Self {
            params,
            types: types(negotiated),
            receiver: Receiver::new(stream(negotiated), now),
            buffer: Buffer::new(Rules { wait, capacity }),
            maker: Maker::new(params),
        }
    }

    pub(super) fn params(&self) -> Params {
        self.params
    }

    /// `true`: frames are of another codec from now on.
    pub(super) fn update(&mut self, negotiated: &Negotiated) -> bool {
        self.receiver.set_stream(stream(negotiated));
        self.types = types(negotiated);
        let params = params(negotiated);
        let other = std::mem::replace(&mut self.params, params) != params;
        if other {
            self.maker = Maker::new(params);
        }
        other
    }

    /// One packet of the locked source; `wanted`: the direction lets audio up.
    pub(super) fn handle(&mut self, packet: &Packet<'_>, wanted: bool, now: Instant, heard: &mut VecDeque<Heard>) {
        let Some(received) = self.receiver.handle(packet, now, |press| heard.push_back(key(press))) else { return };
        if received.begins {
            self.buffer.clear();
            self.maker.clear();
        }
        let audio = received.audio.filter(|_| wanted);
        let timestamp = audio.map_or(0, |audio| audio.timestamp);
        let item = audio.map(|audio| (audio.payload_type, Bytes::copy_from_slice(audio.payload)));
        self.buffer.insert(received.number, timestamp, item, now);
        self.drain(now, heard);
    }

    /// What need not be waited for any more.
    pub(super) fn handle_timeout(&mut self, now: Instant, heard: &mut VecDeque<Heard>) {
        self.receiver.handle_timeout(now, |press| heard.push_back(key(press)));
        if self.buffer.poll_timeout().is_some_and(|at| at <= now) {
            self.drain(now, heard);
        }
    }

    /// Packets that came too late, and payloads that are none of their codec.
    pub(super) fn late_and_spoiled(&self) -> (u64, u64) {
        (self.buffer.counters().late, self.maker.spoiled)
    }

    fn drain(&mut self, now: Instant, heard: &mut VecDeque<Heard>) {
        while let Some(pulled) = self.buffer.pull(now) {
            let Pulled::Item { timestamp, item: Some((payload_type, payload)), .. } = pulled else { continue };
            let codec = self.types.iter().find(|(known, _)| *known == payload_type).map(|(_, codec)| *codec);
            if let Some(codec) = codec {
                self.maker
                    .push(codec, timestamp, payload, now, |frame, at| heard.push_back(Heard::Frame { frame, at }));
            }
        }
    }
}

fn key(press: Press) -> Heard {
    Heard::Key { key: press.key.as_char(), ended_ms: press.ended }
}

fn params(negotiated: &Negotiated) -> Params {
    match negotiated.codec.audio() {
        audio::Codec::Opus => Params::CALL,
        codec => Params { codec, sample_rate: 8000, channels: 1, frame_ms: FRAME_MS as u8 },
    }
}

fn types(negotiated: &Negotiated) -> Vec<(u8, audio::Codec)> {
    negotiated.receive_types.iter().map(|(number, codec)| (*number, codec.audio())).collect()
}

fn stream(negotiated: &Negotiated) -> Stream {
    let types = negotiated.receive_types.iter().map(|(number, codec)| (*number, codec.clock_rate())).collect();
    Stream { types, events: negotiated.events.map(|events| (events.receive_type, events.clock_rate)) }
}

/// Payloads to frames.
struct Maker {
    to: Params,
    framer: Framer,
    /// Whose bytes are in the framer.
    framed: audio::Codec,
    recoder: Option<Recoder>,
    timeline: Timeline,
    spoiled: u64,
}

impl Maker {
    fn new(to: Params) -> Self {
        let framed = if to.codec == audio::Codec::Opus { audio::Codec::G711Ulaw } else { to.codec };
        let framer = Framer::new(FRAME_BYTES, super::outward::silence_byte(framed));
        Self { to, framer, framed, recoder: None, timeline: Timeline::default(), spoiled: 0 }
    }

    fn clear(&mut self) {
        self.framer.clear();
        self.recoder = None;
        self.timeline = Timeline::default();
    }

    fn push(
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
            let spoiled = self.spoiled;
            *self = Self::new(self.to);
            (self.framed, self.spoiled) = (codec, spoiled);
            self.framer = Framer::new(FRAME_BYTES, super::outward::silence_byte(codec));
        }
        let Self { to, framer, recoder, timeline, .. } = self;
        timeline.set_clock(8000);
        let from = Params { codec, sample_rate: 8000, channels: 1, frame_ms: FRAME_MS as u8 };
        framer.push(payload, timestamp, |timestamp, frame| match from == *to {
            true => out(frame, timeline.at(timestamp, now)),
            false => {
                let recoder = Recoder::for_frame(recoder, from, *to, timestamp);
                let Some(recoder) = recoder else { return };
                recoder.push(&frame, timestamp, FRAME_BYTES as u64, 8000, |frame, timestamp| {
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
        let from = Params { frame_ms: (duration_us / 1000).clamp(1, 120) as u8, ..Params::CALL };
        let units = u64::from(duration_us) * u64::from(clock) / 1_000_000;
        let Self { to, recoder, timeline, .. } = self;
        let Some(recoder) = Recoder::for_frame(recoder, from, *to, timestamp) else { return };
        recoder.push(&payload, timestamp, units, clock, |frame, timestamp| out(frame, timeline.at(timestamp, now)));
        self.spoiled +=
            recoder.transcoder.errors() - std::mem::replace(&mut recoder.errors, recoder.transcoder.errors());
    }
}

/// Frames of other parameters to the leg's.
struct Recoder {
    from: Params,
    transcoder: Transcoder,
    /// Of the next frame that goes up, and of the next one that comes if none is missing.
    next: u64,
    expected: u64,
    errors: u64,
}

impl Recoder {
    /// The one in place if it goes on: behind a gap, frames that are joined of others begin afresh.
    fn for_frame(place: &mut Option<Self>, from: Params, to: Params, timestamp: u64) -> Option<&mut Self> {
        let goes_on = |recoder: &mut Self| {
            recoder.from == from && (from.frame_ms == to.frame_ms || recoder.expected == timestamp)
        };
        if !place.as_mut().is_some_and(goes_on) {
            *place = match Transcoder::new(from, to) {
                Ok(transcoder) => Some(Self { from, transcoder, next: timestamp, expected: timestamp, errors: 0 }),
                Err(error) => {
                    tracing::error!(?from, ?to, %error, "what a far end says can't be transcoded");
                    None
                }
            };
        }
        place.as_mut()
    }

    /// `units`: what the frame takes of the timestamp, which runs at `clock`.
    fn push(&mut self, frame: &Frame, timestamp: u64, units: u64, clock: u32, mut out: impl FnMut(Frame, u64)) {
        if timestamp != self.expected {
            self.next = timestamp;
        }
        self.expected = timestamp + units;
        let (next, step) = (&mut self.next, u64::from(clock * FRAME_MS / 1000));
        self.transcoder.push(Some(frame), |frame| {
            out(frame, *next);
            *next += step;
        });
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
