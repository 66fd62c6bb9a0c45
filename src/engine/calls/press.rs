//! Keys that somebody presses for the far end of a call: now, or when it answers. Whether they will be pressed is its trunk's to say.

use std::time::Instant;

use super::board::{Board, Sid, over};
use super::{Answer, Refused, Why};
use crate::call::Status;
use crate::engine::media::Caller;
use crate::engine::trunk::{Asker, Keys};
use crate::rtp::dtmf::{Key, MAX_DURATION_MS, MIN_DURATION_MS, Stroke};

impl Board {
    pub(super) fn press(&mut self, org: &str, sid: &str, keys: Keys, answer: Answer<()>, now: Instant) {
        match self.check_press(org, sid) {
            Ok(sid) => {
                let told = move |done: Result<(), String>| {
                    drop(answer.send(done.map_err(|why| Refused::new(Why::Conflict, why))));
                };
                self.press_on(&sid, keys, Asker::new(told), now);
            }
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }

    fn check_press(&mut self, org: &str, sid: &str) -> Result<Sid, Refused> {
        let (sid, entry) = self.entry(org, sid)?;
        if entry.is_over() {
            return Err(over(entry.record().row()));
        }
        let why = match (entry.record().status, entry.caller) {
            (_, Caller::Bridge) => "the far end of this call is empty: nobody hears keys",
            (Status::InProgress, Caller::Leg) => return Ok(sid),
            _ => "the call is not answered: send keys once it is in_progress, or with originate (sendDigits)",
        };
        Err(Refused::new(Why::Conflict, why))
    }

    /// What was asked for with the call itself.
    pub(super) fn press_first(&mut self, sid: &Sid, now: Instant) {
        let Some(keys) = self.calls.get_mut(sid).and_then(|entry| entry.send_digits.take()) else { return };
        let called = Sid::clone(sid);
        let told = move |done: Result<(), String>| {
            if let Err(why) = done {
                tracing::warn!(sid = %called, why, "the digits that were to be sent after the answer are not sent");
            }
        };
        self.press_on(sid, keys, Asker::new(told), now);
    }

    /// A key of one leg for the other one, which takes none on its line: its trunk may have another way.
    pub(super) fn press_across(&mut self, sid: &Sid, second: bool, (key, ms): (char, u32), now: Instant) {
        let Some(entry) = self.calls.get(sid) else { return };
        let name = if second { entry.second.as_ref().map(|second| second.name(sid)) } else { Some(sid.to_string()) };
        let (Some(name), Some(key)) = (name, Key::from_char(key)) else { return };
        let trunk_id = entry.trunk_id.clone();
        let keys = Keys { strokes: vec![Stroke::Key(key)], duration_ms: ms.clamp(MIN_DURATION_MS, MAX_DURATION_MS) };
        let told = move |done: Result<(), String>| {
            if let Err(why) = done {
                tracing::debug!(why, "a key is not passed on to the other leg");
            }
        };
        if let Some(trunk) = self.trunks.get(&trunk_id) {
            trunk.press(&name, keys, Asker::new(told), now);
        }
    }

    fn press_on(&mut self, sid: &Sid, keys: Keys, asker: Asker, now: Instant) {
        let trunk_id = self.calls.get(sid).map(|entry| entry.trunk_id.clone());
        match trunk_id.and_then(|id| self.trunks.get(&id)) {
            Some(trunk) => trunk.press(sid, keys, asker, now),
            None => asker.tell(Err("the call has ended".to_owned())),
        }
    }
}
