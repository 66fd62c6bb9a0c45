//! The only way of a frame from one thread to another.
//!
//! An [`Inbox`] is what a consuming thread (or a small pool of them) waits on: a ready list and a signal. From it come
//! two kinds of queue, each with one producer's end and one consumer's end:
//!
//! | | bound | when full | for |
//! |---|---|---|---|
//! | [`Inbox::ring`] | items | the oldest is dropped, counted | live audio: what is late is worthless |
//! | [`Inbox::handoff`] | sum of durations | the new one is refused | a burst that must not lose anything |
//!
//! A push is lock-free, never waits and never wakes anybody: the pushing thread calls [`Neighbour::flush`] once per turn,
//! and only then, and only if the consumer has not been signalled since it last looked, the signal is given. So a thread
//! that carries a thousand calls wakes its neighbour once per turn, not once per frame.
//!
//! A queue stands on the ready list at most once, and from the moment it is taken from the list until [`Source::settle`]
//! nobody else is given it: **at most one thread works on one queue at a time**, however many drain the inbox.
//!
//! Nothing here knows what an item is, or how long a consumer takes. Every queue belongs to its two ends; the inbox holds
//! none of them.

mod inbox;
mod queue;

pub use inbox::{Inbox, Neighbour, Wait};
pub use queue::{Full, HandoffReceiver, HandoffSender, RingReceiver, RingSender, Source};

/// Names a queue within its inbox; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingId(pub u64);

#[cfg(test)]
mod tests;
