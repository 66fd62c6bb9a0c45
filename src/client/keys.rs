//! Keys that a user has pressed for the far end of a call. What it presses itself comes over its bridge ([`Bridge::hear_keys`](super::Bridge::hear_keys)).

use serde::Serialize;
use serde_json::Value;

use super::calls::{Client, checked_sid};
use super::http::Ask;
use super::waits::Waits;
use crate::error::{Error, Result};
use crate::rtp::dtmf::{MAX_DURATION_MS, MIN_DURATION_MS, strokes};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    org_id: &'a str,
    sid: &'a str,
    digits: &'a str,
    duration_ms: u32,
}

impl Client {
    /// Returns once the engine has them all; they are pressed one after the other. Sent once: a repetition would press them again.
    pub fn send_dtmf<W: Waits<()>>(&self, sid: &str, digits: &str, duration_ms: u32, waits: W) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        check_digits("digits", digits)?;
        if !(MIN_DURATION_MS..=MAX_DURATION_MS).contains(&duration_ms) {
            let range = format!("choose {MIN_DURATION_MS} to {MAX_DURATION_MS}");
            return Err(Error::value(format!("duration_ms is {duration_ms}: {range}")));
        }
        let digits = digits.to_owned();
        self.run(waits, |inner| async move {
            let input = Input { org_id: &inner.options.org_id, sid: &sid, digits: &digits, duration_ms };
            let _: Value = inner.http.ask(Ask::Mutation, "voice.calls.sendDtmf", &input).await?;
            Ok(())
        })
    }
}

/// Digits stand in no message of ours, since they may be a secret.
pub(super) fn check_digits(field: &str, digits: &str) -> Result<()> {
    strokes(digits).map(drop).map_err(|why| Error::value(format!("{field} {why}")))
}
