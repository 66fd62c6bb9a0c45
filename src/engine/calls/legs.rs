//! Second legs: a transfer by bridge dials one over the trunk of the first, and joins both once it is answered.
//!
//! To its trunk a second leg is a call of its own, under the sid of the call and the leg's number: `CA1x2y-0`. Its audio end waits here
//! until the call says that both are to be joined; from then on it is the audio thread's, as the caller's agent
//! ([`Bridged`]). It takes a channel of the trunk like any call, and its turn under `max_cps`: the wait counts as ring time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Sid};
use super::entry::{Entry, Phase};
use crate::call::{Carried, Event, LegEvent, LegState};
use crate::engine::agents::{Agent, Bridged};
use crate::engine::leg::Leg;
use crate::engine::media;
use crate::engine::trunk::{Dial, TrunkKind};

/// What a leg is told that can't be dialled at all (RFC 3261 §21.5.4).
const UNAVAILABLE: u16 = 503;
/// What one is told that may show no number.
const FORBIDDEN: u16 = 403;

/// The newest second leg of a call.
pub(super) struct Second {
    leg: usize,
    /// It is dialled then; `None`: it was.
    turn: Option<(Instant, Box<Dial>)>,
    /// Its audio, answered and not yet joined.
    audio: Option<Box<dyn Leg>>,
}

impl Second {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.turn.as_ref().map(|(turn, _)| *turn)
    }

    pub(super) fn name(&self, sid: &str) -> String {
        name(sid, self.leg)
    }
}

/// What trunks call this leg.
pub(super) fn name(sid: &str, leg: usize) -> String {
    format!("{sid}-{leg}")
}

/// The call and the number of a leg. Sids have no dash.
pub(super) fn parted(name: &str) -> Option<(&str, usize)> {
    let (sid, leg) = name.split_once('-')?;
    Some((sid, leg.parse().ok()?))
}

impl Board {
    pub(super) fn handle_leg(&mut self, name: &str, kind: TrunkKind, now: Instant) {
        let Some((sid, leg)) = parted(name) else { return };
        let Some(sid) = self.calls.get_key_value(sid).map(|(sid, _)| Arc::clone(sid)) else { return };
        let event = match kind {
            TrunkKind::Placed { sip_call_id } => LegEvent::Placed { sip_call_id },
            TrunkKind::Progress { code: 180..=183 } => LegEvent::Ringing,
            TrunkKind::Answered { leg: audio } => {
                // Of a leg that was given up meanwhile it is dropped, and the call says goodbye.
                if let Some(second) = self.second(&sid, leg) {
                    second.audio = audio;
                }
                LegEvent::Answered
            }
            TrunkKind::Rejected { code, q850, .. } => LegEvent::Rejected { code, q850 },
            TrunkKind::Unreachable { .. } => LegEvent::Rejected { code: UNAVAILABLE, q850: Some(38) },
            TrunkKind::Bye { q850 } => LegEvent::Bye { q850 },
            TrunkKind::Key { key, duration_ms } => return self.handle_leg_key(sid, leg, key, duration_ms),
            TrunkKind::SessionExpired => {
                self.end_leg(&sid, leg, true, now);
                LegEvent::Bye { q850: Some(102) }
            }
            _ => return,
        };
        if matches!(event, LegEvent::Rejected { .. } | LegEvent::Bye { .. }) {
            self.leave_leg(&sid, Some(leg), now);
        }
        self.tell_leg(&sid, leg, event, now);
        self.settle(&sid, now);
    }

    /// It is for the first leg's far end, once both are joined.
    fn handle_leg_key(&mut self, sid: Sid, leg: usize, key: char, duration_ms: u32) {
        let of_call = self.calls.get(&sid).and_then(|entry| entry.record().legs.get(leg));
        if of_call.is_some_and(|leg| leg.state == LegState::InProgress) {
            self.media.send(media::Command::Key { sid, key, duration_ms, second: true });
        }
    }

