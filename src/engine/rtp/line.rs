//! The trunk's word to a leg that lives on an audio thread: a bounded channel, looked into at every tick.

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::rtp::dtmf::{Key, MOST_KEYS};
use crate::sip::Negotiated;

/// More words than a tick of a busy thread could leave waiting.
const WORDS: usize = 2 * MOST_KEYS;

pub(super) enum Word {
    Update(Box<Negotiated>),
    Press(Key, u32),
}

/// Speaks to one [`RtpLeg`](super::RtpLeg).
#[derive(Clone, Debug)]
pub struct RtpLine(Sender<Word>);

pub(super) fn line() -> (RtpLine, Receiver<Word>) {
    let (sender, receiver) = crossbeam_channel::bounded(WORDS);
    (RtpLine(sender), receiver)
}

impl RtpLine {
    /// After an offer and its answer, from the next tick on. `false`: the leg is gone, or does not listen.
    pub fn update(&self, negotiated: &Negotiated) -> bool {
        self.say(Word::Update(Box::new(negotiated.clone())))
    }

    /// Presses keys (`0`–`9`, `*`, `#`, `A`–`D`) one after the other, each 40 ms to 4 s long, in place of audio. The error is what
    /// to say to a user.
    pub fn press(&self, keys: &str, duration_ms: u32) -> Result<(), String> {
        let parsed: Option<Vec<Key>> = keys.chars().map(Key::from_char).collect();
        let parsed = parsed.ok_or_else(|| format!("{keys:?} has other letters than 0-9, *, # and A-D"))?;
        if parsed.is_empty() || parsed.len() > MOST_KEYS {
            return Err(format!("{} keys: press 1 to {MOST_KEYS}", parsed.len()));
        }
        let said = parsed.into_iter().all(|key| self.say(Word::Press(key, duration_ms)));
        if said { Ok(()) } else { Err("the call has ended, or too many keys wait: try again".to_owned()) }
    }

    fn say(&self, word: Word) -> bool {
        match self.0.try_send(word) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("a leg does not listen: its audio thread is stuck");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
