//! What the phone says, encoded once for all its calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audio::wav::{Wav, WavError};
use crate::audio::{CodecError, Encoder, Frame, Params, pcm};

/// Frames of silence that an encoder is given until its packets are those of settled silence.
const SETTLE: usize = 25;
/// The largest file that is looked at.
const MOST_BYTES: u64 = 128 << 20;

/// Packets of [`Params::CALL`], made from samples at their own rate: a packet has none.
pub struct Clip {
    frames: Vec<Frame>,
    silence: Frame,
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

impl Clip {
    /// No clip is longer.
    pub const MOST: Duration = Duration::from_secs(300);

    pub fn read(path: &Path) -> Result<Self, ClipError> {
        let failed = |error| ClipError::Read { path: path.to_owned(), error };
        let bytes = crate::files::read(path, MOST_BYTES).map_err(failed)?;
        Self::new(&Wav::parse(&bytes).map_err(|error| ClipError::Wav { path: path.to_owned(), error })?)
    }

    /// Encodes all of it, the end of the last frame filled with silence, and what the encoder still holds behind it.
    pub fn new(wav: &Wav) -> Result<Self, ClipError> {
        let mut samples = Vec::new();
        pcm::channels(&wav.samples, wav.channels, 1, &mut samples);
        if samples.is_empty() {
            return Err(ClipError::Empty);
        }
        if samples.len() as u64 > Self::MOST.as_secs() * u64::from(wav.sample_rate) {
            return Err(ClipError::TooLong);
        }
        let mut encoder = Encoder::at(Params::CALL, wav.sample_rate)?;
        let size = encoder.frame_samples();
        samples.resize((samples.len() + encoder.lookahead()).next_multiple_of(size), 0);
        let frames = samples.chunks_exact(size).map(|chunk| encoder.encode(chunk)).collect::<Result<_, _>>()?;
        let quiet = vec![0; size];
        let mut silence = encoder.encode(&quiet)?;
        for _ in 0..SETTLE {
            silence = encoder.encode(&quiet)?;
        }
        Ok(Self { frames, silence })
    }

    /// The voice of a phone that was given no clip.
    pub fn voice() -> Result<Self, ClipError> {
        Self::new(&super::voice::wav())
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
