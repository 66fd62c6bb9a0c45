//! What an encoded frame is.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The codecs of the API (`AudioCodec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// One bare packet per frame (RFC 6716 §3).
    Opus,
    /// 16-bit little-endian samples, interleaved.
    Pcm16,
    G711Ulaw,
    G711Alaw,
}

/// One encoded frame: codec, rate in Hz, channels, duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    pub codec: Codec,
    pub sample_rate: u32,
    pub channels: u8,
    pub frame_ms: u8,
}

/// What a listener bears of the Opus that is made for him; of another codec it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Hz; he plays no more, so that more is wasted.
    pub playback_rate: u32,
    /// bit/s on average; `None`: what we think right.
    pub bitrate: Option<u32>,
    /// Every packet is to have the same length.
    pub constant: bool,
    /// Frames are to be made of two halves, since each goes in a packet of its own ([`Bundle`](super::Bundle)).
    pub halved: bool,
    /// So much of what he is sent he loses, in percent, and reads what packets repeat of those before ([`opus::Encoder::expect_loss`](super::opus::Encoder::expect_loss)).
    pub loss: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { playback_rate: 48_000, bitrate: None, constant: false, halved: false, loss: 0 }
    }
}

/// What frames are made for: their parameters, and what their listener bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub params: Params,
    pub limits: Limits,
}

impl From<Params> for Target {
    fn from(params: Params) -> Self {
        Self { params, limits: Limits::default() }
    }
}

/// Parameters that no codec of ours has. The text names the field and lists the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParamsError(pub String);

impl Codec {
    pub const ALL: [Codec; 4] = [Codec::Opus, Codec::Pcm16, Codec::G711Ulaw, Codec::G711Alaw];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcm16 => "pcm16",
            Self::G711Ulaw => "g711_ulaw",
            Self::G711Alaw => "g711_alaw",
        }
    }

    fn is_g711(self) -> bool {
        matches!(self, Self::G711Ulaw | Self::G711Alaw)
    }
}

impl FromStr for Codec {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        let choices = Self::ALL.map(Self::as_str);
        let found = Self::ALL.into_iter().find(|codec| codec.as_str() == text);
        found.ok_or_else(|| ParamsError(format!("codec is {text:?}: choose one of {}", choices.join(", "))))
    }
}

impl Params {
    /// A call's own rendition: `audio`.
    pub const CALL: Params = Params { codec: Codec::Opus, sample_rate: 48_000, channels: 1, frame_ms: 20 };

    /// Checks what a user asks for. An absent rate means 8000 for G.711 and 48000 otherwise.
    ///
    /// Opus and pcm16: 8, 12, 16, 24 or 48 kHz, 1 or 2 channels, 10, 20, 40 or 60 ms. G.711: 8 kHz mono, 10 to 60 ms in
    /// steps of 10.
    pub fn new(codec: Codec, sample_rate: Option<u32>, channels: u32, frame_ms: u32) -> Result<Self, ParamsError> {
        let (rates, most_channels, frames): (&[u32], u32, &[u32]) = if codec.is_g711() {
            (&[8000], 1, &[10, 20, 30, 40, 50, 60])
        } else {
            (&[8000, 12_000, 16_000, 24_000, 48_000], 2, &[10, 20, 40, 60])
        };
        let sample_rate = sample_rate.unwrap_or(if codec.is_g711() { 8000 } else { 48_000 });
        one_of(codec, "sample_rate", sample_rate, rates)?;
        one_of(codec, "channels", channels, if most_channels == 1 { &[1] } else { &[1, 2] })?;
        one_of(codec, "frame_ms", frame_ms, frames)?;
        Ok(Self { codec, sample_rate, channels: channels as u8, frame_ms: frame_ms as u8 })
    }

    /// The track name of this rendition of a call: `audio` for the call's own, else `audio.<codec>.<rate>`, then
    /// `.<channels>ch` and `.<frame>ms` where they are not 1 and 20.
    pub fn rendition(&self) -> String {
        if *self == Self::CALL {
            return "audio".to_owned();
        }
        let mut name = format!("audio.{}.{}", self.codec.as_str(), self.sample_rate);
        if self.channels != 1 {
            name += &format!(".{}ch", self.channels);
        }
        if self.frame_ms != 20 {
            name += &format!(".{}ms", self.frame_ms);
        }
        name
    }

    /// Samples per channel in one frame.
    pub fn samples(&self) -> usize {
        self.sample_rate as usize * usize::from(self.frame_ms) / 1000
    }

    pub fn frame_us(&self) -> u32 {
        u32::from(self.frame_ms) * 1000
    }

    /// Bytes of one frame; `None` where frames vary (Opus).
    pub fn frame_bytes(&self) -> Option<usize> {
        let samples = self.samples() * usize::from(self.channels);
        match self.codec {
            Codec::Opus => None,
            Codec::Pcm16 => Some(samples * 2),
            Codec::G711Ulaw | Codec::G711Alaw => Some(samples),
        }
    }
}

fn one_of(codec: Codec, field: &str, value: u32, choices: &[u32]) -> Result<(), ParamsError> {
    if choices.contains(&value) {
        return Ok(());
    }
    let choices: Vec<String> = choices.iter().map(u32::to_string).collect();
    Err(ParamsError(format!("{field} is {value}: with codec {} choose one of {}", codec.as_str(), choices.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_renditions() {
        assert_eq!(Params::CALL.rendition(), "audio");
        let params = |codec, rate, channels, ms| Params::new(codec, rate, channels, ms).unwrap();
        assert_eq!(params(Codec::Pcm16, Some(16_000), 1, 20).rendition(), "audio.pcm16.16000");
        assert_eq!(params(Codec::G711Ulaw, None, 1, 30).rendition(), "audio.g711_ulaw.8000.30ms");
        assert_eq!(params(Codec::Opus, None, 2, 10).rendition(), "audio.opus.48000.2ch.10ms");
    }

    #[test]
    fn wrong_values_name_the_field_and_the_choices() {
        let error = Params::new(Codec::G711Alaw, Some(16_000), 1, 20).unwrap_err();
        assert_eq!(error.to_string(), "sample_rate is 16000: with codec g711_alaw choose one of 8000");
        let error = Params::new(Codec::Opus, Some(44_100), 1, 20).unwrap_err();
        assert!(error.to_string().contains("8000, 12000, 16000, 24000, 48000"));
        assert!(Params::new(Codec::Opus, None, 3, 20).is_err());
        assert!(Params::new(Codec::Pcm16, None, 1, 30).is_err());
        assert!("flac".parse::<Codec>().unwrap_err().to_string().contains("opus, pcm16"));
    }

    #[test]
    fn sizes() {
        let pcm = Params::new(Codec::Pcm16, Some(48_000), 2, 20).unwrap();
        assert_eq!((pcm.samples(), pcm.frame_bytes(), pcm.frame_us()), (960, Some(3840), 20_000));
        assert_eq!(Params::new(Codec::G711Ulaw, None, 1, 20).unwrap().frame_bytes(), Some(160));
        assert_eq!(Params::CALL.frame_bytes(), None);
    }
}
