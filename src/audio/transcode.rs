//! Frames to samples, samples to frames, and frames of these parameters to frames of those.

use bytes::Bytes;

use super::{Bundle, Codec, Frame, Params, Target, g711, opus, pcm, resample::Resampler};

/// What a frame or a codec is refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// libopus's own words.
    #[error("Opus: {0}")]
    Opus(String),
    #[error("a frame of {} {} Hz holds {expected} bytes, not {found}", .params.codec.as_str(), .params.sample_rate)]
    FrameLength { params: Params, expected: usize, found: usize },
    #[error("{expected} samples make a frame, not {found}")]
    SampleCount { expected: usize, found: usize },
    #[error("{} is encoded at {} Hz, not {found} Hz", .params.codec.as_str(), .params.sample_rate)]
    Rate { params: Params, found: u32 },
}

/// Frames of one stream to interleaved samples, in order. `None` is a missing frame: something alike is put in its place.
pub struct Decoder {
    params: Params,
    source: Source,
    channels: u8,
    resampler: Option<Resampler>,
    /// Samples as the codec gives them, and after their channels were mapped.
    raw: Vec<i16>,
    mapped: Vec<i16>,
}

enum Source {
    /// Runs at the rate and channels wanted.
    Opus(opus::Decoder),
    Plain(Concealment),
}

/// Of codecs that have none of their own: the last frame backwards, so that it meets where it is joined, fading out over two.
#[derive(Default)]
struct Concealment {
    last: Vec<i16>,
    missed: u32,
}

impl Concealment {
    /// Frames until silence.
    const FADE: u32 = 2;

    fn heard(&mut self, samples: &[i16]) {
        self.last.clear();
        self.last.extend_from_slice(samples);
        self.missed = 0;
    }

    fn conceal(&mut self, count: usize, channels: usize, out: &mut Vec<i16>) {
        if self.missed >= Self::FADE || self.last.len() != count {
            out.resize(out.len() + count, 0);
            return;
        }
        let (groups, whole) = (count / channels, (count / channels) as i64 * i64::from(Self::FADE));
        let played = groups as i64 * i64::from(self.missed);
        for n in 0..groups {
            let group = if self.missed.is_multiple_of(2) { groups - 1 - n } else { n };
            let left = whole - played - n as i64;
            let faded = |sample: &i16| (i64::from(*sample) * left / whole) as i16;
            out.extend(self.last[group * channels..][..channels].iter().map(faded));
        }
        self.missed += 1;
    }
}

impl Decoder {
    /// Gives samples of the stream's own rate and channels.
    pub fn new(params: Params) -> Result<Self, CodecError> {
        Self::at(params, params.sample_rate, params.channels)
    }

    /// Gives samples of this rate and these channels, by the cheapest way.
    pub fn at(params: Params, sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let (source, resampler) = if params.codec == Codec::Opus {
            (Source::Opus(opus::Decoder::new(sample_rate, channels)?), None)
        } else {
            let resampler = Resampler::new(params.sample_rate, sample_rate, channels.min(params.channels));
            (Source::Plain(Concealment::default()), resampler)
        };
        Ok(Self { params, source, channels, resampler, raw: Vec::new(), mapped: Vec::new() })
    }

    /// Appends a frame's samples. After an error nothing was appended, and the stream goes on: say `None` in its place.
    pub fn decode(&mut self, frame: Option<&[u8]>, out: &mut Vec<i16>) -> Result<(), CodecError> {
        let params = self.params;
        match (&mut self.source, frame) {
            (Source::Opus(decoder), Some(packet)) => return decoder.decode(packet, out),
            (Source::Opus(decoder), None) => return decoder.conceal(usize::from(params.frame_ms), out),
            (Source::Plain(concealment), frame) => {
                self.raw.clear();
                match frame {
                    Some(bytes) => {
                        plain(params, bytes, &mut self.raw)?;
                        concealment.heard(&self.raw);
                    }
                    None => {
                        let channels = usize::from(params.channels);
                        concealment.conceal(params.samples() * channels, channels, &mut self.raw);
                    }
                }
            }
        }
        self.map(out);
        Ok(())
    }

    /// Appends what `next` repeats of the frame before it. `false`: nothing.
    fn recover(&mut self, next: &[u8], out: &mut Vec<i16>) -> bool {
        match &mut self.source {
            Source::Opus(decoder) if opus::repeats(next) => {
                decoder.recover(next, usize::from(self.params.frame_ms), out).is_ok()
            }
            _ => false,
        }
    }

