//! FETCH (§10.12): what a track was, answered from the [`Cache`](super::cache).
//!
//! No publisher is asked on its behalf, as if FILL_TIMEOUT were 0, but a relay that is in charge of the track is
//! ([`errands`](super::errands)); what is not known then is told as unknown (decision 0101). The answer is whole at once, so a fetch that runs is bytes that its link has not taken: they are counted over all fetches of a session
//! ([`Limits::backlog_bytes`](super::Limits)), and the fetch as a subscription until the last of them left.

use std::time::{Duration, Instant};

use super::accounts::Cost;
use super::errands::For;
use super::history::{self, Range};
use super::join::Join;
use super::rights::{Credentials, permit};
use super::{Core, Role, Sessions, constants, name_bytes};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{Fetch, FetchOk, GroupOrder, Location, Parameters};
use crate::moqt::session::{Fill, RequestId};
use crate::moqt::{RequestErrorCode, ResetCode};

/// A request of a peer.
type Who = (u64, RequestId);

/// One past the last object of an answer, and what of it is asked: the words of the FETCH, made places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    range: Range,
    /// As FETCH_OK says it.
    end: Location,
}

/// In which order, and how long others may be asked for what is not known here (FILL_TIMEOUT).
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) order: GroupOrder,
    pub(super) wait: Option<Duration>,
}

impl Asked {
    /// Until draft 19 an end is one past the last object, and object 0 is the whole group.
    fn new(start: Location, end: Location, largest: Option<Location>) -> Result<Self, RequestErrorCode> {
        let last = Location { object: end.object.wrapping_sub(1), ..end };
        let largest = largest.filter(|largest| start <= *largest).ok_or(RequestErrorCode::InvalidRange)?;
        if last < start {
            return Err(RequestErrorCode::InvalidRange);
        }
        let end = if last > largest { past(largest) } else { end };
        Ok(Self { range: (start, last.min(largest)), end })
    }

    /// `joining`: the largest object as its subscription, or a fetch of the newest groups, finds it.
    pub(super) fn of(fetch: &Fetch, joining: Option<Location>) -> Result<Self, RequestErrorCode> {
        let largest = joining.ok_or(RequestErrorCode::InvalidRange)?;
        let group = match *fetch {
            Fetch::Standalone { start, end, .. } => return Self::new(start, end, joining),
            // The current group is the first; none at all begins behind the largest.
            Fetch::Newest { groups: 0, .. } => return Err(RequestErrorCode::InvalidRange),
            Fetch::Newest { groups, .. } => largest.group.saturating_sub(groups - 1),
            Fetch::RelativeJoining { groups, .. } => largest.group.saturating_sub(groups),
            Fetch::AbsoluteJoining { group, .. } => group,
        };
        Self::new(Location { group, object: 0 }, past(largest), joining)
    }
}

fn past(largest: Location) -> Location {
    Location { object: largest.object.wrapping_add(1), ..largest }
}

impl Core {
    pub(super) fn fetch(
        &mut self,
        sessions: &mut dyn Sessions,
        who: Who,
        (fetch, how): (Fetch, How),
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let name = match &fetch {
            Fetch::Standalone { track, .. } | Fetch::Newest { track, .. } => track.clone(),
            Fetch::RelativeJoining { request, .. } | Fetch::AbsoluteJoining { request, .. } => {
                let joined = RequestId(*request);
                let join = Join::new(who.1, fetch, how);
                return self.join(sessions, (who.0, join, joined), credentials, now);
            }
        };
        let rights = permit(credentials, now, |rights| rights.may_subscribe(&name.namespace))?;
        let cost = Cost::Subscription { held: false, bytes: name_bytes(&name) };
        let id = self.names.get(&name).copied();
        let relay = self.relay(who.0);
        let track = id.and_then(|id| self.tracks.get(&id)).filter(|track| track.is_live_for(relay));
        let (Some(id), Some(track)) = (id, track) else {
            // It may flow at the relay in charge.
            let uplink = self.relay_in_charge(&name.namespace, id, who.0).ok_or(RequestErrorCode::DoesNotExist)?;
            self.charge(who, Some(rights), cost, now)?;
            let sent = self.send_errand(sessions, uplink, (who.0, For::Fetch(who.1)), (fetch, how, None), now);
            return if sent { Ok(()) } else { self.undo(who, RequestErrorCode::DoesNotExist) };
        };
        let asked = Asked::of(&fetch, track.largest())?;
        self.charge(who, Some(rights), cost, now)?;
        self.serve(sessions, who, (id, asked, how), now)
    }

    /// Nothing is left of a fetch that is charged.
    fn undo(&mut self, (key, request): Who, code: RequestErrorCode) -> Result<(), RequestErrorCode> {
        self.forget(key, request);
        Err(code)
    }

    /// Answers a fetch that is charged; if it can't be, nothing is left of it.
    pub(super) fn serve(
        &mut self,
        sessions: &mut dyn Sessions,
        who: Who,
        (id, asked, how): (u64, Asked, How),
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let (ok, told) = self.history(id, asked, how.order, now)?;
        if self.ask_beyond(sessions, (who.0, For::Fetch(who.1)), (id, asked, how), &told, now) {
            return Ok(());
        }
        self.deliver(sessions, who, Some(id), (ok, told))
    }

