//! The two queues. Both announce themselves to their inbox on the first push after they were settled.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::RingId;
use super::inbox::Shared;
use super::sync::{ArrayQueue, AtomicBool, AtomicU64, SegQueue};

/// What both receivers offer to whoever drains an inbox.
pub trait Source {
    fn id(&self) -> RingId;
    /// After a queue that [`Inbox::take`](super::Inbox::take) named has been worked on, emptied or not: gives it back. What is still inside, or
    /// came meanwhile, puts it on the ready list again.
    fn settle(&self);
}

/// The place of a queue on its inbox's ready list.
struct Ticket {
    id: RingId,
    inbox: Arc<Shared>,
    /// On the ready list, or taken from it and not yet settled.
    listed: AtomicBool,
}

impl Ticket {
    fn new(inbox: &Arc<Shared>, id: RingId) -> Self {
        Self { id, inbox: inbox.clone(), listed: AtomicBool::new(false) }
    }

    /// After a push. Sequentially consistent on both sides: either the settling thread sees the item or this one sees
    /// the queue unlisted; with less, both could look past each other and the item would lie there unannounced.
    fn announce(&self) {
        if !self.listed.swap(true, SeqCst) {
            self.inbox.ready(self.id);
        }
    }

    fn settle(&self, is_empty: impl Fn() -> bool) {
        self.listed.swap(false, SeqCst);
        if !is_empty() {
            self.announce();
        }
    }
}

struct Ring<T> {
    items: ArrayQueue<T>,
    dropped: AtomicU64,
    ticket: Ticket,
}

/// Pushes into a ring; see [`Inbox::ring`](super::Inbox::ring).
pub struct RingSender<T>(Arc<Ring<T>>);

/// Takes from a ring.
pub struct RingReceiver<T>(Arc<Ring<T>>);

pub(super) fn ring<T>(inbox: &Arc<Shared>, id: RingId, capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
    let ring =
        Arc::new(Ring { items: ArrayQueue::new(capacity), dropped: AtomicU64::new(0), ticket: Ticket::new(inbox, id) });
    (RingSender(ring.clone()), RingReceiver(ring))
}

impl<T> RingSender<T> {
    /// Never waits; the oldest item makes room. `true`: one was dropped.
    pub fn push(&self, item: T) -> bool {
        let dropped = self.0.items.force_push(item).is_some();
        if dropped {
            self.0.dropped.fetch_add(1, SeqCst);
        }
        self.0.ticket.announce();
        dropped
    }

    pub fn id(&self) -> RingId {
        self.0.ticket.id
    }

    /// Items that had to make room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(SeqCst)
    }

    pub fn capacity(&self) -> usize {
        self.0.items.capacity()
    }
}

impl<T> RingReceiver<T> {
    pub fn pop(&self) -> Option<T> {
        self.0.items.pop()
    }

    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(SeqCst)
    }

    pub fn len(&self) -> usize {
        self.0.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.items.is_empty()
    }
}

impl<T> Source for RingReceiver<T> {
    fn id(&self) -> RingId {
        self.0.ticket.id
    }

    fn settle(&self) {
        self.0.ticket.settle(|| self.0.items.is_empty());
    }
}

struct Handoff<T> {
    items: SegQueue<(T, u64)>,
    queued_us: AtomicU64,
    limit_us: u64,
    ticket: Ticket,
}

/// Pushes into a hand-off; see [`Inbox::handoff`](super::Inbox::handoff).
pub struct HandoffSender<T>(Arc<Handoff<T>>);

/// Takes from a hand-off.
pub struct HandoffReceiver<T>(Arc<Handoff<T>>);

/// A hand-off holds as much as it may. The item comes back to its owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T> {
    pub item: T,
    pub queued_us: u64,
    pub limit_us: u64,
}

pub(super) fn handoff<T>(inbox: &Arc<Shared>, id: RingId, limit_us: u64) -> (HandoffSender<T>, HandoffReceiver<T>) {
    let queue = Arc::new(Handoff {
        items: SegQueue::new(),
        queued_us: AtomicU64::new(0),
        limit_us,
        ticket: Ticket::new(inbox, id),
    });
    (HandoffSender(queue.clone()), HandoffReceiver(queue))
}

impl<T> HandoffSender<T> {
    /// Never waits. `duration_us` is how much time the item covers.
    pub fn push(&self, item: T, duration_us: u64) -> Result<(), Full<T>> {
        let queued_us = self.0.queued_us.fetch_add(duration_us, SeqCst);
        if queued_us + duration_us > self.0.limit_us {
            self.0.queued_us.fetch_sub(duration_us, SeqCst);
            return Err(Full { item, queued_us, limit_us: self.0.limit_us });
        }
        self.0.items.push((item, duration_us));
        self.0.ticket.announce();
        Ok(())
    }

    pub fn id(&self) -> RingId {
        self.0.ticket.id
    }

    /// Pushed and not yet taken.
    pub fn queued_us(&self) -> u64 {
        self.0.queued_us.load(SeqCst)
    }
}

impl<T> HandoffReceiver<T> {
    /// The next item and how much time it covers.
    pub fn pop(&self) -> Option<(T, u64)> {
        let (item, duration_us) = self.0.items.pop()?;
        self.0.queued_us.fetch_sub(duration_us, SeqCst);
        Some((item, duration_us))
    }

    pub fn queued_us(&self) -> u64 {
        self.0.queued_us.load(SeqCst)
    }
}

impl<T> Source for HandoffReceiver<T> {
    fn id(&self) -> RingId {
        self.0.ticket.id
    }

    fn settle(&self) {
        self.0.ticket.settle(|| self.0.items.is_empty());
    }
}
