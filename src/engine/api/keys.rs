//! Keys in a request: which, and how long each is pressed.

use super::answer::Failure;
use super::input::Input;
use crate::engine::trunk::Keys;
use crate::rtp::dtmf::{DEFAULT_DURATION_MS, MAX_DURATION_MS, MIN_DURATION_MS, strokes};

/// Those of `voice.calls.sendDtmf`.
pub(super) fn pressed(input: &Input) -> Result<Keys, Failure> {
    let duration_ms = input.whole("durationMs")?.unwrap_or(DEFAULT_DURATION_MS);
    if !(MIN_DURATION_MS..=MAX_DURATION_MS).contains(&duration_ms) {
        let message = format!("durationMs is {duration_ms}: send {MIN_DURATION_MS} to {MAX_DURATION_MS}");
        return Err(Failure::bad(message));
    }
    read("digits", input.required("digits")?, duration_ms)
}

/// Those that an originate sends after the answer.
pub(super) fn after_answer(input: &Input) -> Result<Option<Keys>, Failure> {
    input.text("sendDigits")?.map(|digits| read("sendDigits", digits, DEFAULT_DURATION_MS)).transpose()
}

fn read(field: &str, digits: &str, duration_ms: u32) -> Result<Keys, Failure> {
    let strokes = strokes(digits).map_err(|why| Failure::bad(format!("{field} {why}")))?;
    Ok(Keys { strokes, duration_ms })
}
