//! Agents, leases and tokens: who speaks to the far end of a call.

use std::sync::Arc;
use std::time::Instant;

use super::board::{Board, Sid, conflict, over};
use super::entry::Phase;
use super::lease::Taken;
use super::mint::tracks;
use super::{Attach, Refused, Why};
use crate::audio::Params;
use crate::call::wire::{BridgeRole, TokenAnswer};
use crate::call::{Command, Status};
use crate::engine::media::{self, Caller};
use crate::token::Lease;
use crate::tracks::Side;

impl Board {
    pub(super) fn know_agent(&self, agent: &str) -> Result<(), Refused> {
        if self.agents.contains_key(agent) {
            return Ok(());
        }
        let known: Vec<_> = self.agents.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Refused::new(Why::NotFound, format!("agent {agent:?} is not known: this engine has {known}")))
    }

    /// Binds it now, or at the answer.
    pub(super) fn attach_agent(&mut self, org: &str, sid: &str, agent: &str, now: Instant) -> Result<(), Refused> {
        self.entry(org, sid)?;
        self.know_agent(agent)?;
        let (sid, entry) = self.entry(org, sid)?;
        if entry.announces {
            return Err(Refused::new(
                Why::Conflict,
                "the call hears an announcement and is hung up: it takes no agent",
            ));
        }
        match &mut entry.phase {
            Phase::Saving(early) | Phase::Opening(early, _) => early.record.agent = Some(agent.to_owned()),
            Phase::Live(call) => {
                let refused = call.handle_command(Command::Agent { id: agent.to_owned() }, now);
                refused.map_err(|refusal| conflict(refusal, call.record()))?;
            }
        }
        entry.agent = Some(agent.to_owned());
        let is_answered = entry.record().status == Status::InProgress;
        self.settle(&sid, now);
        if is_answered {
            self.bind_agent(&sid);
        }
        Ok(())
    }

    pub(super) fn bind_agent(&mut self, sid: &Sid) {
        let wanted = self.calls.get(sid).and_then(|entry| match entry.announces {
            true => self.trunks.announcement(&entry.trunk_id).map(|announcement| &announcement.make),
            false => self.agents.get(entry.agent.as_ref()?),
        });
        if let Some(make) = wanted {
            let agent = Some(make());
            self.media.send(media::Command::Agent { sid: Arc::clone(sid), agent });
        }
    }

    /// The place is free again; the call goes on.
    pub(super) fn agent_ended(&mut self, sid: &Sid, reason: &str) {
        if let Some(entry) = self.calls.get_mut(sid) {
            let agent = entry.agent.take();
            tracing::warn!(%sid, agent, reason, "the agent gave up");
        }
    }

    /// A token for a bridge, and with it the right to speak.
    pub(super) fn attach(&mut self, asked: &Attach, now: Instant) -> Result<TokenAnswer, Refused> {
        let rendition = asked.params.rendition();
        let tracks = tracks(&asked.sid, asked.role, &rendition);
        let (sid, entry) = self.entry(&asked.org, &asked.sid)?;
        if entry.is_over() {
            return Err(over(entry.record().row()));
        }
        if asked.role == BridgeRole::Caller && entry.caller == Caller::Leg {
            return Err(Refused::new(
                Why::Conflict,
                "the call has a phone, which speaks for itself: attach_caller is for calls whose far end is empty",
            ));
        }
        if entry.announces && tracks.speaks == Side::Downlink {
            let message = "the call hears an announcement and is hung up: nobody else speaks on it";
            return Err(Refused::new(Why::Conflict, message));
        }
        let is_holder = entry.leases.is_held_by(tracks.speaks, &rendition, &asked.holder, now);
        if let Some(agent) = entry.agent.as_ref().filter(|_| tracks.speaks == Side::Downlink && !is_holder) {
            let message = format!("agent {agent:?} speaks on this call: a bridge can be attached once it has left");
            return Err(Refused::new(Why::Conflict, message));
        }
        let epoch = entry.leases.take(tracks.speaks, &rendition, &asked.holder, now).map_err(taken)?;
        let lease = Lease { track: rendition, holder: asked.holder.clone(), epoch };
        let token = self.minter.bridge(&asked.org, &tracks, lease);
        self.make_rendition(&sid, asked.params);
        let (publish, subscribe, control) = (tracks.publish, tracks.subscribe, tracks.control);
        let relay = self.relay.of(&sid);
        Ok(TokenAnswer { relay, token, expires_in_s: self.minter.life_s(), publish, subscribe, control })
    }

    /// The call's own rendition is there from the beginning.
    fn make_rendition(&mut self, sid: &Sid, params: Params) {
        if params == Params::CALL {
            return;
        }
        for side in [Side::Uplink, Side::Downlink] {
            self.media.send(media::Command::Rendition { sid: Arc::clone(sid), side, params });
        }
    }

    pub(super) fn release(&mut self, asked: &Attach) -> Result<(), Refused> {
        let rendition = asked.params.rendition();
        let speaks = tracks(&asked.sid, asked.role, &rendition).speaks;
        let (_, entry) = self.entry(&asked.org, &asked.sid)?;
        entry.leases.release(speaks, &rendition, &asked.holder);
        Ok(())
    }
}

fn taken(taken: Taken) -> Refused {
    let message = match taken {
        Taken::Other => {
            "another bridge speaks with this codec on this call: close it first, or attach with another codec"
        }
        Taken::TooMany => "too many renditions of this call are spoken on: close a bridge first",
    };
    Refused::new(Why::Conflict, message)
}
