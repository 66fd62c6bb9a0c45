//! Who sees that what is ready for the delivering threads waits behind a callback that blocks.
//!
//! The room that delivers knows it ([`Look`]), and starts a further thread then; somebody else must ask it. The media worker asks at the
//! end of its turns. A process may have none, or one that has nothing to do: so whoever pushes outside of a worker's turns begins a watch, a
//! task of the control thread that asks every [`PAUSE`] for as long as something waits. There is one at a time, and none while nothing waits.
//!
//! Beginning it takes no lock of ours and waits for nothing; a frame of the media worker's begins none. No thread is started here.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::sleep;

/// Nobody can have been stuck for longer before the first look; one that is stuck is seen after twice this at the latest.
const PAUSE: Duration = Duration::from_millis(10);

/// The room that delivers, as those see it who look after it.
pub trait Look: Send + Sync {
    /// At the end of a turn of the media worker; when it is to be called without one.
    fn look(&self, now: Instant) -> Option<Instant>;

    /// On the control thread. `true`: something waits still.
    fn watch(&self, now: Instant) -> bool;
}

/// One per runtime.
#[derive(Default)]
pub(super) struct Lookout {
    room: OnceLock<Box<dyn Look>>,
    /// A watch runs, and has yet to look.
    watched: AtomicBool,
}

impl Lookout {
    /// A second one changes nothing: there is one such room.
    pub(super) fn set(&self, room: impl Look + 'static) {
        let _ = self.room.set(Box::new(room));
    }

    pub(super) fn look(&self, now: Instant) -> Option<Instant> {
        self.room.get().and_then(|room| room.look(now))
    }

    /// Something was pushed. From any thread.
    pub(super) fn watch(self: &Arc<Self>, control: &Handle) {
        if !self.watched.swap(true, SeqCst) {
            let lookout = self.clone();
            control.spawn(async move {
                loop {
                    sleep(PAUSE).await;
                    // Before the look: what is pushed after it begins another watch.
                    lookout.watched.swap(false, SeqCst);
                    let waits = lookout.room.get().is_some_and(|room| room.watch(Instant::now()));
                    if !waits || lookout.watched.swap(true, SeqCst) {
                        break;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Something waits for so many looks.
    struct Room(Arc<AtomicU32>);

    impl Look for Room {
        fn look(&self, _: Instant) -> Option<Instant> {
            None
        }

        fn watch(&self, _: Instant) -> bool {
            self.0.fetch_sub(1, SeqCst) > 1
        }
    }

    #[test]
    fn one_watch_looks_until_nothing_waits_and_can_be_begun_again() {
        let control = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (lookout, left) = (Arc::new(Lookout::default()), Arc::new(AtomicU32::new(3)));
        lookout.set(Room(left.clone()));
        for _ in 0..2 {
            left.store(3, SeqCst);
            (0..5).for_each(|_| lookout.watch(control.handle()));
            assert_eq!(control.metrics().num_alive_tasks(), 1, "pushes share a watch");
            assert_eq!(left.load(SeqCst), 3, "whoever pushes does not look himself");
            let ended = async {
                while control.metrics().num_alive_tasks() > 0 {
                    tokio::task::yield_now().await;
                }
            };
            let over = control.block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await });
            assert_eq!(over, Ok(()), "a watch ends when nothing waits");
            assert_eq!(left.load(SeqCst), 0);
        }
    }
}
