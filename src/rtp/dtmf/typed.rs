//! What somebody types for a far end, as text: keys, and pauses between them.

use super::Key;

/// Keys and pauses of one text; they also wait in one [`Keypad`](super::Keypad).
pub const MOST_STROKES: usize = 64;
/// Where nobody says how long a key is to be pressed.
pub const DEFAULT_DURATION_MS: u32 = 160;
/// `w` and `W`.
const SHORT_PAUSE_MS: u32 = 500;
const LONG_PAUSE_MS: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stroke {
    Key(Key),
    /// Nothing is pressed.
    Pause {
        ms: u32,
    },
}

impl Stroke {
    pub fn key(self) -> Option<Key> {
        match self {
            Self::Key(key) => Some(key),
            Self::Pause { .. } => None,
        }
    }

    fn from_char(letter: char) -> Option<Self> {
        match letter {
            'w' => Some(Self::Pause { ms: SHORT_PAUSE_MS }),
            'W' => Some(Self::Pause { ms: LONG_PAUSE_MS }),
            letter => Key::from_char(letter).map(Self::Key),
        }
    }
}

/// Reads what is typed. The error goes behind the field's name; the digits themselves stand in it nowhere, since they may be a secret.
pub fn strokes(text: &str) -> Result<Vec<Stroke>, String> {
    let count = text.chars().count();
    if count == 0 || count > MOST_STROKES {
        return Err(format!("has {count} letters: send 1 to {MOST_STROKES}"));
    }
    let known = |letter: char| {
        let wrong = format!(
            "has the letter {letter:?}: send 0-9, *, #, A-D, and w or W for a pause of half a second or a second"
        );
        Stroke::from_char(letter).ok_or(wrong)
    };
    text.chars().map(known).collect()
}