    /// What is not known here may be known at the relay in charge. `true`: that is asked.
    fn ask_beyond(
        &mut self,
        sessions: &mut dyn Sessions,
        waits: (u64, For),
        (id, asked, how): (u64, Asked, How),
        told: &[Fetched],
        now: Instant,
    ) -> bool {
        let Some(track) = self.tracks.get(&id) else { return false };
        let gaps = told.iter().any(|told| matches!(told, Fetched::Unknown(_)));
        let uplink = gaps.then(|| self.relay_in_charge(&track.name.namespace, Some(id), waits.0)).flatten();
        let fetch = Fetch::Standalone { track: track.name.clone(), start: asked.range.0, end: asked.end };
        uplink.is_some_and(|uplink| {
            self.send_errand(sessions, uplink, waits, (fetch, how, Some((id, asked, how.order))), now)
        })
    }

    /// FETCH_OK and all that there is; if that can't be, nothing is left of the fetch.
    pub(super) fn deliver(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        id: Option<u64>,
        (ok, told): (FetchOk, Vec<Fetched>),
    ) -> Result<(), RequestErrorCode> {
        let bytes: usize = told.iter().map(told_bytes).sum();
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let limits = peer.account.limits;
        let Some(session) = sessions.session(key) else { return Ok(()) };
        if peer.fetching > 0 && peer.fetching + bytes > limits.backlog_bytes
            || session.unwritten() > limits.session_backlog_bytes
        {
            self.counters.over_fetching += 1;
            self.forget(key, request);
            return Err(RequestErrorCode::ExcessiveLoad);
        }
        self.counters.fetches += 1;
        self.counters.objects_fetched += objects(&told);
        peer.fetching += bytes;
        peer.requests.insert(request, Role::Fetch { track: id, bytes });
        if let Some(track) = id.and_then(|id| self.tracks.get_mut(&id)) {
            track.fetches.push((key, request));
        }
        session.answer_fetch(request, ok, told);
        Ok(())
    }

    /// FILL_PARAMETERS of a subscription (since draft 20): the same answer on a stream of the subscription. What its session has not
    /// taken may be in the way; then the fill fails, and the subscription goes on.
    pub(super) fn fill(&mut self, sessions: &mut dyn Sessions, key: u64, fill: Fill, now: Instant) {
        let Some(peer) = self.peers.get(&key) else { return };
        let asked = Asked { range: fill.range, end: past(fill.range.1) };
        let told = match peer.requests.get(&fill.request) {
            Some(&Role::Subscription { track, held: false }) => {
                self.history(track, asked, fill.order, now).ok().map(|(_, told)| (track, told))
            }
            _ => None,
        };
        let how = How { order: fill.order, wait: fill.timeout };
        if let Some((id, told)) = &told
            && self.ask_beyond(sessions, (key, For::Fill(fill)), (*id, asked, how), told, now)
        {
            return;
        }
        self.deliver_fill(sessions, key, fill, told.map(|(_, told)| told));
    }

    pub(super) fn deliver_fill(
        &mut self,
        sessions: &mut dyn Sessions,
        key: u64,
        fill: Fill,
        told: Option<Vec<Fetched>>,
    ) {
        let (Some(peer), Some(session)) = (self.peers.get(&key), sessions.session(key)) else { return };
        let room = peer.account.limits.session_backlog_bytes / constants::FILL_SHARE;
        let fits = |told: &Vec<Fetched>| session.unwritten() + told.iter().map(told_bytes).sum::<usize>() <= room;
        match told.filter(fits) {
            Some(told) => {
                self.counters.fetches += 1;
                self.counters.objects_fetched += objects(&told);
                session.fill(fill, told);
            }
            None => {
                self.counters.over_fetching += 1;
                session.fail_fill(fill);
            }
        }
    }

    /// What is kept of the range, in words.
    pub(super) fn history(
        &self,
        id: u64,
        Asked { range, end }: Asked,
        order: GroupOrder,
        now: Instant,
    ) -> Result<(FetchOk, Vec<Fetched>), RequestErrorCode> {
        let track = self.tracks.get(&id).ok_or(RequestErrorCode::DoesNotExist)?;
        let age = track.cache_duration().map_or(self.cache.age(), |most| most.min(self.cache.age()));
        let pasts = self.cache.read(&track.kept);
        let told =
            history::tell(pasts, range, order, track.priority(), |past| now.saturating_duration_since(past.at) <= age);
        let end_of_track = track.flows.track_end().is_some_and(|last| last <= range.1);
        let properties = track.ok().track_properties();
        Ok((FetchOk { end_of_track, end, parameters: Parameters::default(), properties }, told))
    }

    /// A fetch is over: its link took all of it, or its peer wants it no more.
    pub(super) fn end_fetch(&mut self, (key, request): Who, id: Option<u64>, bytes: usize) {
        self.forget(key, request);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.fetching -= bytes;
        }
        if let Some(track) = id.and_then(|id| self.tracks.get_mut(&id)) {
            track.fetches.retain(|who| *who != (key, request));
        }
    }

    /// What is still on its way of a track's fetches is taken back.
    pub(super) fn reset_fetches(&mut self, sessions: &mut dyn Sessions, id: u64, code: ResetCode) {
        let fetches = self.tracks.get(&id).map(|track| track.fetches.clone());
        for who in fetches.unwrap_or_default() {
            self.reset_fetch(sessions, who, code);
        }
    }

    pub(super) fn reset_fetch(&mut self, sessions: &mut dyn Sessions, (key, request): Who, code: ResetCode) {
        if let Some(session) = sessions.session(key) {
            session.reset_fetch(request, code);
        }
        self.withdraw(sessions, key, request);
    }
}

fn objects(told: &[Fetched]) -> u64 {
    told.iter().filter(|told| matches!(told, Fetched::Object { .. })).count() as u64
}

/// What it costs on the stream, about.
pub(super) fn told_bytes(told: &Fetched) -> usize {
    const FIELDS: usize = 16;
    match told {
        Fetched::Object { object, .. } => FIELDS + object.properties.len() + object.payload.len(),
        _ => FIELDS,
    }
}
