//! From an INVITE to a call that rings: whose it is, whether there is room, durable, its tracks open, and then what its number's
//! rule says.
//!
//! The caller is told 100 as soon as there is room, and 180 once the record is durable and both tracks are open: whoever hears of a call
//! that rings can attach to it, and answer it. What she does before that (she gives up) waits for that moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Refused;
use super::board::{Board, Saving, Sid, conflict, not_dialled};
use super::entry::{Early, Entry, Phase};
use super::mint::{sid, unix_ms};
use crate::call::{Call, CallRecord, Command, DEFAULT_RING_TIMEOUT_S, EndReason, Event, Reject};
use crate::engine::config::{InboundRule, Then};
use crate::engine::trunk::Arrival;
use crate::engine::webhooks::Callback;

/// No rule has this number; the trunk's channels are taken; the engine's are, or the RTP ports, or it ends (RFC 3261 §21).
const NOT_FOUND: u16 = 404;
const BUSY: u16 = 486;
const UNAVAILABLE: u16 = 503;
/// When a caller may try again where the engine is full, or ends.
const LATER: Duration = Duration::from_secs(10);
/// Words of the wire that wait until the call rings: it causes one or two.
const MOST_EARLY: usize = 8;

/// What is special about a call that came in.
pub(super) struct Coming {
    then: Then,
    /// What the wire said before the call rang.
    heard: Vec<Event>,
}

/// Why an arrival is turned away.
struct Turned {
    code: u16,
    retry_after: Option<Duration>,
}

impl Board {
    pub(super) fn arrived(&mut self, arrival: &Arrival, now: Instant) {
        match self.admit_arrival(arrival, now) {
            Ok(rule) => self.take_in(arrival, rule, now),
            Err(Turned { code, retry_after }) => {
                self.metrics.turned_away();
                tracing::info!(trunk = arrival.trunk_id, code, "a call that came in is turned away");
                let trunk = self.trunks.get(&arrival.trunk_id);
                trunk.into_iter().for_each(|trunk| trunk.turn_away(arrival.key, code, retry_after, now));
            }
        }
    }

    fn admit_arrival(&mut self, arrival: &Arrival, now: Instant) -> Result<InboundRule, Turned> {
        let later = Turned { code: UNAVAILABLE, retry_after: Some(LATER) };
        if self.is_closing {
            return Err(later);
        }
        let rule = self.trunks.inbound(&arrival.trunk_id).and_then(|inbound| inbound.rule(&arrival.to)).cloned();
        let rule = rule.ok_or(Turned { code: NOT_FOUND, retry_after: None })?;
        match self.trunks.enter_arrival(&arrival.trunk_id, now) {
            Ok(()) => Ok(rule),
            Err(super::trunks::Full::Engine) => Err(later),
            Err(super::trunks::Full::Trunk) => Err(Turned { code: BUSY, retry_after: Some(LATER) }),
            Err(super::trunks::Full::Ports(wait)) => Err(Turned { code: UNAVAILABLE, retry_after: Some(wait) }),
        }
    }

    fn take_in(&mut self, arrival: &Arrival, rule: InboundRule, now: Instant) {
        let started_ms = unix_ms();
        let record = record(arrival, &rule, sid(&self.node, started_ms), started_ms);
        let sid: Sid = Arc::from(record.sid.as_str());
        let pending = self.store.create(record.clone(), None);
        self.savings.push_back(Saving { sid: Arc::clone(&sid), pending });
        let webhook = self.trunks.inbound(&arrival.trunk_id).and_then(|inbound| inbound.webhook_url.clone());
        let callback = webhook.map(|url| Callback { url, org: rule.org.clone() });
        let entry = Entry {
            coming: Some(Coming { then: rule.then, heard: Vec::new() }),
            callback,
            ..Entry::new(Early { record, max_duration: rule.max_duration, ended: None }, now)
        };
        self.calls.insert(Arc::clone(&sid), Box::new(entry));
        self.metrics.came();
        self.metrics.active(self.trunks.active());
        if let Some(trunk) = self.trunks.get(&arrival.trunk_id) {
            trunk.take_in(arrival.key, &sid, now);
        }
    }

    /// What the wire says before the call rings is kept for then.
    pub(super) fn hear_early(&mut self, sid: &Sid, event: Event) {
        let coming = self.calls.get_mut(sid).and_then(|entry| entry.coming.as_mut());
        if let Some(coming) = coming.filter(|coming| coming.heard.len() < MOST_EARLY) {
            coming.heard.push(event);
        }
    }

