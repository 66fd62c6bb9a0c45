//! From a request to a dialled call: checked, counted, durable, its tracks open, dialled, answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Saving, Sid};
use super::entry::{Early, Entry, Phase};
use super::mint::{sid, unix_ms};
use super::{Answer, Originate, Refused, Why};
use crate::call::{Action, Call, CallRecord, CallRow, Command};
use crate::engine::media::{self, Caller};
use crate::engine::store::{Remembered, StoreError};
use crate::engine::trunk::FarEnd;
use crate::engine::webhooks::Callback;

/// Opening tracks asks nobody outside: an audio thread that needs longer is in trouble, and the call goes on without waiting.
const OPEN_LIMIT: Duration = Duration::from_secs(3);

impl Board {
    pub(super) fn originate(&mut self, asked: Originate, answer: Answer<CallRow>, now: Instant) {
        match self.admit(&asked, now) {
            Ok((caller, turn)) => self.save(asked, (caller, turn), answer),
            Err(refused) => {
                self.metrics.refused();
                drop(answer.send(Err(refused)));
            }
        }
    }

    /// Who speaks for its far end, and when it may be dialled.
    fn admit(&mut self, asked: &Originate, now: Instant) -> Result<(Caller, Instant), Refused> {
        if self.is_closing {
            return Err(Refused::shutting_down());
        }
        if asked.remembered.as_ref().is_some_and(|remembered| self.taken_back.holds(remembered)) {
            let message = "this Idempotency-Key was hung up before its request came: use a new key";
            return Err(Refused::new(Why::Conflict, message));
        }
        if let Some(agent) = &asked.agent {
            self.know_agent(agent)?;
        }
        let far_end = self.trunks.of_org(&asked.trunk_id, &asked.org)?.far_end(&asked.to);
        self.trunks.check_caller_id(&asked.trunk_id, &asked.from)?;
        let turn = self.trunks.enter(&asked.trunk_id, Duration::from_secs(u64::from(asked.ring_timeout_s)), now)?;
        let caller = match far_end {
            FarEnd::Phone => Caller::Leg,
            FarEnd::Empty => Caller::Bridge,
        };
        Ok((caller, turn))
    }

    fn save(&mut self, asked: Originate, (caller, turn): (Caller, Instant), answer: Answer<CallRow>) {
        let started_ms = unix_ms();
        let record = record(&asked, sid(&self.node, started_ms), started_ms);
        let sid: Sid = Arc::from(record.sid.as_str());
        let pending = self.store.create(record.clone(), asked.remembered.clone());
        if let Some(Remembered { org, key, .. }) = &asked.remembered {
            self.keys.insert((org.clone(), key.clone()), Arc::clone(&sid));
        }
        self.savings.push_back(Saving { sid: Arc::clone(&sid), pending });
        let max_duration = asked.max_duration_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let callback = asked.status_callback.map(|url| Callback { url, org: asked.org.clone() });
        let entry = Entry {
            caller,
            carried: asked.carried,
            asker: Some(answer),
            remembered: asked.remembered,
            send_digits: asked.send_digits,
            callback,
            ..Entry::new(Early { record, max_duration, ended: None }, turn)
        };
        self.calls.insert(sid, Box::new(entry));
        self.metrics.active(self.trunks.active());
    }

    /// The record is durable, or could not be made so.
    pub(super) fn handle_saved(&mut self, sid: &Sid, outcome: Result<(), StoreError>, now: Instant) {
        if let Err(error) = outcome {
            return self.drop_unsaved(sid, &error, now);
        }
        let Some(mut entry) = self.calls.remove(sid) else { return };
        let Phase::Saving(mut early) = entry.phase else {
            self.calls.insert(Arc::clone(sid), entry);
            return;
        };
        let is_asked = entry.coming.is_none();
        let is_given_up =
            is_asked && entry.remembered.is_none() && entry.asker.as_ref().is_none_or(|asker| asker.is_closed());
        if early.ended.is_none() && is_given_up {
            // Whoever asked has given up, and nobody can ask for this call again.
            early.ended = Some(Command::Hangup);
        }
        let is_ended = early.ended.is_some();
        let caller = entry.caller;
        entry.phase = Phase::Opening(early, now + OPEN_LIMIT);
        self.calls.insert(Arc::clone(sid), entry);
        self.open_media.insert(Arc::clone(sid));
        self.media.send(media::Command::Open { sid: Arc::clone(sid), caller });
        if is_ended {
            self.opened(sid, now);
        }
        self.arm(sid);
    }

    fn drop_unsaved(&mut self, sid: &Sid, error: &StoreError, now: Instant) {
        let Some(entry) = self.take_out(sid) else { return };
        if entry.coming.is_some() {
            self.refuse_unsaved(sid, &entry.trunk_id, now);
        }
        self.trunks.leave(&entry.trunk_id);
        self.metrics.active(self.trunks.active());
        self.metrics.refused();
        let refused = Refused::new(Why::Unavailable, error.to_string());
        entry.asker.into_iter().for_each(|asker| drop(asker.send(Err(refused.clone()))));
    }

    /// Both tracks are open, or will be: dial.
    pub(super) fn opened(&mut self, sid: &Sid, now: Instant) {
        let Some(mut entry) = self.calls.remove(sid) else { return };
        if entry.coming.is_some() {
            return self.rings(sid, entry, now);
        }
        let Phase::Opening(mut early, _) = entry.phase else {
            self.calls.insert(Arc::clone(sid), entry);
            return;
        };
        // The call's clock begins with its dialling.
        early.record.started_ms = unix_ms();
        let mut call = Call::dial_at(early.record, early.max_duration, entry.turn, now);
        call.transfers_by(self.trunks.transfer_mode(&entry.trunk_id));
        if let Some(command) = early.ended {
            // Nothing was dialled, so nothing is to be cancelled.
            drop(call.handle_command(command, now));
            let rest: Vec<Action> = std::iter::from_fn(|| call.poll_action()).collect();
            entry.phase = Phase::Live(Box::new(call));
            self.calls.insert(Arc::clone(sid), entry);
            let carried_out = |action: &Action| !matches!(action, Action::Dial | Action::Cancel);
            rest.into_iter().filter(carried_out).for_each(|action| self.act(sid, action, now));
        } else {
            entry.phase = Phase::Live(Box::new(call));
            self.calls.insert(Arc::clone(sid), entry);
        }
        self.settle(sid, now);
        self.answer_asker(sid);
    }

    fn answer_asker(&mut self, sid: &Sid) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let row = entry.record().row();
        let outcome = if self.is_closing && row.status.is_terminal() { Err(Refused::shutting_down()) } else { Ok(row) };
        if let Some(asker) = entry.asker.take() {
            drop(asker.send(outcome));
        }
        self.metrics.originated();
    }
}

fn record(asked: &Originate, sid: String, started_ms: u64) -> CallRecord {
    CallRecord {
        org_id: asked.org.clone(),
        to: asked.to.clone(),
        from: asked.from.clone(),
        trunk_id: asked.trunk_id.clone(),
        agent: asked.agent.clone(),
        ring_timeout_s: asked.ring_timeout_s,
        metadata: asked.metadata.clone(),
        ..CallRecord::dialing(sid, started_ms)
    }
}
