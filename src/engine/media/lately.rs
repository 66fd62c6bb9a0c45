//! Which keys came a moment ago: some far ends press a key as a telephone event and signal it (SIP INFO) too.

use std::time::{Duration, Instant};

/// The same digit by both ways within so long was pressed once.
const TWICE: Duration = Duration::from_secs(2);

/// Keys of the last [`TWICE`], each once: there are no more than sixteen.
#[derive(Default)]
pub(super) struct Lately(Vec<(char, Instant)>);

impl Lately {
    pub(super) fn note(&mut self, key: char, now: Instant) {
        self.0.retain(|(other, at)| *other != key && is_lately(*at, now));
        self.0.push((key, now));
    }

    pub(super) fn has(&self, key: char, now: Instant) -> bool {
        self.0.iter().any(|(other, at)| *other == key && is_lately(*at, now))
    }

    pub(super) fn take(&mut self, key: char, now: Instant) -> bool {
        let has = self.has(key, now);
        self.0.retain(|(other, _)| *other != key);
        has
    }
}

fn is_lately(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < TWICE
}