    /// Its record could not be made durable.
    pub(super) fn refuse_unsaved(&mut self, sid: &Sid, trunk_id: &str, now: Instant) {
        if let Some(trunk) = self.trunks.get(trunk_id) {
            trunk.reject(sid, UNAVAILABLE, now);
        }
    }

    /// Both tracks are open: the call rings, and its rule follows.
    pub(super) fn rings(&mut self, sid: &Sid, mut entry: Box<Entry>, now: Instant) {
        let Phase::Opening(early, _) = entry.phase else {
            self.calls.insert(Arc::clone(sid), entry);
            return;
        };
        let Early { mut record, max_duration, ended } = early;
        record.started_ms = unix_ms();
        record.ringing_ms = Some(record.started_ms);
        let mut call = Call::ring(record, max_duration, now);
        call.transfers_by(self.trunks.transfer_mode(&entry.trunk_id));
        let coming = entry.coming.take();
        let (then, heard) =
            coming.map_or((Then::Reject(Reject::Declined), Vec::new()), |coming| (coming.then, coming.heard));
        heard.into_iter().for_each(|event| call.handle_event(event, now));
        if let Some(command) = ended {
            // A call that has ended meanwhile needs none.
            drop(call.handle_command(command, now));
        }
        if !call.is_over() {
            let announcement = self.trunks.announcement(&entry.trunk_id);
            follow(&mut call, &then, announcement.map(|announcement| announcement.length), now);
            entry.announces = matches!(then, Then::Play { .. });
        }
        entry.phase = Phase::Live(Box::new(call));
        self.calls.insert(Arc::clone(sid), entry);
        self.settle(sid, now);
    }

    /// Somebody takes the call that rings, for this agent if there is one. Who may not answer changes nothing: an agent of a call that is
    /// up is another matter, with a scope of its own.
    pub(super) fn pick_up(&mut self, org: &str, sid: &str, agent: Option<&str>, now: Instant) -> Result<(), Refused> {
        self.entry(org, sid)?;
        agent.map_or(Ok(()), |agent| self.know_agent(agent))?;
        self.decide(org, sid, Command::Answer, now)?;
        agent.map_or(Ok(()), |agent| self.attach_agent(org, sid, agent, now))
    }

    /// Somebody takes the call that rings, or does not want it.
    pub(super) fn decide(&mut self, org: &str, sid: &str, command: Command, now: Instant) -> Result<(), Refused> {
        let (sid, entry) = self.entry(org, sid)?;
        let Phase::Live(call) = &mut entry.phase else { return Err(not_dialled()) };
        call.handle_command(command, now).map_err(|refusal| conflict(refusal, call.record()))?;
        self.settle(&sid, now);
        Ok(())
    }
}

/// What the rule says is what a user of the API would say.
fn follow(call: &mut Call, then: &Then, announcement: Option<Duration>, now: Instant) {
    let command = match then {
        Then::Answer { .. } => Command::Answer,
        Then::Reject(reject) => Command::Reject(*reject),
        Then::Notify { .. } => return,
        Then::Play { .. } => {
            if let Some(length) = announcement {
                call.lasts(length, EndReason::Normal);
            }
            Command::Answer
        }
    };
    if let Err(refusal) = call.handle_command(command, now) {
        tracing::debug!(%refusal, "the rule of a call that came in has nothing to do");
    }
}

fn record(arrival: &Arrival, rule: &InboundRule, sid: String, started_ms: u64) -> CallRecord {
    let (agent, ring_timeout_s) = match &rule.then {
        Then::Answer { agent } => (Some(agent.clone()), DEFAULT_RING_TIMEOUT_S),
        Then::Notify { ring_timeout_s } => (None, *ring_timeout_s),
        Then::Reject(_) | Then::Play { .. } => (None, DEFAULT_RING_TIMEOUT_S),
    };
    CallRecord {
        org_id: rule.org.clone(),
        to: arrival.to.clone(),
        from: arrival.from.clone(),
        trunk_id: arrival.trunk_id.clone(),
        agent,
        ring_timeout_s,
        sip_call_id: Some(arrival.sip_call_id.clone()),
        ..CallRecord::ringing(sid, started_ms)
    }
}