    /// Resamples with as few channels as either end has.
    fn map(&mut self, out: &mut Vec<i16>) {
        let narrow = self.channels.min(self.params.channels);
        match &mut self.resampler {
            None => pcm::channels(&self.raw, self.params.channels, self.channels, out),
            Some(resampler) => {
                self.mapped.clear();
                pcm::channels(&self.raw, self.params.channels, narrow, &mut self.mapped);
                self.raw.clear();
                resampler.process(&self.mapped, &mut self.raw);
                pcm::channels(&self.raw, narrow, self.channels, out);
            }
        }
    }
}

fn plain(params: Params, bytes: &[u8], out: &mut Vec<i16>) -> Result<(), CodecError> {
    if let Some(expected) = params.frame_bytes().filter(|expected| *expected != bytes.len()) {
        return Err(CodecError::FrameLength { params, expected, found: bytes.len() });
    }
    match params.codec {
        Codec::G711Ulaw => out.extend(bytes.iter().map(|code| g711::ulaw_decode(*code))),
        Codec::G711Alaw => out.extend(bytes.iter().map(|code| g711::alaw_decode(*code))),
        Codec::Pcm16 | Codec::Opus => pcm::from_bytes(bytes, out),
    }
    Ok(())
}

/// Interleaved samples to frames of one stream.
pub struct Encoder {
    params: Params,
    opus: Option<opus::Encoder>,
    /// Where frames are made of halves.
    halves: Option<Box<Bundle>>,
    frame_samples: usize,
}

impl Encoder {
    /// Takes samples of the stream's own rate and channels.
    pub fn new(target: impl Into<Target>) -> Result<Self, CodecError> {
        let target = target.into();
        Self::at(target, target.params.sample_rate)
    }

    /// Takes samples of another rate, which only Opus can: its packets decode at any rate, and a narrow source costs less
    /// when it is encoded as it is.
    pub fn at(target: impl Into<Target>, sample_rate: u32) -> Result<Self, CodecError> {
        let Target { params, limits } = target.into();
        let opus = match params.codec {
            Codec::Opus => {
                let mut opus = opus::Encoder::new(sample_rate, params.channels)?;
                opus.limit(limits)?;
                Some(opus)
            }
            _ if sample_rate == params.sample_rate => None,
            _ => return Err(CodecError::Rate { params, found: sample_rate }),
        };
        let samples = sample_rate as usize * usize::from(params.frame_ms) / 1000;
        let halves = (limits.halved && opus.is_some()).then(|| Bundle::new(params.frame_ms, limits.constant).into());
        Ok(Self { params, opus, halves, frame_samples: samples * usize::from(params.channels) })
    }

    /// Interleaved samples that make one frame.
    pub fn frame_samples(&self) -> usize {
        self.frame_samples
    }

    /// Samples per channel that decoded audio lags behind what was encoded.
    pub fn lookahead(&self) -> usize {
        self.opus.as_ref().map_or(0, opus::Encoder::lookahead)
    }

    /// Frames of Opus repeat those before from now on, if so many percent are lost ([`opus::Encoder::expect_loss`]).
    pub fn expect_loss(&mut self, percent: u8) {
        if let Some(opus) = &mut self.opus {
            // libopus takes every share up to 100.
            let _ = opus.expect_loss(percent);
        }
    }

    /// Exactly [`Encoder::frame_samples`] samples to one frame. Allocates the frame and nothing else.
    pub fn encode(&mut self, samples: &[i16]) -> Result<Frame, CodecError> {
        if samples.len() != self.frame_samples {
            return Err(CodecError::SampleCount { expected: self.frame_samples, found: samples.len() });
        }
        match (&mut self.opus, &mut self.halves) {
            (Some(opus), Some(halves)) => return joined(opus, halves, samples, self.params.frame_ms / 2),
            (Some(opus), None) => return Ok(Bytes::copy_from_slice(opus.encode(samples)?)),
            (None, _) => {}
        }
        Ok(match self.params.codec {
            Codec::G711Ulaw => samples.iter().map(|sample| g711::ulaw_encode(*sample)).collect(),
            Codec::G711Alaw => samples.iter().map(|sample| g711::alaw_encode(*sample)).collect(),
            Codec::Pcm16 | Codec::Opus => {
                let mut bytes = Vec::with_capacity(samples.len() * 2);
                pcm::to_bytes(samples, &mut bytes);
                bytes.into()
            }
        })
    }
}

