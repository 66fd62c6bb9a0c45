//! How the outcome of a question reaches whoever asked: he waits for it in his own thread, or he is told.
//!
//! Every procedure is written once, over [`Waits`]. A cancel check makes it wait; [`Told`] makes it return at once with an
//! [`Underway`], and the outcome comes on the control thread, which must not be held up: whoever is told puts it somewhere.

use std::future::Future;

use super::runtime::Control;
use crate::error::Result;

/// What becomes of work on the control thread.
pub trait Waits<T> {
    /// What the asker has in his hands afterwards.
    type Outcome;

    #[doc(hidden)]
    fn carry(self, control: &Control, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<Self::Outcome>;

    /// There is nothing to ask.
    fn at_once(self, value: T) -> Result<Self::Outcome>;
}

/// Waits here; `true` ends the wait, and the work with it. See [`Cancel`](super::runtime::Cancel).
impl<T: Send + 'static, C: FnMut() -> bool + ?Sized> Waits<T> for &mut C {
    type Outcome = T;

    fn carry(self, control: &Control, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let mut check = || (*self)();
        control.run(work, &mut check)
    }

    fn at_once(self, value: T) -> Result<T> {
        Ok(value)
    }
}

/// Called with the outcome on the control thread, once; never after the work was abandoned.
pub struct Told<F>(pub F);

impl<T: Send + 'static, F: FnOnce(Result<T>) + Send + 'static> Waits<T> for Told<F> {
    type Outcome = Underway;

    fn carry(self, control: &Control, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<Underway> {
        let told = self.0;
        Ok(Underway(Some(control.spawn(async move { told(work.await) }))))
    }

    fn at_once(self, value: T) -> Result<Underway> {
        (self.0)(Ok(value));
        Ok(Underway(None))
    }
}

/// Work on the control thread. Dropping it changes nothing.
pub struct Underway(Option<tokio::task::AbortHandle>);

impl Underway {
    /// Ends the work where it stands; what it holds is given back by what it holds.
    pub fn abandon(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
