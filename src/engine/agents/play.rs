//! A sentence that is said once, such as that nobody is there: [`Said`] is read and cut into frames once, [`Play`] says it on one call.
//!
//! It hears nothing, and is silent behind its last word; ending the call is its owner's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Agent;
use crate::audio::wav::Wav;
use crate::audio::{Codec, Encoder, Frame, Params, pcm};

/// The largest file that is looked at, and the longest sentence.
const MOST_BYTES: u64 = 64 << 20;
const MOST: Duration = Duration::from_secs(300);
/// Between the last word and the end of the call: what is still on its way is heard.
const TAIL: Duration = Duration::from_millis(300);

/// See the file's contract.
#[derive(Debug)]
pub struct Said {
    params: Params,
    frames: Vec<Frame>,
}

impl Said {
    /// Of a WAV file. The error says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = crate::files::read(path, MOST_BYTES).map_err(|error| format!("can't be read: {error}"))?;
        Self::new(&Wav::parse(&bytes).map_err(|error| error.to_string())?)
    }

    pub fn new(wav: &Wav) -> Result<Self, String> {
        let params = Params::new(Codec::Pcm16, Some(wav.sample_rate), 1, 20).map_err(|error| error.0)?;
        let mut samples = Vec::new();
        pcm::channels(&wav.samples, wav.channels, 1, &mut samples);
        if samples.is_empty() {
            return Err("holds no sound".to_owned());
        }
        if samples.len() as u64 > MOST.as_secs() * u64::from(wav.sample_rate) {
            return Err(format!("is longer than {} s", MOST.as_secs()));
        }
        let mut encoder = Encoder::at(params, wav.sample_rate).map_err(|error| error.to_string())?;
        let size = encoder.frame_samples();
        samples.resize((samples.len() + encoder.lookahead()).next_multiple_of(size), 0);
        let frames = samples.chunks_exact(size).map(|chunk| encoder.encode(chunk)).collect::<Result<_, _>>();
        Ok(Self { params, frames: frames.map_err(|error| error.to_string())? })
    }

    /// From its first word until the call may be hung up.
    pub fn length(&self) -> Duration {
        Duration::from_micros(self.frames.len() as u64 * u64::from(self.params.frame_us())) + TAIL
    }
}

/// Says it once.
#[derive(Debug)]
pub struct Play {
    said: Arc<Said>,
    next: usize,
}

impl Play {
    pub fn new(said: Arc<Said>) -> Self {
        Self { said, next: 0 }
    }
}

impl Agent for Play {
    fn params(&self, _call: Params) -> Params {
        self.said.params
    }

    fn hear(&mut self, _frame: &Frame, _now: Instant) {}

    fn say(&mut self, _now: Instant) -> Option<Frame> {
        let frame = self.said.frames.get(self.next)?.clone();
        self.next += 1;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(samples: usize) -> Wav {
        Wav { sample_rate: 8000, channels: 1, samples: vec![1000; samples] }
    }

    #[test]
    fn it_is_said_once_and_then_there_is_silence() {
        let said = Arc::new(Said::new(&wav(8000)).unwrap());
        assert!(said.length() >= Duration::from_secs(1) + TAIL && said.length() < Duration::from_secs(2));
        for _ in 0..2 {
            let (mut play, now) = (Play::new(Arc::clone(&said)), Instant::now());
            let frames: Vec<Frame> = std::iter::from_fn(|| play.say(now)).collect();
            assert!((50..60).contains(&frames.len()), "{} frames of 20 ms", frames.len());
            assert!(frames[20].iter().any(|byte| *byte != 0) && play.say(now).is_none());
        }
    }

    #[test]
    fn what_is_no_sentence_is_refused() {
        assert!(Said::new(&wav(0)).unwrap_err().contains("no sound"));
        assert!(Said::new(&wav(8000 * 301)).unwrap_err().contains("longer than 300 s"));
        assert!(Said::read(Path::new("/nowhere/a.wav")).unwrap_err().contains("can't be read"));
    }
}