/// One packet of two frames.
fn joined(opus: &mut opus::Encoder, halves: &mut Bundle, samples: &[i16], half_ms: u8) -> Result<Frame, CodecError> {
    halves.clear();
    for half in samples.chunks_exact(samples.len() / 2) {
        halves.join(opus.encode(half)?, half_ms);
    }
    let mut frame = Frame::new();
    halves.flush(|packet, _| frame = Bytes::copy_from_slice(packet));
    Ok(frame)
}

/// One stream's frames to another's parameters, without loss of time: what is missing is concealed, frames of another
/// duration are cut or joined, and equal parameters pass the bytes through untouched.
///
/// Opus of equal duration is passed through whatever the rates and channels: its packets have no rate, and every decoder
/// takes mono and stereo (RFC 6716 §2.1.1, RFC 7587 §3.4). A listener's limits are for what is made here.
pub struct Transcoder {
    via: Option<Box<Via>>,
    errors: u64,
}

struct Via {
    decoder: Decoder,
    encoder: Encoder,
    /// Less than a frame of `encoder` between two calls.
    samples: Vec<i16>,
}

impl Via {
    /// All frames that are complete by now.
    fn encode(&mut self, errors: &mut u64, mut out: impl FnMut(Frame)) {
        let size = self.encoder.frame_samples();
        let whole = self.samples.len() / size * size;
        for samples in self.samples[..whole].chunks_exact(size) {
            match self.encoder.encode(samples) {
                Ok(frame) => out(frame),
                Err(_) => *errors += 1,
            }
        }
        self.samples.copy_within(whole.., 0);
        self.samples.truncate(self.samples.len() - whole);
    }
}

impl Transcoder {
    pub fn new(from: Params, to: impl Into<Target>) -> Result<Self, CodecError> {
        let Target { params: to, limits } = to.into();
        let both_opus = from.codec == Codec::Opus && to.codec == Codec::Opus;
        let same = from == to || (both_opus && from.frame_ms == to.frame_ms);
        let via = if same {
            None
        } else {
            let to_opus = to.codec == Codec::Opus;
            let rate = if to_opus { from.sample_rate.min(to.sample_rate) } else { to.sample_rate };
            // A decoder of Opus gives any rate: no more of it than somebody plays.
            let rate = if both_opus { rate.min(opus::rate_within(limits.playback_rate)) } else { rate };
            let decoder = Decoder::at(from, rate, to.channels)?;
            let encoder = Encoder::at(Target { params: to, limits }, rate)?;
            Some(Box::new(Via { decoder, encoder, samples: Vec::new() }))
        };
        Ok(Self { via, errors: 0 })
    }

    /// Whether frames are handed on as they are.
    pub fn is_passthrough(&self) -> bool {
        self.via.is_none()
    }

    /// Takes one frame, or `None` for a missing one, and gives each frame that is complete by now. A malformed frame counts as an
    /// error and as missing. Passed through, a missing frame stays missing and nothing is looked into.
    pub fn push(&mut self, frame: Option<&Frame>, out: impl FnMut(Frame)) {
        let Some(via) = &mut self.via else {
            return frame.cloned().into_iter().for_each(out);
        };
        if via.decoder.decode(frame.map(|frame| &frame[..]), &mut via.samples).is_err() {
            self.errors += 1;
            if frame.is_none() || via.decoder.decode(None, &mut via.samples).is_err() {
                return;
            }
        }
        via.encode(&mut self.errors, out);
    }

    /// Behind a gap: what the frame after it repeats of the one that is missing, if it does ([`opus::Decoder::recover`]). Then push that frame.
    pub fn recover(&mut self, next: &Frame, out: impl FnMut(Frame)) {
        if let Some(via) = &mut self.via
            && via.decoder.recover(next, &mut via.samples)
        {
            via.encode(&mut self.errors, out);
        }
    }

    /// See [`Encoder::expect_loss`].
    pub fn expect_loss(&mut self, percent: u8) {
        if let Some(via) = &mut self.via {
            via.encoder.expect_loss(percent);
        }
    }

    /// Behind a gap: less than a frame of what came before it goes with nothing that comes now.
    pub fn drop_rest(&mut self) {
        if let Some(via) = &mut self.via {
            via.samples.clear();
        }
    }

    /// Malformed frames so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}
