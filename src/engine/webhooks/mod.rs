//! What becomes of a call, told to an HTTP server of the user's: one POST at each change of its status, signed as Standard Webhooks
//! describes it.
//!
//! | File | Holds |
//! |---|---|
//! | `sign` | [`Secret`]: `whsec_…`, and the signature of a message |
//! | `queue` | [`Hooks`]: what is told and not yet delivered, bounded |
//! | `deliver` | [`Deliveries`]: the task that posts, tries again, and gives up |
//!
//! The board tells and never waits. What one call has to tell arrives in order: a message is posted when the one before it was taken or
//! given up. Calls don't wait for each other, nor organisations: each has a part of the queue and of the
//! posts at one time. A 2xx takes a message, a 410
//! gives it up, anything else is tried again. Nothing of an answer is kept or followed, redirects neither. What is still undelivered when
//! the engine ends is tried for a moment, and lost; what an engine that died had to tell is lost too.

mod deliver;
mod queue;
mod sign;

pub use deliver::{Deliveries, Pace};
pub use queue::{Callback, Counts, Hooks};
pub use sign::Secret;
