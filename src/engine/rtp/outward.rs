//! Frames of the call to packets for the far end, one per tick: what is to be heard, or silence in the leg's codec.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Fill, Negotiated};
use crate::audio::{self, Encoder, Frame, Limits, Params, Target};
use crate::rtp::{Outgoing, Sender};

const FRAME_MS: u8 = 20;
/// Samples, hence bytes, of G.711 in a millisecond.
const G711_BYTES_PER_MS: u8 = 8;
/// The encoder has found out that it is silent.
const SETTLED: usize = 4;
/// A CELT frame of 20 ms without content, should libopus refuse to make one (RFC 6716 §3.1, §4.3).
const EMPTY_CELT: &[u8] = &[0xf8, 0xff, 0xfe];

pub(super) struct Outward {
    pub(super) sender: Sender,
    silence: Frame,
    fill: Fill,
}

impl Outward {
    pub(super) fn new(negotiated: &Negotiated, seed: u64, fill: Fill) -> Self {
        Self { sender: Sender::new(outgoing(negotiated), seed), silence: silence_for(negotiated), fill }
    }

    pub(super) fn update(&mut self, negotiated: &Negotiated) {
        self.sender.set_outgoing(outgoing(negotiated));
        self.silence = silence_for(negotiated);
    }

    /// `None`: nothing is there to be heard.
    pub(super) fn push(&mut self, frame: Option<&Frame>, at: Instant, mut send: impl FnMut(&[u8])) {
        if self.fill == Fill::Once {
            self.fill = Fill::Never;
            self.sender.tick(
                &self.silence,
                FRAME_MS,
                at.checked_sub(Duration::from_millis(FRAME_MS.into())).unwrap_or(at),
                &mut send,
            );
        }
        // A key may end in a pause.
        if frame.is_some() || self.fill == Fill::Always || self.sender.has_keys() {
            self.sender.tick(frame.unwrap_or(&self.silence), FRAME_MS, at, send);
        }
    }
}

fn outgoing(negotiated: &Negotiated) -> Outgoing {
    let is_opus = negotiated.codec.audio() == audio::Codec::Opus;
    Outgoing {
        payload_type: negotiated.send_type,
        clock: negotiated.codec.clock_rate(),
        events: negotiated.events.map(|events| (events.send_type, events.clock_rate)),
        packet_ms: negotiated.ptime_ms,
        bytes_per_ms: (!is_opus).then_some(G711_BYTES_PER_MS),
    }
}

/// G.711's quietest byte.
pub(super) fn silence_byte(codec: audio::Codec) -> u8 {
    if codec == audio::Codec::G711Alaw { 0xd5 } else { 0xff }
}

/// Within what the far end bears: who wants packets of one length is not to tell silence from speech.
fn silence_for(negotiated: &Negotiated) -> Frame {
    match (negotiated.codec.audio(), negotiated.limits()) {
        (audio::Codec::Opus, limits) if limits != Limits::default() => opus_silence(limits),
        (codec, _) => silence(codec),
    }
}

/// A frame of nothing, as it is sent where nothing is to be heard.
pub(in crate::engine) fn silence(codec: audio::Codec) -> Frame {
    static OPUS: OnceLock<Frame> = OnceLock::new();
    let plain = usize::from(FRAME_MS) * usize::from(G711_BYTES_PER_MS);
    match codec {
        audio::Codec::Opus => OPUS.get_or_init(|| opus_silence(Limits::default())).clone(),
        codec => vec![silence_byte(codec); plain].into(),
    }
}

fn opus_silence(limits: Limits) -> Frame {
    let encoded = Encoder::new(Target { params: Params::CALL, limits }).and_then(|mut encoder| {
        let samples = vec![0; encoder.frame_samples()];
        (0..SETTLED).map(|_| encoder.encode(&samples)).next_back().unwrap_or_else(|| encoder.encode(&samples))
    });
    encoded.unwrap_or_else(|error| {
        tracing::warn!(%error, "Opus has no silence of its own");
        Frame::from_static(EMPTY_CELT)
    })
}