    fn second(&mut self, sid: &Sid, leg: usize) -> Option<&mut Second> {
        self.calls.get_mut(sid)?.second.as_mut().filter(|second| second.leg == leg)
    }

    fn tell_leg(&mut self, sid: &Sid, leg: usize, event: LegEvent, now: Instant) {
        if let Some(Entry { phase: Phase::Live(call), .. }) = self.calls.get_mut(sid).map(|entry| &mut **entry) {
            call.handle_event(Event::SecondLeg { leg, event }, now);
        }
    }

    /// Gives its channel back; `None`: whichever there is.
    pub(super) fn leave_leg(&mut self, sid: &Sid, leg: Option<usize>, now: Instant) -> Option<Second> {
        let entry = self.calls.get_mut(sid)?;
        let second = entry.second.take_if(|second| leg.is_none_or(|leg| second.leg == leg))?;
        self.trunks.leave(&entry.trunk_id);
        if let Some(turn) = second.poll_timeout() {
            self.trunks.give_back(&entry.trunk_id, turn, now);
        }
        Some(second)
    }

    pub(super) fn dial_leg(&mut self, sid: &Sid, leg: usize, to: String, now: Instant) {
        self.leave_leg(sid, None, now);
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let record = entry.record();
        let ring_timeout = Duration::from_secs(u64::from(record.ring_timeout_s));
        // Whoever called in is nobody of ours, unless caller_ids say so; the number that she called is.
        let Some(from) = self.trunks.shown(&entry.trunk_id, [&record.from, &record.to]).map(str::to_owned) else {
            tracing::info!(%sid, "a second leg is not dialled: the trunk's caller_ids have no number for it");
            return self.tell_leg(sid, leg, LegEvent::Rejected { code: FORBIDDEN, q850: Some(21) }, now);
        };
        let carried = Carried::default();
        let turn = match self.trunks.enter(&entry.trunk_id, ring_timeout, now) {
            Ok(turn) => turn,
            Err(refused) => {
                tracing::info!(%sid, reason = refused.message, "a second leg is not dialled");
                return self.tell_leg(sid, leg, LegEvent::Rejected { code: UNAVAILABLE, q850: Some(34) }, now);
            }
        };
        let dial = Dial { sid: name(sid, leg), to, from, ring_timeout, carried, hears_early: false };
        entry.second = Some(Second { leg, turn: Some((turn, Box::new(dial))), audio: None });
        self.take_legs_turn(sid, now);
    }

    /// Dials it once its turn has come.
    pub(super) fn take_legs_turn(&mut self, sid: &Sid, now: Instant) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let speaks = entry.speaks;
        let Some(second) = entry.second.as_mut() else { return };
        if let Some((_, dial)) = second.turn.take_if(|(turn, _)| *turn <= now)
            && let Some(trunk) = self.trunks.get(&entry.trunk_id)
        {
            trunk.dial_like(*dial, speaks, now);
        }
    }

    pub(super) fn end_leg(&mut self, sid: &Sid, leg: usize, is_answered: bool, now: Instant) {
        if self.leave_leg(sid, Some(leg), now).is_some_and(|second| second.turn.is_some()) {
            // It was never dialled.
            return;
        }
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let Some(trunk) = self.trunks.get(&entry.trunk_id) else { return };
        if is_answered { trunk.bye(&name(sid, leg), now) } else { trunk.cancel(&name(sid, leg), now) }
    }

    pub(super) fn bridge(&mut self, sid: &Sid, leg: usize) {
        if let Some(audio) = self.second(sid, leg).and_then(|second| second.audio.take()) {
            let agent: Option<Box<dyn Agent>> = Some(Box::new(Bridged::new(audio)));
            self.media.send(media::Command::Agent { sid: Arc::clone(sid), agent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legs_name_has_the_call_and_the_number() {
        assert_eq!(parted(&name("CA1x2y", 3)), Some(("CA1x2y", 3)));
        for other in ["CA1x2y", "CA1x2y-", "CA1x2y-x", "-"] {
            assert_eq!(parted(other), None);
        }
    }
}
