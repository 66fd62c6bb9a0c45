//! Frames of the call to packets for the far end, one frame per tick: what is to be heard, or silence in the leg's codec. Packets are as
//! long as the far end wants them: G.711 is cut by [`Sender`], Opus joined and parted by [`Bundle`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Fill, Negotiated};
use crate::audio::{self, Bundle, Encoder, Frame, Limits, Params, Target};
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
    /// Of Opus.
    bundle: Option<Bundle>,
    silence: Frame,
    fill: Fill,
}

impl Outward {
    pub(super) fn new(negotiated: &Negotiated, seed: u64, fill: Fill) -> Self {
        let (sender, silence) = (Sender::new(outgoing(negotiated), seed), silence_for(negotiated));
        Self { sender, bundle: bundle(negotiated), silence, fill }
    }

    pub(super) fn update(&mut self, negotiated: &Negotiated) {
        self.sender.set_outgoing(outgoing(negotiated));
        self.silence = silence_for(negotiated);
        match (&mut self.bundle, bundle(negotiated)) {
            (Some(bundle), Some(_)) => bundle.set(negotiated.ptime_ms, negotiated.limits().constant),
            (bundle, new) => *bundle = new,
        }
    }

    /// `None`: nothing is there to be heard.
    pub(super) fn push(&mut self, frame: Option<&Frame>, at: Instant, mut send: impl FnMut(&[u8])) {
        if self.fill == Fill::Once {
            self.fill = Fill::Never;
            let before = at.checked_sub(Duration::from_millis(FRAME_MS.into())).unwrap_or(at);
            self.tick(None, before, &mut send);
            self.flush(&mut send);
        }
        // A key may end in a pause.
        if frame.is_some() || self.fill == Fill::Always || self.sender.has_keys() {
            self.tick(frame, at, send);
        }
    }

    fn tick(&mut self, frame: Option<&Frame>, at: Instant, mut send: impl FnMut(&[u8])) {
        if self.sender.breaks_off(FRAME_MS, at) {
            self.flush(&mut send);
        }
        let Self { sender, bundle, silence, .. } = self;
        let frame = frame.unwrap_or(silence);
        match bundle {
            None => sender.tick(frame, FRAME_MS, at, send),
            Some(bundle) => {
                if sender.begin(FRAME_MS, at, &mut send) {
                    bundle.push(frame, FRAME_MS, |packet, ms| sender.say(packet, ms, &mut send));
                }
            }
        }
    }

    /// What waits for the rest of its packet.
    fn flush(&mut self, mut send: impl FnMut(&[u8])) {
        let Self { sender, bundle, .. } = self;
        if let Some(bundle) = bundle {
            bundle.flush(|packet, ms| sender.say(packet, ms, &mut send));
        }
    }
}

fn is_opus(negotiated: &Negotiated) -> bool {
    negotiated.codec.audio() == audio::Codec::Opus
}

fn bundle(negotiated: &Negotiated) -> Option<Bundle> {
    is_opus(negotiated).then(|| Bundle::new(negotiated.ptime_ms, negotiated.limits().constant))
}

fn outgoing(negotiated: &Negotiated) -> Outgoing {
    Outgoing {
        payload_type: negotiated.send_type,
        clock: negotiated.codec.clock_rate(),
        events: negotiated.events.map(|events| (events.send_type, events.clock_rate)),
        keys: negotiated.events.map_or(0, |events| events.keys),
        packet_ms: negotiated.ptime_ms,
        bytes_per_ms: (!is_opus(negotiated)).then_some(G711_BYTES_PER_MS),
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
