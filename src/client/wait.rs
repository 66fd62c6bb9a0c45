//! Waiting for a status of a call.
//!
//! The call is asked for first, so that a wait for what is so already is one question. Then what becomes of it is heard through the
//! client's one stream of events ([`watch`](super::watch)), or, of an engine that has no stream for it, asked for again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::calls::{Client, Inner, checked_sid};
use super::waits::Waits;
use super::watch::{Ear, Heard};
use crate::call::{CallRow, Status};
use crate::error::{Error, Kind, Result};

/// Without events the call is asked for at this pace first, and at [`POLL_CAP`] after a while.
const POLL_STEP: Duration = Duration::from_millis(50);
const POLL_CAP: Duration = Duration::from_millis(500);
/// A wait without a limit ends by then.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Client {
    /// Until the call has one of these states. `None`: the time is over. A call that ended in another state, or is past all of them, will
    /// never come to them: that is a [`Kind::Call`] with its end reason, if it has one.
    pub fn wait<W: Waits<Option<CallRow>>>(
        &self,
        sid: &str,
        until: Vec<Status>,
        limit: Option<Duration>,
        waits: W,
    ) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        if until.is_empty() {
            return Err(Error::value("status is empty: name at least one"));
        }
        self.run(waits, |inner| async move {
            let deadline = Instant::now() + limit.map_or(LONGEST, |limit| limit.min(LONGEST));
            Wait { inner: &inner, sid: &sid, until: &until, deadline }.run().await
        })
    }
}

struct Wait<'a> {
    inner: &'a Arc<Inner>,
    sid: &'a str,
    until: &'a [Status],
    deadline: Instant,
}

impl Wait<'_> {
    async fn run(&self) -> Result<Option<CallRow>> {
        let (watch, mut pause) = (&self.inner.watch, POLL_STEP);
        // An open stream is heard from before the question on, so that nothing falls between both.
        let mut ear = watch.ear_if_open(self.sid);
        let mut is_open = ear.is_some();
        loop {
            if let Some(row) = self.judge(self.inner.call(self.sid).await?)? {
                return Ok(Some(row));
            }
            if Instant::now() >= self.deadline {
                return Ok(None);
            }
            let hears = ear.get_or_insert_with(|| watch.ear(self.inner, self.sid));
            if is_open {
                match self.hear(hears).await? {
                    Some(Heard::Row(row)) => return Ok(Some(*row)),
                    Some(Heard::Gap) => {}
                    None => return Ok(None),
                }
                ear = watch.ear_if_open(self.sid);
                is_open = ear.is_some();
                continue;
            }
            // A stream takes its time, behind some proxies for ever: the call is asked for meanwhile.
            let until = self.deadline.min(Instant::now() + pause);
            match timeout_at(until, hears.opened()).await {
                Ok(true) => is_open = true,
                Ok(false) => {
                    ear = None;
                    sleep_until(until).await;
                }
                Err(_) => {}
            }
            pause = (pause * 2).min(POLL_CAP);
        }
    }

    /// The row that is waited for, or that some may have passed unheard. `None`: the time is over.
    async fn hear(&self, ear: &mut Ear) -> Result<Option<Heard>> {
        loop {
            let Ok(heard) = timeout_at(self.deadline, ear.next()).await else { return Ok(None) };
            let Heard::Row(row) = heard else { return Ok(Some(heard)) };
            if let Some(row) = self.judge(*row)? {
                return Ok(Some(Heard::Row(Box::new(row))));
            }
        }
    }

    /// The row that was waited for, or why it will never come.
    fn judge(&self, row: CallRow) -> Result<Option<CallRow>> {
        if self.until.contains(&row.status) {
            return Ok(Some(row));
        }
        match self.until.iter().all(|status| status.is_past(row.status)) {
            true => Err(never_again(&row, self.until)),
            false => Ok(None),
        }
    }
}

/// What a call that ended, or went on, says to somebody who expected something else of it.
fn never_again(row: &CallRow, until: &[Status]) -> Error {
    let wanted: Vec<_> = until.iter().map(|status| status.as_str()).collect();
    let reason = match row.end_reason.as_deref() {
        Some(reason) => format!(" ({reason})"),
        None if row.status.is_terminal() => " (for no stated reason)".to_owned(),
        None => String::new(),
    };
    let message =
        format!("call {} is {}{reason} and will not be {}", row.sid, row.status.as_str(), wanted.join(" or "));
    Error::new(Kind::Call, message).with(|detail| {
        detail.end_reason = row.end_reason.clone();
        detail.sip_code = row.sip_code;
        detail.q850 = row.q850;
    })
}
