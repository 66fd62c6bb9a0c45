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
//! Who takes what comes through a ring stands at its [`Desk`]; what a thread with a loop of its own is to do waits in its
//! [`Errands`].
//!
//! Nothing here knows what an item is, or how long a consumer takes. Every queue belongs to its two ends; the inbox holds
//! none of them. `crates/models` builds this folder once more, under loom, and looks at every order in which its threads may meet
//! (`make loom`); so nothing here names another room.

mod desk;
mod errands;
mod inbox;
mod queue;
mod sync;

pub use desk::{Desk, Found, Left, Way};
pub use errands::Errands;
pub use inbox::{Inbox, Neighbour, Wait};
pub use queue::{Full, HandoffReceiver, HandoffSender, RingReceiver, RingSender, Source};

/// Names a queue within its inbox; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingId(pub u64);

#[cfg(all(test, not(loom)))]
mod tests;
