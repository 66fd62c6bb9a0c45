//! The calls, and what happens to them. Nothing here waits: answers and events come back through [`Board`]'s methods.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ends::TakenBack;
use super::entry::{Entry, Phase};
use super::feed::Feed;
use super::legs;
use super::mint::run;
use super::trunks::Trunks;
use super::{Answer, MakeAgent, Media, Minter, Parts, Refused, Relays, Request, Why};
use crate::call::{Action, CallRecord, CallRow, Command, Event, Refusal, Settled};
use crate::engine::leg::Line;
use crate::engine::media;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Pending, Store};
use crate::engine::trunk::{Dial, TrunkEvent, TrunkKind};
use crate::engine::webhooks::Hooks;

pub(super) type Sid = Arc<str>;

/// A record on its way to the disk, for the task to wait on.
pub(super) struct Saving {
    pub(super) sid: Sid,
    pub(super) pending: Pending<()>,
}

pub(super) struct Board {
    pub(super) node: String,
    /// Boxed: the table grows in steps, and no step shall cost much.
    pub(super) calls: HashMap<Sid, Box<Entry>>,
    /// By organisation and key: the newest of these calls that was asked for so.
    pub(super) keys: BTreeMap<(String, String), Sid>,
    pub(super) trunks: Trunks,
    pub(super) agents: BTreeMap<String, MakeAgent>,
    pub(super) media: Box<dyn Media>,
    pub(super) store: Arc<dyn Store>,
    pub(super) minter: Arc<Minter>,
    pub(super) relay: Relays,
    pub(super) metrics: Arc<Metrics>,
    pub(super) feed: Feed,
    pub(super) hooks: Hooks,
    pub(super) savings: VecDeque<Saving>,
    pub(super) is_closing: bool,
    /// Calls whose media was opened and is not yet closed.
    pub(super) open_media: HashSet<Sid>,
    pub(super) timers: BTreeSet<(Instant, Sid)>,
    pub(super) ended: VecDeque<Sid>,
    /// What was taken back before it came.
    pub(super) taken_back: TakenBack,
}

impl Board {
    pub(super) fn new(parts: Parts) -> (Self, super::task::Channels) {
        let board = Self {
            node: parts.node,
            calls: HashMap::new(),
            keys: BTreeMap::new(),
            trunks: Trunks::new(parts.lines, parts.max_calls),
            agents: parts.agents,
            media: parts.media,
            store: parts.store,
            minter: parts.minter,
            relay: parts.relay,
            feed: Feed::new(&run(), Arc::clone(&parts.metrics)),
            metrics: parts.metrics,
            hooks: parts.hooks,
            savings: VecDeque::new(),
            is_closing: false,
            open_media: HashSet::new(),
            timers: BTreeSet::new(),
            ended: VecDeque::new(),
            taken_back: TakenBack::default(),
        };
        (board, super::task::Channels { trunks: parts.trunk_events, media: parts.media_events })
    }

