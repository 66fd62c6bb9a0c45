//! The simulated phone: a [`Trunk`] without a network. The last four digits of a number say what it does ([`Behaviour`]).
//!
//! | File | Holds |
//! |---|---|
//! | `number` | [`Behaviour`] of a number; the README's table |
//! | `trunk` | [`Phone`]: its calls and their scripts |
//! | `leg` | what it says and hears on an audio thread |
//! | `clip`, `voice` | what it says: a WAV file or a voice made of tones, encoded once for all calls |
//! | `recorder` | what it heard: `<sid>.wav`, and `<sid>.json` when the leg has ended |
//!
//! The control thread owns the [`Phone`]; time is an argument and there is no task, thread or lock. A leg belongs to an audio thread
//! and shares one flag with its trunk: that its clip has ended. Files are opened on the control thread and written by the leg, a
//! second of audio at a time; an error there is counted and never hurts the call. It speaks [`Params::CALL`].
//!
//! [`Trunk`]: super::trunk::Trunk
//! [`Params::CALL`]: crate::audio::Params::CALL

mod clip;
mod leg;
mod number;
mod recorder;
#[cfg(test)]
mod tests;
mod trunk;
mod voice;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use clip::{Clip, ClipError};
pub use number::Behaviour;
pub use recorder::Report;
pub use trunk::Phone;

use super::config;

/// How the phone behaves where its number says nothing.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// What it says; `None`: a voice made of tones. 16-bit PCM or G.711 WAV, at most [`Clip::MOST`] long.
    pub clip: Option<PathBuf>,
    /// Folder for `<sid>.wav` and `<sid>.json`; `None`: nothing is recorded.
    pub record: Option<PathBuf>,
    /// Hz of the recording: 8000, 12000, 16000, 24000 or 48000.
    pub record_rate: u32,
    /// How long it rings before it answers.
    pub ring: Duration,
}

impl Default for PhoneConfig {
    fn default() -> Self {
        Self { clip: None, record: None, record_rate: 16_000, ring: Duration::from_millis(200) }
    }
}

impl From<&config::Phone> for PhoneConfig {
    fn from(phone: &config::Phone) -> Self {
        let default = Self::default();
        Self {
            clip: phone.clip.clone(),
            record: phone.record.clone(),
            record_rate: phone.record_rate.unwrap_or(default.record_rate),
            ring: phone.ring.unwrap_or(default.ring),
        }
    }
}

impl PhoneConfig {
    /// Where the phone keeps what it hears in this call. The file grows while the call lives and is a whole WAV at any time.
    pub fn recording(&self, sid: &str) -> Option<PathBuf> {
        self.record.as_deref().and_then(|folder| file(folder, sid, "wav"))
    }

    /// Where [`Report`] stands once the call's leg has ended and the recording is complete.
    pub fn report(&self, sid: &str) -> Option<PathBuf> {
        self.record.as_deref().and_then(|folder| file(folder, sid, "json"))
    }
}

/// `None`: a sid that is no plain name would leave the folder.
fn file(folder: &Path, sid: &str, extension: &str) -> Option<PathBuf> {
    let plain = !sid.is_empty() && sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| folder.join(format!("{sid}.{extension}")))
}
