//! The trunks with their limits: calls at the same time, new calls per second.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Line, Refused, TrunkState, Why};
use crate::engine::trunk::Trunk;

/// The window of `max_cps`.
const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Trunks {
    lines: BTreeMap<String, Carried>,
    max_calls: usize,
    active: usize,
}

struct Carried {
    line: Line,
    active: usize,
    /// When the calls of the last second began.
    begun: VecDeque<Instant>,
}

impl Trunks {
    pub(super) fn new(lines: BTreeMap<String, Line>, max_calls: usize) -> Self {
        let carried = |(id, line)| (id, Carried { line, active: 0, begun: VecDeque::new() });
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

    /// Counts a new call in, or says which limit it would pass.
    pub(super) fn enter(&mut self, id: &str, now: Instant) -> Result<(), Refused> {
        let Some(carried) = self.lines.get_mut(id) else { return Ok(()) };
        while carried.begun.front().is_some_and(|begun| now.saturating_duration_since(*begun) >= SECOND) {
            carried.begun.pop_front();
        }
        let (channels, cps) = (carried.line.channel_limit, carried.line.max_cps);
        let full = if self.active >= self.max_calls {
            Some(format!("the engine carries {} calls, its limit (limits.calls)", self.active))
        } else if carried.active >= channels {
            Some(format!("trunk {id} carries {channels} calls, its channel_limit"))
        } else if carried.begun.len() >= cps {
            Some(format!("trunk {id} began {cps} calls within a second, its max_cps"))
        } else {
            None
        };
        if let Some(full) = full {
            return Err(Refused::new(
                Why::TooMany,
                format!("{full}: try again when one has ended or a second is over"),
            ));
        }
        carried.begun.push_back(now);
        carried.active += 1;
        self.active += 1;
        Ok(())
    }

    /// A call that was counted in is over.
    pub(super) fn leave(&mut self, id: &str) {
        self.active = self.active.saturating_sub(1);
        if let Some(carried) = self.lines.get_mut(id) {
            carried.active = carried.active.saturating_sub(1);
        }
    }

    /// Calls that their far sides are not done with.
    pub(super) fn lines(&mut self) -> usize {
        self.lines.values_mut().map(|carried| carried.line.trunk.lines()).sum()
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    pub(super) fn states(&self) -> Vec<TrunkState> {
        let state = |(id, carried): (&String, &Carried)| TrunkState { id: id.clone(), active: carried.active };
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
