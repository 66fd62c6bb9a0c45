//! What became of links in one turn of the worker, told in a few words: a relay that goes down takes all of its bridges along.

use std::mem;

use super::Link;

/// How many went which way since [`News::tell`].
#[derive(Debug, Default)]
pub(super) struct News {
    lost: usize,
    back: usize,
    failed: usize,
    /// Never stood yet, and the first attempts came to nothing.
    missing: usize,
    reason: Option<String>,
}

impl News {
    pub(super) fn note(&mut self, before: Link, now: Link, reason: Option<&str>) {
        match (before, now) {
            (Link::Connected, Link::Reconnecting) => self.lost += 1,
            (Link::Reconnecting, Link::Connected) => self.back += 1,
            (Link::Connecting, Link::Connecting) if reason.is_some() => self.missing += 1,
            (before, Link::Failed) if before != Link::Failed => self.failed += 1,
            _ => return,
        }
        if self.reason.is_none() {
            self.reason = reason.map(str::to_owned);
        }
    }

    /// Once per turn.
    pub(super) fn tell(&mut self) {
        if self.lost + self.back + self.failed + self.missing == 0 {
            return;
        }
        let Self { lost, back, failed, missing, reason } = mem::take(self);
        let reason = reason.unwrap_or_else(|| "it says nothing".into());
        if lost > 0 {
            tracing::warn!(bridges = lost, reason, "the link to a relay is lost and dialled afresh");
        }
        if missing > 0 {
            tracing::warn!(bridges = missing, reason, "a relay has not been reached yet, and is dialled on");
        }
        if failed > 0 {
            tracing::error!(bridges = failed, reason, "a relay refuses what is asked of it");
        }
        if back > 0 {
            tracing::info!(bridges = back, "a relay is reached again");
        }
    }
}
