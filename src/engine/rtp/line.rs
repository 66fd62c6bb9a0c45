//! The trunk's word to a leg that lives on an audio thread, looked into at every tick: keys in a bounded channel, and the newest
//! agreement in a place of its own, where a newer one takes it over. A thread that is held up misses none that still counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::rtp::dtmf::{Key, MOST_KEYS};
use crate::sip::Negotiated;

/// More presses than a tick of a busy thread could leave waiting.
const WORDS: usize = 2 * MOST_KEYS;

/// A key and its length.
type Word = (Key, u32);

/// What was agreed on and the leg has not seen yet.
#[derive(Debug, Default)]
struct News {
    /// So that a tick without any costs one look.
    is_there: AtomicBool,
    agreed: ArcSwapOption<Negotiated>,
}

/// Speaks to one [`RtpLeg`](super::RtpLeg).
#[derive(Clone, Debug)]
pub struct RtpLine {
    words: Sender<Word>,
    news: Arc<News>,
}

/// The leg's end of it.
pub(super) struct Ear {
    words: Receiver<Word>,
    news: Arc<News>,
}

pub(super) fn line() -> (RtpLine, Ear) {
    let (sender, words) = crossbeam_channel::bounded(WORDS);
    let news = Arc::new(News::default());
    (RtpLine { words: sender, news: Arc::clone(&news) }, Ear { words, news })
}

impl Ear {
    /// The newest agreement, once.
    pub(super) fn agreed(&self) -> Option<Arc<Negotiated>> {
        // Taken back before the look: what comes in between is seen now, and asked for once more in vain.
        let is_there = self.news.is_there.load(Ordering::Relaxed) && self.news.is_there.swap(false, Ordering::AcqRel);
        if is_there { self.news.agreed.swap(None) } else { None }
    }

    pub(super) fn press(&self) -> Option<Word> {
        self.words.try_recv().ok()
    }
}

impl RtpLine {
    /// After an offer and its answer, from the next tick on. Whatever the leg has not seen yet is out of date.
    pub fn update(&self, negotiated: &Negotiated) {
        self.news.agreed.store(Some(Arc::new(negotiated.clone())));
        self.news.is_there.store(true, Ordering::Release);
    }

    /// Presses keys (`0`–`9`, `*`, `#`, `A`–`D`) one after the other, each 40 ms to 4 s long, in place of audio. The error is what
    /// to say to a user.
    pub fn press(&self, keys: &str, duration_ms: u32) -> Result<(), String> {
        let parsed: Option<Vec<Key>> = keys.chars().map(Key::from_char).collect();
        let parsed = parsed.ok_or_else(|| format!("{keys:?} has other letters than 0-9, *, # and A-D"))?;
        if parsed.is_empty() || parsed.len() > MOST_KEYS {
            return Err(format!("{} keys: press 1 to {MOST_KEYS}", parsed.len()));
        }
        let said = parsed.into_iter().all(|key| self.say((key, duration_ms)));
        if said { Ok(()) } else { Err("the call has ended, or too many keys wait: try again".to_owned()) }
    }

    fn say(&self, word: Word) -> bool {
        match self.words.try_send(word) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("a leg does not listen: its audio thread is stuck");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