    /// An asker who has gone needs no answer.
    pub(super) fn handle_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Originate(asked, answer) => self.originate(*asked, answer, now),
            Request::Get { org, sid, answer } => {
                drop(answer.send(self.entry(&org, &sid).map(|(_, entry)| entry.record().row())));
            }
            Request::Fresh { sids, answer } => {
                let here = sids
                    .into_iter()
                    .filter_map(|sid| self.calls.get(&*sid).map(|entry| entry.shown()).map(|row| (sid, row)));
                drop(answer.send(Ok(here.collect())));
            }
            Request::Transfer { org, sid, to, answer } => self.transfer(&org, &sid, to, answer, now),
            Request::Agent { org, sid, agent, answer } => {
                drop(answer.send(self.attach_agent(&org, &sid, &agent, now)));
            }
            Request::Press { org, sid, keys, answer } => self.press(&org, &sid, keys, answer, now),
            Request::Hangup { org, sid, answer } => drop(answer.send(self.hangup(&org, &sid, now))),
            Request::Answer { org, sid, agent, answer } => {
                drop(answer.send(self.pick_up(&org, &sid, agent.as_deref(), now)));
            }
            Request::Decide { org, sid, command, answer } => {
                drop(answer.send(self.decide(&org, &sid, command, now)));
            }
            Request::Recall { org, key, answer } => drop(answer.send(Ok(self.recall(org, key)))),
            Request::TakeBack { org, key, answer } => drop(answer.send(Ok(self.take_back(org, key, now)))),
            Request::Attach(asked, answer) => drop(answer.send(self.attach(&asked, now))),
            Request::Release(asked, answer) => drop(answer.send(self.release(&asked))),
            Request::Watch { org, sid, seen, answer } => {
                drop(answer.send(self.watch(&org, sid.as_deref(), seen.as_ref())))
            }
            Request::Trunks { answer } => drop(answer.send(Ok(self.trunks.states(now)))),
            Request::Probe { org, trunk_id, answer } => match self.trunks.of_org(&trunk_id, &org) {
                Ok(trunk) => trunk.probe(Box::new(move |probe| drop(answer.send(Ok(probe))))),
                Err(refused) => drop(answer.send(Err(refused))),
            },
            Request::Shutdown { answer } => {
                self.shutdown(now);
                drop(answer.send(Ok(())));
            }
        }
    }

    pub(super) fn entry(&mut self, org: &str, sid: &str) -> Result<(Sid, &mut Entry), Refused> {
        let found = self.calls.get_key_value(sid).filter(|(_, entry)| entry.org == org).map(|(sid, _)| Arc::clone(sid));
        let sid = found.ok_or_else(|| Refused::unknown_sid(sid))?;
        let entry = self.calls.get_mut(&sid).expect("it was found above");
        Ok((sid, entry))
    }

    pub(super) fn handle_trunk(&mut self, event: TrunkEvent, now: Instant) {
        if let TrunkKind::Arrived(arrival) = &event.kind {
            return self.arrived(arrival, now);
        }
        if legs::parted(&event.sid).is_some() {
            return self.handle_leg(&event.sid, event.kind, now);
        }
        let Some(sid) = self.calls.get_key_value(&*event.sid).map(|(sid, _)| Arc::clone(sid)) else { return };
        let Some(entry) = self.calls.get_mut(&sid) else { return };
        if let TrunkKind::Key { key, duration_ms } = event.kind {
            return self.media.send(media::Command::Key { sid, key, duration_ms, second: false });
        }
        let (event, leg) = event.kind.parted();
        entry.speaks = leg.as_ref().map(|leg| leg.params()).or(entry.speaks);
        let event = match (event, leg) {
            (Some(event), None) => event,
            (Some(event), leg) => {
                entry.leg = leg;
                event
            }
            // It is heard before the answer. Of a call that has ended meanwhile it is dropped there.
            (None, Some(leg)) => return self.media.send(media::Command::Early { sid, leg }),
            (None, None) => return,
        };
        let Phase::Live(call) = &mut entry.phase else { return self.hear_early(&sid, event) };
        call.handle_event(event, now);
        self.settle(&sid, now);
    }

    pub(super) fn handle_media(&mut self, event: media::Event, now: Instant) {
        match event {
            media::Event::Opened { sid } => self.opened(&sid, now),
            media::Event::Speaking { sid, side, rendition, live } => {
                if let Some(entry) = self.calls.get_mut(&sid) {
                    entry.leases.speaking(side, &rendition, live, now);
                }
            }
            media::Event::AgentEnded { sid, reason } => self.agent_ended(&sid, &reason),
            // It may be a part of somebody's secret: told on the call's control track alone.
            media::Event::Key { .. } => {}
            media::Event::Unpressed { sid, key, duration_ms, second } => {
                self.press_across(&sid, second, (key, duration_ms), now);
            }
            media::Event::Silent { sid } => {
                self.metrics.media_timeout();
                tracing::info!(%sid, "the phone of a call is not heard any more");
                if let Some(Entry { phase: Phase::Live(call), .. }) = self.calls.get_mut(&sid).map(|entry| &mut **entry)
                {
                    call.handle_event(Event::MediaTimeout, now);
                    self.settle(&sid, now);
                }
            }
            media::Event::Closed { sid, stats } => {
                self.open_media.remove(&sid);
                self.metrics.media(&stats);
                tracing::debug!(%sid, ?stats, "media closed");
                self.note_lines(&sid, [stats.line, stats.second], now);
            }
        }
    }

    fn note_lines(&mut self, sid: &Sid, lines: [Option<Line>; 2], now: Instant) {
        let entry = self.calls.get_mut(sid).map(|entry| &mut **entry);
        if let (Some(Entry { phase: Phase::Live(call), .. }), true) = (entry, lines.iter().any(Option::is_some)) {
            let [own, second] = lines.map(|line| line.map(|line| line.stats()));
            call.note_rtp(own, second);
            self.settle(sid, now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.timers.first().map(|(at, _)| *at);
        calls.into_iter().chain(self.trunks.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.trunks.handle_timeout(now);
        while let Some((at, sid)) = self.timers.first().cloned()
            && at <= now
        {
            self.timers.pop_first();
            let Some(entry) = self.calls.get_mut(&sid) else { continue };
            entry.timer = None;
            match &mut entry.phase {
                _ if entry.forget_at.is_some_and(|at| at <= now) => {
                    self.forget(&sid, now);
                    continue;
                }
                Phase::Saving(_) => {}
                Phase::Opening(..) => self.opened(&sid, now),
                Phase::Live(call) => {
                    call.handle_timeout(now);
                    self.take_legs_turn(&sid, now);
                }
            }
            self.settle(&sid, now);
        }
    }

    pub(super) fn hangup(&mut self, org: &str, sid: &str, now: Instant) -> Result<(), Refused> {
        let (sid, entry) = self.entry(org, sid)?;
        match &mut entry.phase {
            Phase::Saving(early) | Phase::Opening(early, _) => early.ended = Some(Command::Hangup),
            Phase::Live(call) => drop(call.handle_command(Command::Hangup, now)),
        }
        self.settle(&sid, now);
        Ok(())
    }

    fn transfer(&mut self, org: &str, sid: &str, to: String, answer: Answer<Settled>, now: Instant) {
        let begun = self.entry(org, sid).and_then(|(sid, entry)| {
            let Phase::Live(call) = &mut entry.phase else { return Err(not_dialled()) };
            let refused = call.handle_command(Command::Transfer { to }, now);
            match refused {
                Ok(()) => Ok(sid),
                Err(refusal) => Err(conflict(refusal, call.record())),
            }
        });
        match begun {
            Ok(sid) => {
                if let Some(entry) = self.calls.get_mut(&sid) {
                    entry.transfers.push(answer);
                }
                self.settle(&sid, now);
            }
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }

    /// Every call ends; their media says so to all.
    fn shutdown(&mut self, now: Instant) {
        self.is_closing = true;
        self.trunks.close();
        let sids: Vec<Sid> = self.calls.keys().cloned().collect();
        for sid in sids {
            let Some(entry) = self.calls.get_mut(&sid) else { continue };
            match &mut entry.phase {
                Phase::Saving(early) | Phase::Opening(early, _) => early.ended = Some(Command::Shutdown),
                Phase::Live(call) => drop(call.handle_command(Command::Shutdown, now)),
            }
            if matches!(entry.phase, Phase::Opening(..)) {
                self.opened(&sid, now);
            }
            self.settle(&sid, now);
        }
    }

    /// Carries out what the call wants, and sets its timer.
    pub(super) fn settle(&mut self, sid: &Sid, now: Instant) {
        while let Some(entry) = self.calls.get_mut(sid)
            && let Phase::Live(call) = &mut entry.phase
            && let Some(action) = call.poll_action()
        {
            self.act(sid, action, now);
        }
        self.note_end(sid, now);
        self.tell(sid);
        self.arm(sid);
    }

    pub(super) fn act(&mut self, sid: &Sid, action: Action, now: Instant) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let trunk = self.trunks.get(&entry.trunk_id);
        match action {
            Action::Dial => {
                let record = entry.record();
                let ring_timeout = Duration::from_secs(u64::from(record.ring_timeout_s));
                let (to, from) = (record.to.clone(), record.from.clone());
                let carried = std::mem::take(&mut entry.carried);
                let dial = Dial { sid: sid.to_string(), to, from, ring_timeout, carried, hears_early: true };
                trunk.into_iter().for_each(|trunk| trunk.dial(dial.clone(), now));
            }
            Action::Cancel => trunk.into_iter().for_each(|trunk| trunk.cancel(sid, now)),
            Action::Bye => trunk.into_iter().for_each(|trunk| trunk.bye(sid, now)),
            Action::Ring => trunk.into_iter().for_each(|trunk| trunk.ring(sid, now)),
            Action::Answer => trunk.into_iter().for_each(|trunk| trunk.answer(sid, now)),
            Action::Reject { code } => trunk.into_iter().for_each(|trunk| trunk.reject(sid, code, now)),
            Action::Transfer { to } => trunk.into_iter().for_each(|trunk| trunk.transfer(sid, &to, now)),
            Action::DialLeg { leg, to } => self.dial_leg(sid, leg, to, now),
            Action::CancelLeg { leg } => self.end_leg(sid, leg, false, now),
            Action::ByeLeg { leg } => self.end_leg(sid, leg, true, now),
            Action::Bridge { leg } => self.bridge(sid, leg),
            Action::PauseAgent => self.media.send(media::Command::Agent { sid: Arc::clone(sid), agent: None }),
            Action::ResumeAgent => self.bind_agent(sid),
            Action::StartMedia => {
                let leg = entry.leg.take();
                self.media.send(media::Command::Start { sid: Arc::clone(sid), leg });
                self.bind_agent(sid);
                self.press_first(sid, now);
            }
            Action::EndMedia => {
                entry.leases.clear();
                entry.leg = None;
                self.media.send(media::Command::Close { sid: Arc::clone(sid) });
            }
            Action::Save => self.store.update(entry.record().clone()),
            Action::Settled(outcome) => {
                for waiting in std::mem::take(&mut entry.transfers) {
                    drop(waiting.send(Ok(outcome)));
                }
            }
        }
    }

    pub(super) fn arm(&mut self, sid: &Sid) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let at = entry.poll_timeout();
        if at == entry.timer {
            return;
        }
        if let Some(old) = std::mem::replace(&mut entry.timer, at) {
            self.timers.remove(&(old, Arc::clone(sid)));
        }
        if let Some(at) = at {
            self.timers.insert((at, Arc::clone(sid)));
        }
    }
}

pub(super) fn not_dialled() -> Refused {
    Refused::new(Why::Conflict, "the call is not dialled yet: try again in a moment")
}

pub(super) fn conflict(refusal: Refusal, record: &CallRecord) -> Refused {
    match refusal {
        Refusal::Over => over(record.row()),
        refusal => Refused::new(Why::Conflict, refusal.to_string()),
    }
}

/// What is asked of a call that has ended.
pub(super) fn over(row: CallRow) -> Refused {
    let end_reason = row.end_reason.unwrap_or_else(|| "for no stated reason".to_owned());
    let message = format!("the call has ended ({}, {end_reason})", row.status.as_str());
    Refused { end_reason: Some(end_reason), sip_code: row.sip_code, ..Refused::new(Why::Conflict, message) }
}
