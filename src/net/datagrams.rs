//! Datagrams of one connection that wait for room on the path.
//!
//! The connection's own queue gives nothing back: what lies there leaves some time, however old. So while the path takes everything
//! datagrams go straight into it, and nothing waits here. Once something is left there after a turn, later ones wait here, in order, and
//! are handed over a packet at a time; what is older than [`OLDEST`], or than its own delivery timeout, is dropped and the session told.
//! Each publication has [`HELD_BYTES`] of its own: a call that says too much loses its own frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, SendDatagramError};

use super::Counters;
use crate::moqt::Session;
use crate::moqt::session::RequestId;

/// Speech that has waited for longer comes too late to be heard in its place.
const OLDEST: Duration = Duration::from_millis(100);
/// Of one publication.
const HELD_BYTES: usize = 16 << 10;
/// What a crowded connection is handed before the last was taken.
const PACKET_BYTES: usize = 1_200;

struct Waiting {
    until: Instant,
    request: RequestId,
    data: Bytes,
}

#[derive(Default)]
pub(super) struct Datagrams {
    waiting: VecDeque<Waiting>,
    /// Something was handed over in this turn.
    handed: bool,
    /// The path did not take everything.
    crowded: bool,
}

/// Who hears of it.
pub(super) struct Told<'a> {
    pub(super) session: &'a mut Session,
    pub(super) counters: &'a mut Counters,
}

impl Told<'_> {
    fn dropped(&mut self, request: RequestId) {
        self.counters.datagrams_dropped += 1;
        self.session.handle_dropped(request);
    }
}

impl Datagrams {
    pub(super) fn say(
        &mut self,
        connection: &mut Connection,
        (request, data): (RequestId, Bytes),
        told: &mut Told<'_>,
        now: Instant,
    ) {
        let data = match self.crowded || !self.waiting.is_empty() {
            true => data,
            false => match self.hand_over(connection, data) {
                Ok(()) => return told.counters.datagrams_out += 1,
                Err(SendDatagramError::Blocked(data)) => data,
                // It does not fit the path (any more).
                Err(_) => return told.dropped(request),
            },
        };
        let own = |waiting: &Waiting| waiting.request == request;
        let held: usize = self.waiting.iter().filter(|waiting| own(waiting)).map(|waiting| waiting.data.len()).sum();
        if held + data.len() > HELD_BYTES
            && let Some(oldest) = self.waiting.iter().position(own)
        {
            self.waiting.remove(oldest);
            told.dropped(request);
        }
        let timeout = told.session.delivery_timeout(request).map_or(OLDEST, |timeout| timeout.min(OLDEST));
        self.waiting.push_back(Waiting { until: now + timeout, request, data });
    }

    /// Before the connection builds packets.
    pub(super) fn feed(&mut self, connection: &mut Connection, told: &mut Told<'_>, now: Instant) {
        self.waiting.retain(|waiting| {
            let in_time = now <= waiting.until;
            if !in_time {
                told.dropped(waiting.request);
            }
            in_time
        });
        while let Some(next) = self.waiting.pop_front() {
            let before = unsent(connection);
            if self.crowded && before > 0 && before + next.data.len() > PACKET_BYTES {
                return self.waiting.push_front(next);
            }
            match self.hand_over(connection, next.data) {
                Ok(()) => told.counters.datagrams_out += 1,
                Err(SendDatagramError::Blocked(data)) => return self.waiting.push_front(Waiting { data, ..next }),
                Err(_) => told.dropped(next.request),
            }
        }
    }

    /// After it has built all that the path takes.
    pub(super) fn settle(&mut self, connection: &mut Connection) {
        if std::mem::take(&mut self.handed) || self.crowded {
            self.crowded = unsent(connection) > 0;
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn hand_over(&mut self, connection: &mut Connection, data: Bytes) -> Result<(), SendDatagramError> {
        self.handed = true;
        connection.datagrams().send(data, false)
    }
}

/// Bytes, overheads included, that were handed over and have not left.
fn unsent(connection: &mut Connection) -> usize {
    super::transport::DATAGRAM_ROOM.saturating_sub(connection.datagrams().send_buffer_space())
}
