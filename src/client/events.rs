//! What becomes of a call, as it happens.
//!
//! [`Client::follow`] puts the call's row into a ring: as it is now, and again whenever its status has changed. The last item
//! is `Closed`, behind the row of a call that is over or behind the error that ended the watch. What can't be asked for a while
//! is asked again; only a refusal ends the watch.

use std::time::Duration;

use super::calls::{Client, checked_sid};
use super::media::Delivered;
use super::waits::{Told, Underway};
use crate::error::{Error, Kind, Result};
use crate::ring::RingSender;

/// A call has at most four statuses one after the other, and then an error or the end.
pub const RING_ROWS: usize = 8;
/// The call is asked about at this pace while it moves, and at [`POLL_CAP`] once it stands.
const POLL_STEP: Duration = Duration::from_millis(50);
const POLL_CAP: Duration = Duration::from_millis(500);

impl Client {
    /// Returns at once. Nothing follows once the answer was abandoned.
    pub fn follow(&self, sid: &str, ring: RingSender<Delivered>) -> Result<Underway> {
        let sid = checked_sid(sid)?;
        let delivery = self.runtime().delivery().neighbour();
        let told = Told(|_: Result<()>| ());
        self.run(told, |inner| async move {
            let (mut pause, mut last) = (POLL_STEP, None);
            let end = loop {
                match inner.call(&sid).await {
                    Ok(row) if last == Some(row.status) => pause = (pause * 2).min(POLL_CAP),
                    Ok(row) => {
                        (last, pause) = (Some(row.status), POLL_STEP);
                        let over = row.status.is_terminal();
                        ring.push(Delivered::Row(Ok(Box::new(row))));
                        if over {
                            break None;
                        }
                        delivery.flush();
                    }
                    Err(error) if passes(&error) => pause = POLL_CAP,
                    Err(error) => break Some(error),
                }
                tokio::time::sleep(pause).await;
            };
            if let Some(error) = end {
                ring.push(Delivered::Row(Err(Box::new(error))));
            }
            ring.push(Delivered::Closed);
            delivery.flush();
            Ok(())
        })
    }
}

/// The control plane may be restarting: the call lives on or is found to have ended.
fn passes(error: &Error) -> bool {
    error.retryable || matches!(error.kind(), Kind::ApiConnection | Kind::ApiTimeout)
}
