//! One published track of a holder: its hand-off, and the queue that lets frames go in their own time.
//!
//! The hand-off stays taken while the queue behind it is full, so that the worker is not woken for frames it can't take.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Clock, HolderId, Outgoing, Publication};
use crate::playout::Queue;
use crate::ring::Source;
use crate::tracks::{Pool, TrackId, Wires, Written};

pub(super) struct Publisher {
    pub(super) holder: HolderId,
    pub(super) track: TrackId,
    publication: Publication,
    queue: Option<Queue>,
    /// The frame that the full queue gave back.
    held: Option<Outgoing>,
    /// The timer that is set for this track.
    pub(super) due: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(holder: HolderId, track: TrackId, publication: Publication, now: Instant) -> Self {
        let frame_us = publication.track.frame_us;
        let queue = publication.pace.map(|clock| Queue::new(frame_us, clock.us_at(now), now));
        Self { holder, track, publication, queue, held: None, due: None }
    }

    /// Takes what was handed over and sends what is due.
    pub(super) fn pump(&mut self, pool: &mut Pool, links: &mut impl Wires, now: Instant) {
        loop {
            self.send_due(pool, links, now);
            if !self.take_one(pool, links, now) {
                break;
            }
        }
        // Once more: the last frame taken may be due at once.
        self.send_due(pool, links, now);
        if self.held.is_none() {
            self.publication.frames.settle();
        }
        self.tell_paced(0);
    }

    /// What has left the hand-off and not the queue, for whoever asks how much waits; `more` is on its way from the one to the
    /// other. Told before a frame is taken, so that both together never look emptier than they are.
    fn tell_paced(&self, more_us: u64) {
        let queued_us = self.queue.as_ref().map_or(0, Queue::queued_us);
        self.publication.figures.paced_us.store(queued_us + more_us, Relaxed);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.as_ref()?.poll_timeout()
    }

    pub(super) fn set_subscribers(&self, count: usize) {
        self.publication.figures.subscribers.store(count as u64, Relaxed);
    }

    pub(super) fn note_too_old(&self, count: u64) {
        self.publication.figures.too_old.fetch_add(count, Relaxed);
    }

    /// What has not left will not leave.
    pub(super) fn forget_queue(&self) {
        self.publication.figures.paced_us.store(0, Relaxed);
    }

    /// `false`: nothing was there, or nothing more fits.
    fn take_one(&mut self, pool: &mut Pool, links: &mut impl Wires, now: Instant) -> bool {
        self.tell_paced(u64::from(self.publication.track.frame_us));
        let taken = self.held.take().or_else(|| self.publication.frames.pop().map(|(frame, _)| frame));
        let Some(Outgoing { payload, timestamp_us }) = taken else { return false };
        let Some(queue) = &mut self.queue else {
            self.write(pool, links, timestamp_us.unwrap_or(0), payload, now);
            return true;
        };
        match queue.push(payload, timestamp_us, now) {
            Ok(()) => true,
            // An empty queue refuses a stamp that is on another clock: no time would come at which it fits.
            Err(full) if full.queued_us == 0 => {
                self.publication.figures.behind.fetch_add(1, Relaxed);
                true
            }
            Err(full) => {
                self.held = Some(Outgoing { payload: full.payload, timestamp_us });
                false
            }
        }
    }

    fn send_due(&mut self, pool: &mut Pool, links: &mut impl Wires, now: Instant) {
        while let Some(due) = self.queue.as_mut().and_then(|queue| queue.poll(now)) {
            self.write(pool, links, due.timestamp_us, due.payload, now);
        }
    }

    fn write(&self, pool: &mut Pool, links: &mut impl Wires, timestamp_us: u64, payload: bytes::Bytes, now: Instant) {
        let figures = &self.publication.figures;
        let counter = match pool.write(links, self.track, timestamp_us, payload, now) {
            Written::Sent => &figures.frames_out,
            Written::Unheard => &figures.unheard,
            Written::Offline => &figures.offline,
            Written::Behind => &figures.behind,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Clock {
    /// Counts from the first use in this process.
    pub fn process() -> Self {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Self { at: *START.get_or_init(Instant::now), us: 0 }
    }

    pub fn us_at(&self, now: Instant) -> u64 {
        self.us + now.saturating_duration_since(self.at).as_micros() as u64
    }
}
