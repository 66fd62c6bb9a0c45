//! The simulated phone: a SIP endpoint that takes every call. The last four digits of a number say what it does ([`Behaviour`]).
//!
//! | File | Holds |
//! |---|---|
//! | `number` | [`Behaviour`] of a number; the README's table |
//! | `endpoint` | [`Phone`]: where it listens, and who takes its calls |
//! | `call` | one call, from its INVITE to the last word on the wire |
//! | `line` | one call's audio: what it says and hears |
//! | `audio` | the thread of all lines |
//! | `clip`, `voice` | what it says: a WAV file or a voice made of tones, encoded once for all calls |
//! | `recorder` | what it heard: `<name>.wav`, and `<name>.json` when the line has ended |
//! | `trunk` | [`PhoneTrunk`]: an engine's way to the phone beside it |
//! | `alone` | [`Alone`]: a phone without an engine |
//!
//! It is the far side, not the engine's: it shares with the trunks what speaks SIP (`sip/stack`) and RTP (`rtp/`), and nothing of a
//! call. Signalling is tasks on the control thread of whoever opened it; audio is one thread of its own. Files are opened on the
//! control thread and written by the audio thread, a second of audio at a time; an error there is counted and never hurts the call.
//! It speaks Opus and G.711, says nothing in packets when it has nothing to say, and goes on hearing whoever does the same.

mod alone;
mod audio;
mod call;
mod clip;
mod endpoint;
mod line;
mod number;
mod recorder;
#[cfg(test)]
mod tests;
mod trunk;
mod voice;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use alone::Alone;
pub use clip::{Clip, ClipError, Clips};
pub use endpoint::Phone;
pub use number::Behaviour;
pub use recorder::Report;
pub use trunk::PhoneTrunk;

use super::config;

/// Letters of a recording's name.
const MOST_NAME: usize = 100;

/// How the phone behaves where its number says nothing.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// What it says; `None`: a voice made of tones. 16-bit PCM or G.711 WAV, at most [`Clip::MOST`] long.
    pub clip: Option<PathBuf>,
    /// Folder for `<name>.wav` and `<name>.json`, by what stands before the `@` of a Call-ID: the sid of a call of the engine beside it.
    /// `None`: nothing is recorded.
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
    /// Where the phone keeps what it hears in the call of this name. The file grows while the call lives and is a whole WAV at any
    /// time.
    pub fn recording(&self, sid: &str) -> Option<PathBuf> {
        self.record.as_deref().and_then(|folder| file(folder, sid, "wav"))
    }

    /// Where [`Report`] stands once the call's leg has ended and the recording is complete.
    pub fn report(&self, sid: &str) -> Option<PathBuf> {
        self.record.as_deref().and_then(|folder| file(folder, sid, "json"))
    }
}

/// `None`: what is no plain name would leave the folder.
fn file(folder: &Path, name: &str, extension: &str) -> Option<PathBuf> {
    let plain =
        (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| folder.join(format!("{name}.{extension}")))
}

/// What a call's files are named by: its Call-ID up to the `@`, with a dash for what no plain name has. `None`: nothing is left.
fn name_of(call_id: &str) -> Option<String> {
    let local = call_id.split('@').next()?;
    let name: String = local.chars().take(MOST_NAME).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    (!name.is_empty()).then_some(name)
}
