//! DATA_STREAM_TIMEOUT (§3.5): a data stream whose header, object or fetched thing was begun and is not ended.
//!
//! Looked at in steps: what stood unfinished at one look and has not come any further by the next one closes the session. A stream between
//! two objects waits for nothing, and one whose track nobody named has a time of its own ([`Limits::pending_time`](super::Limits)).

use std::time::Instant;

use super::streams::Stream;
use super::{Session, StreamId, constants};
use crate::moqt::error::{CloseCode, Violation};

/// What is unfinished, and when it is looked at.
#[derive(Default)]
pub(super) struct Stalls {
    next: Option<Instant>,
    /// Each stream with how far it had come.
    seen: Vec<(StreamId, u64)>,
}

impl Session {
    /// Something is not whole.
    pub(super) fn watch_stalls(&mut self) {
        if self.stalls.next.is_none() {
            self.stalls.next = Some(self.now + constants::DATA_TIMEOUT);
        }
    }

    pub(super) fn next_stall(&self) -> Option<Instant> {
        self.stalls.next
    }

    pub(super) fn close_stalled(&mut self) {
        if self.stalls.next.is_none_or(|at| at > self.now) {
            return;
        }
        let unfinished = |stream: &Stream| match stream {
            Stream::Unknown(reader) => reader.unfinished(),
            Stream::Subgroup { reader, .. } => reader.unfinished(),
            Stream::Fetched { reader, .. } => reader.unfinished(),
            _ => None,
        };
        let marks = self.streams.iter().filter_map(|(id, stream)| Some((*id, unfinished(stream)?)));
        // Of draft 16 the layer below holds what is not whole.
        let older = self.older.iter().flat_map(|older| older.unfinished());
        let marks: Vec<(StreamId, u64)> = marks.chain(older).collect();
        if marks.iter().any(|mark| self.stalls.seen.contains(mark)) {
            let reason = "a data stream that does not end what it began";
            return self.fail(Violation::new(CloseCode::DataStreamTimeout, reason));
        }
        self.stalls.next = (!marks.is_empty()).then(|| self.now + constants::DATA_TIMEOUT);
        self.stalls.seen = marks;
    }
}
