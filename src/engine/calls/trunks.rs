//! The trunks with their limits: calls at the same time, new calls per second, who may be shown, and whether a trunk is well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Announcement, Line, Refused, TrunkState, Why};
use crate::call::TransferMode;
use crate::engine::config::{CallerId, Inbound};
use crate::engine::trunk::Trunk;
use crate::sip::Rate;

pub(super) struct Trunks {
    lines: BTreeMap<String, Carried>,
    max_calls: usize,
    active: usize,
}

/// Where there is no room for one more call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Engine,
    Trunk,
    /// No RTP ports are left; one may be after this.
    Ports(Duration),
}

struct Carried {
    line: Line,
    active: usize,
    rate: Rate,
}

impl Trunks {
    pub(super) fn new(lines: BTreeMap<String, Line>, max_calls: usize) -> Self {
        let carried = |(id, line): (String, Line)| {
            let rate = Rate::new(line.max_cps);
            (id, Carried { line, active: 0, rate })
        };
        Self { lines: lines.into_iter().map(carried).collect(), max_calls, active: 0 }
    }

    /// The trunk, for whoever may use it.
    pub(super) fn of_org(&mut self, id: &str, org: &str) -> Result<&mut (dyn Trunk + 'static), Refused> {
        let open = |line: &Line| line.org.as_ref().is_none_or(|owner| owner == org);
        if !self.lines.get(id).is_some_and(|carried| open(&carried.line)) {
            let known: Vec<_> =
                self.lines.iter().filter(|(_, carried)| open(&carried.line)).map(|(id, _)| &**id).collect();
            let message = format!("trunkId {id:?} is no trunk of this organisation: it has {}", known.join(", "));
            return Err(Refused::new(Why::NotFound, message));
        }
        Ok(self.get(id).expect("it was found above"))
    }

    pub(super) fn get(&mut self, id: &str) -> Option<&mut (dyn Trunk + 'static)> {
        self.lines.get_mut(id).map(|carried| &mut *carried.line.trunk)
    }

    fn caller_ids(&self, id: &str) -> &[CallerId] {
        self.lines.get(id).map(|carried| &carried.line.caller_ids[..]).unwrap_or_default()
    }

    fn may_show(&self, id: &str, number: &str) -> bool {
        let allowed = self.caller_ids(id);
        allowed.is_empty() || allowed.iter().any(|caller_id| caller_id.fits(number))
    }

