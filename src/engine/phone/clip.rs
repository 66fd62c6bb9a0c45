//! What the phone says, encoded once for all its calls in each codec that it speaks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::audio::resample::Resampler;
use crate::audio::wav::{Wav, WavError};
use crate::audio::{Codec, CodecError, Encoder, Frame, Params, pcm};

/// Frames of silence that an encoder is given until its packets are those of settled silence.
const SETTLE: usize = 25;
/// The largest file that is looked at.
const MOST_BYTES: u64 = 128 << 20;

/// Rate and frames of a G.711 call.
const PLAIN: Params = Params { codec: Codec::G711Ulaw, sample_rate: 8000, channels: 1, frame_ms: 20 };

/// Frames of one codec. Those of Opus are made from samples at their own rate: a packet has none.
pub struct Clip {
    frames: Vec<Frame>,
    silence: Frame,
}

/// The same in every codec.
pub struct Clips {
    opus: Arc<Clip>,
    ulaw: Arc<Clip>,
    alaw: Arc<Clip>,
}

/// Why there is nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    #[error("the phone's clip {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("the phone's clip {path}: {error}")]
    Wav { path: PathBuf, error: WavError },
    #[error("the phone's clip is longer than {} s", Clip::MOST.as_secs())]
    TooLong,
    #[error("the phone's clip holds no sound")]
    Empty,
    #[error("the phone's clip: {0}")]
    Codec(#[from] CodecError),
    #[error("the phone's folder for recordings {path}: {error}")]
    Record { path: PathBuf, error: std::io::Error },
}

impl Clips {
    pub fn read(path: &Path) -> Result<Self, ClipError> {
        let failed = |error| ClipError::Read { path: path.to_owned(), error };
        let bytes = crate::files::read(path, MOST_BYTES).map_err(failed)?;
        Self::new(&Wav::parse(&bytes).map_err(|error| ClipError::Wav { path: path.to_owned(), error })?)
    }

    pub fn new(wav: &Wav) -> Result<Self, ClipError> {
        let mut samples = Vec::new();
        pcm::channels(&wav.samples, wav.channels, 1, &mut samples);
        if samples.is_empty() {
            return Err(ClipError::Empty);
        }
        if samples.len() as u64 > Clip::MOST.as_secs() * u64::from(wav.sample_rate) {
            return Err(ClipError::TooLong);
        }
        let narrow = narrow(&samples, wav.sample_rate);
        let plain = |codec| Clip::new(&narrow, PLAIN.sample_rate, Params { codec, ..PLAIN }).map(Arc::new);
        Ok(Self {
            opus: Arc::new(Clip::new(&samples, wav.sample_rate, Params::CALL)?),
            ulaw: plain(Codec::G711Ulaw)?,
            alaw: plain(Codec::G711Alaw)?,
        })
    }

    /// The voice of a phone that was given no clip.
    pub fn voice() -> Result<Self, ClipError> {
        Self::new(&super::voice::wav())
    }

    pub fn duration(&self) -> Duration {
        self.opus.duration()
    }

    /// In the codec of these parameters, which are a leg's.
    pub fn of(&self, params: Params) -> &Arc<Clip> {
        match params.codec {
            Codec::G711Ulaw => &self.ulaw,
            Codec::G711Alaw => &self.alaw,
            Codec::Opus | Codec::Pcm16 => &self.opus,
        }
    }
}

fn narrow(samples: &[i16], sample_rate: u32) -> Vec<i16> {
    let Some(mut resampler) = Resampler::new(sample_rate, PLAIN.sample_rate, 1) else { return samples.to_vec() };
    let mut narrow = Vec::new();
    resampler.process(samples, &mut narrow);
    narrow
}

impl Clip {
    /// No clip is longer.
    pub const MOST: Duration = Duration::from_secs(300);

    /// Encodes all of it, the end of the last frame filled with silence, and what the encoder still holds behind it.
    fn new(samples: &[i16], sample_rate: u32, params: Params) -> Result<Self, ClipError> {
        let mut encoder = Encoder::at(params, sample_rate)?;
        let (size, mut samples) = (encoder.frame_samples(), samples.to_vec());
        samples.resize((samples.len() + encoder.lookahead()).next_multiple_of(size), 0);
        let frames = samples.chunks_exact(size).map(|chunk| encoder.encode(chunk)).collect::<Result<_, _>>()?;
        let quiet = vec![0; size];
        let mut silence = encoder.encode(&quiet)?;
        for _ in 0..SETTLE {
            silence = encoder.encode(&quiet)?;
        }
        Ok(Self { frames, silence })
    }

    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// What comes after the last frame.
    pub fn silence(&self) -> &Frame {
        &self.silence
    }

    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.frames.len() as u64 * u64::from(Params::CALL.frame_us()))
    }
}
