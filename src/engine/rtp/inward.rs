//! Packets of the far end to payloads in order, and what only packets show: keys, losses, strangers' types.
//!
//! What becomes of a payload is [`Maker`]'s.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::maker::{FRAME_MS, Maker};
use super::{Negotiated, Settings};
use crate::audio::{self, Params};
use crate::engine::leg::Heard;
use crate::jitter::{Buffer, Pulled, Rules};
use crate::rtp::dtmf::Press;
use crate::rtp::{Packet, Receiver, Stream};

/// Packets that may be kept behind a hole, and where none waits.
const PLACES: usize = 32;
const FEW_PLACES: usize = 4;

/// Comfort noise beside G.711 (RFC 3551 §6, RFC 3389 §4).
const COMFORT_NOISE: u8 = 13;
const NOISE_HZ: u32 = 8000;

/// A payload and its type; `None`: the place of an event, or of comfort noise.
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
        (self.buffer.counters().late, self.maker.spoiled())
    }

    #[cfg(test)]
    pub(super) fn codecs_made(&self) -> usize {
        self.maker.codecs_made()
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
    let types: Vec<_> = negotiated.receive_types.iter().map(|(number, codec)| (*number, codec.clock_rate())).collect();
    Stream {
        // Its type is a fixed one, of 8000 Hz: some phones that detect silence send it, agreed on or not.
        noise: types.iter().any(|(_, clock)| *clock == NOISE_HZ).then_some(COMFORT_NOISE),
        types,
        events: negotiated.events.map(|events| (events.receive_type, events.clock_rate)),
    }
}