    /// What the second leg of a call shows: the first of its numbers that calls of its trunk may show, else the first number among
    /// those; beginnings of numbers are none.
    pub(super) fn shown<'a>(&'a self, id: &str, numbers: [&'a str; 2]) -> Option<&'a str> {
        let own = || self.caller_ids(id).iter().map(CallerId::as_str).find(|number| !number.ends_with('*'));
        numbers.into_iter().find(|number| self.may_show(id, number)).or_else(own)
    }

    /// Whether calls of this trunk may show this number.
    pub(super) fn check_caller_id(&self, id: &str, from: &str) -> Result<(), Refused> {
        if self.may_show(id, from) {
            return Ok(());
        }
        let allowed = self.caller_ids(id);
        let shown: Vec<&str> = allowed.iter().map(|caller_id| caller_id.as_str()).collect();
        let message =
            format!("from {from:?} may not be shown over trunk {id}: its caller_ids are {}", shown.join(", "));
        Err(Refused::new(Why::BadRequest, message))
    }

    /// Counts a new call, or a second leg, in and says when its turn is, or which limit it would pass. `longest_wait`: how long it may ring.
    pub(super) fn enter(&mut self, id: &str, longest_wait: Duration, now: Instant) -> Result<Instant, Refused> {
        self.check_room(id, now)?;
        let Some(carried) = self.lines.get_mut(id) else { return Ok(now) };
        let turn = carried.rate.turn(longest_wait, now).map_err(|full| {
            let (cps, wait) = (carried.line.max_cps, longest_wait.as_secs());
            let message =
                format!("trunk {id} begins {cps} calls a second, its max_cps, and more than {wait} s of calls wait");
            Refused { retry_after: Some(full.retry_after), ..Refused::new(Why::TooMany, message) }
        })?;
        // Last: a breaker that lets one call through counts it as tried.
        if let Err(wait) = carried.line.trunk.admit(now) {
            carried.rate.untake(turn);
            let message = format!("trunk {id} fails every call, and its breaker is open: try again later");
            return Err(Refused { retry_after: Some(wait), ..Refused::new(Why::Unavailable, message) });
        }
        carried.active += 1;
        self.active += 1;
        Ok(turn)
    }

    /// The same for a call that came in.
    pub(super) fn enter_arrival(&mut self, id: &str, now: Instant) -> Result<(), Full> {
        self.room(id, now)?;
        if let Some(carried) = self.lines.get_mut(id) {
            carried.active += 1;
            self.active += 1;
        }
        Ok(())
    }

    fn check_room(&self, id: &str, now: Instant) -> Result<(), Refused> {
        let full = match self.room(id, now) {
            Ok(()) => return Ok(()),
            Err(Full::Engine) => format!("the engine carries {} calls, its limit (limits.calls)", self.active),
            Err(Full::Trunk) => {
                let channels = self.lines.get(id).map_or(0, |carried| carried.line.channel_limit);
                format!("trunk {id} carries {channels} calls, its channel_limit")
            }
            Err(Full::Ports(wait)) => {
                let message = format!(
                    "trunk {id} has no RTP ports left: widen rtp_start_port to rtp_end_port, or try again later"
                );
                return Err(Refused { retry_after: Some(wait), ..Refused::new(Why::Unavailable, message) });
            }
        };
        Err(Refused::new(Why::TooMany, format!("{full}: try again when one has ended")))
    }

    fn room(&self, id: &str, now: Instant) -> Result<(), Full> {
        match self.lines.get(id) {
            Some(_) if self.active >= self.max_calls => Err(Full::Engine),
            Some(carried) if carried.active >= carried.line.channel_limit => Err(Full::Trunk),
            Some(carried) => carried.line.trunk.check_room(now).map_err(Full::Ports),
            None => Ok(()),
        }
    }

    /// What becomes of calls that come in over it.
    pub(super) fn inbound(&self, id: &str) -> Option<&Inbound> {
        self.lines.get(id).map(|carried| &carried.line.inbound)
    }

    pub(super) fn announcement(&self, id: &str) -> Option<&Announcement> {
        self.lines.get(id)?.line.announcement.as_ref()
    }

    /// The call ended before its turn.
    pub(super) fn give_back(&mut self, id: &str, turn: Instant, now: Instant) {
        if let Some(carried) = self.lines.get_mut(id) {
            carried.rate.give_back(turn, now);
        }
    }

    pub(super) fn transfer_mode(&self, id: &str) -> TransferMode {
        self.lines.get(id).map(|carried| carried.line.transfer_mode).unwrap_or_default()
    }

    /// A call that was counted in is over.
    pub(super) fn leave(&mut self, id: &str) {
        self.active = self.active.saturating_sub(1);
        if let Some(carried) = self.lines.get_mut(id) {
            carried.active = carried.active.saturating_sub(1);
        }
    }

    /// The engine ends.
    pub(super) fn close(&mut self) {
        self.lines.values_mut().for_each(|carried| carried.line.trunk.close());
    }

    /// Calls that their far sides are not done with.
    pub(super) fn lines(&mut self) -> usize {
        self.lines.values_mut().map(|carried| carried.line.trunk.lines()).sum()
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    pub(super) fn states(&self, now: Instant) -> Vec<TrunkState> {
        let state = |(id, carried): (&String, &Carried)| {
            let (health, waiting) = (carried.line.trunk.health(now), carried.rate.waiting(now));
            let problem = carried.line.trunk.problem();
            TrunkState { id: id.clone(), active: carried.active, waiting, health, problem }
        };
        self.lines.iter().map(state).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lines.values().filter_map(|carried| carried.line.trunk.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for carried in self.lines.values_mut() {
            if carried.line.trunk.poll_timeout().is_some_and(|at| at <= now) {
                carried.line.trunk.handle_timeout(now);
            }
        }
    }
}

#[cfg(test)]
impl Trunks {
    fn line(&mut self, id: &str) -> &mut Line {
        &mut self.lines.get_mut(id).expect("the test has this trunk").line
    }

    pub(super) fn set_transfer_mode(&mut self, id: &str, mode: TransferMode) {
        self.line(id).transfer_mode = mode;
    }

    pub(super) fn set_caller_ids(&mut self, id: &str, caller_ids: Vec<crate::engine::config::CallerId>) {
        self.line(id).caller_ids = caller_ids;
    }

    pub(super) fn set_inbound(&mut self, id: &str, inbound: Inbound) {
        self.line(id).inbound = inbound;
    }

    pub(super) fn set_announcement(&mut self, id: &str, announcement: Announcement) {
        self.line(id).announcement = Some(announcement);
    }

    pub(super) fn set_max_calls(&mut self, most: usize) {
        self.max_calls = most;
    }

    pub(super) fn set_trunk(&mut self, id: &str, trunk: Box<dyn Trunk>) {
        self.line(id).trunk = trunk;
    }
}
