//! The trunk's word to a leg that lives on an audio thread, looked into at every tick: keys in a bounded channel, and the newest
//! agreement in a place of its own, where a newer one takes it over. A thread that is held up misses none that still counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::rtp::dtmf::{MOST_STROKES, Stroke};
use crate::sip::Negotiated;

/// More presses than a tick of a busy thread could leave waiting.
const WORDS: usize = 2 * MOST_STROKES;

/// A key and its length, or a pause.
type Word = (Stroke, u32);

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
    /// Strokes that were said and have not begun.
    typed: Arc<AtomicUsize>,
}

/// The leg's end of it.
pub(super) struct Ear {
    words: Receiver<Word>,
    news: Arc<News>,
    typed: Arc<AtomicUsize>,
}

pub(super) fn line() -> (RtpLine, Ear) {
    let (sender, words) = crossbeam_channel::bounded(WORDS);
    let (news, typed) = (Arc::<News>::default(), Arc::<AtomicUsize>::default());
    (RtpLine { words: sender, news: Arc::clone(&news), typed: Arc::clone(&typed) }, Ear { words, news, typed })
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

    /// So many strokes wait that the trunk has not said.
    pub(super) fn typed(&self, strokes: usize) {
        self.typed.fetch_add(strokes, Ordering::Relaxed);
    }

    /// So many strokes do not wait any more.
    pub(super) fn begun(&self, strokes: usize) {
        if strokes > 0 {
            self.typed.fetch_sub(strokes, Ordering::Relaxed);
        }
    }
}

impl RtpLine {
    /// After an offer and its answer, from the next tick on. Whatever the leg has not seen yet is out of date.
    pub fn update(&self, negotiated: &Negotiated) {
        self.news.agreed.store(Some(Arc::new(negotiated.clone())));
        self.news.is_there.store(true, Ordering::Release);
    }

    /// Presses keys one after the other, each 40 ms to 4 s long, in place of audio: all of them, or none. The error is what to say to a
    /// user.
    pub fn press(&self, strokes: &[Stroke], duration_ms: u32) -> Result<(), String> {
        let count = strokes.len();
        if self.typed.fetch_add(count, Ordering::Relaxed) + count > MOST_STROKES {
            self.typed.fetch_sub(count, Ordering::Relaxed);
            return Err(format!(
                "more than {MOST_STROKES} keys and pauses would wait: send them when others are through"
            ));
        }
        let said = strokes.iter().all(|stroke| self.say((*stroke, duration_ms)));
        if said { Ok(()) } else { Err("the call has ended".to_owned()) }
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
