//! Who holds a lease: its link, its tokens, and the fate of its call. Everything that is asked on the control thread is asked here.
//!
//! A holder has at most one timer of each kind, and none once it is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::app::Media;
use super::news::News;
use super::{Answer, Command, Delivered, Dialer, HolderId, Link, Measured, Prepared, Refused, Seat, Standing, Verdict};
use crate::net::Links;
use crate::ring::RingSender;
use crate::tracks::{DialId, LeaseId, RouteKind, State, Supply};

/// The fate of a call is asked after this time again while its audio is lost; it doubles up to the cap.
const ASK_STEP: Duration = Duration::from_millis(500);
const ASK_CAP: Duration = Duration::from_secs(5);

pub(super) struct Holder {
    pub(super) lease: LeaseId,
    dialer: Arc<dyn Dialer>,
    standing: Arc<Standing>,
    pub(super) states: Option<RingSender<Delivered>>,
    pub(super) ends_with_track: bool,
    /// Its audio is lost: how long after the next answer of the control plane it is asked again.
    pub(super) lost: Option<Duration>,
    asking: bool,
}

/// What is done for a holder when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Chore {
    /// Fetch tokens before the old ones run out.
    Renew(HolderId),
    /// Ask whether the call still lives.
    Ask(HolderId),
}

impl Holder {
    pub(super) fn stand(&self, link: Link, reason: Option<String>, news: &mut News) {
        news.note(self.standing.link(), link, reason.as_deref());
        let changed = self.standing.set(link, reason);
        // The last word is that nothing follows.
        if let Some(states) = self.states.as_ref().filter(|_| changed && link != Link::Closed) {
            states.push(Delivered::State(link));
        }
    }
}

impl Media {
    pub(super) fn open(&mut self, id: HolderId, seat: Seat, now: Instant) {
        let cap = seat.route.cap;
        if !self.routes.contains_key(&seat.route) {
            // A relay that nobody uses any more may never be named again.
            self.routes.retain(|_, route| !self.pool.forget_route(*route));
        }
        let route = *self.routes.entry(seat.route).or_insert_with(|| self.pool.route(RouteKind { cap }));
        let lease = self.pool.lease(route, seat.tokens, now);
        self.leases.insert(lease, id);
        self.chores.set(Chore::Renew(id), seat.renew_at);
        let Seat { dialer, standing, states, ends_with_track, .. } = seat;
        let holder = Holder { lease, dialer, standing, states, ends_with_track, lost: None, asking: false };
        self.holders.insert(id, holder);
    }

    pub(super) fn handle_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Renew(id) => self.fetch_tokens(id),
            Chore::Ask(id) => self.ask(id),
        }
    }

    pub(super) fn forget_chores(&mut self, id: HolderId) {
        self.chores.set(Chore::Renew(id), None);
        self.chores.set(Chore::Ask(id), None);
    }

    // ---- ways to connect, and tokens ----

    pub(super) fn want_dial(
        &mut self,
        links: &mut Links,
        (id, lease): (DialId, LeaseId),
        uri: Option<String>,
        now: Instant,
    ) {
        let holder = self.leases.get(&lease).and_then(|id| Some((*id, self.holders.get(id)?)));
        let Some((holder_id, holder)) = holder else {
            return self.pool.supply(links, id, Err("nobody leases this link any more".into()), now);
        };
        let (prepare, port) = (holder.dialer.prepare(uri), self.port.clone());
        self.control.spawn(async move { port.send(Command::Supply(id, holder_id, prepare.await.map(Box::new))) });
    }

    pub(super) fn supply(
        &mut self,
        links: &mut Links,
        (dial, id): (DialId, HolderId),
        prepared: Result<Box<Prepared>, Refused>,
        now: Instant,
    ) {
        let supply = match prepared {
            Ok(prepared) => {
                self.renew(id, &prepared);
                Ok(Supply::Dial(Box::new(prepared.dial)))
            }
            Err(refused) => {
                if refused.ask {
                    self.ask(id);
                }
                Err(refused.reason)
            }
        };
        self.pool.supply(links, dial, supply, now);
    }

    /// Tokens of now for the requests to come.
    fn renew(&mut self, id: HolderId, prepared: &Prepared) {
        let Some(holder) = self.holders.get(&id) else { return };
        self.pool.renew(holder.lease, prepared.tokens.clone());
        self.chores.set(Chore::Renew(id), prepared.renew_at);
    }

    pub(super) fn fetch_tokens(&self, id: HolderId) {
        let Some(holder) = self.holders.get(&id) else { return };
        let (prepare, port) = (holder.dialer.prepare(None), self.port.clone());
        self.control.spawn(async move { port.send(Command::Renewed(id, prepare.await.map(Box::new))) });
    }

    pub(super) fn renewed(&mut self, id: HolderId, prepared: Result<Box<Prepared>, Refused>, now: Instant) {
        match prepared {
            Ok(prepared) => self.renew(id, &prepared),
            Err(refused) => {
                if self.holders.contains_key(&id) {
                    self.chores.set(Chore::Renew(id), Some(now + ASK_CAP));
                }
                if refused.ask {
                    self.ask(id);
                }
            }
        }
    }

    // ---- the link and the call ----

    pub(super) fn state(&mut self, lease: LeaseId, state: State, reason: Option<String>) {
        let Some(id) = self.leases.get(&lease).copied() else { return };
        let Some(holder) = self.holders.get(&id) else { return };
        let link = match state {
            State::Connecting => Link::Connecting,
            State::Connected => Link::Connected,
            State::Reconnecting => Link::Reconnecting,
            State::Failed => Link::Failed,
        };
        holder.stand(link, reason, &mut self.news);
        if state == State::Failed {
            self.ask(id);
        }
    }

    /// Answers whoever asks for the figures of a holder's link. Nobody may be waiting any more.
    pub(super) fn measure(&self, links: &Links, id: HolderId, answer: Answer) {
        let Some(standing) = self.holders.get(&id).and_then(|holder| self.pool.standing(holder.lease)) else { return };
        let path = standing.link.and_then(|link| links.path(link));
        answer(Measured { standing, path });
    }

    /// Tells of the link to whoever wants to know from now on. A holder that is gone has had its last word.
    pub(super) fn watch(&mut self, id: HolderId, states: RingSender<Delivered>) {
        let Some(holder) = self.holders.get_mut(&id) else {
            states.push(Delivered::Closed);
            return;
        };
        states.push(Delivered::State(holder.standing.link()));
        holder.states = Some(states);
    }

    /// Asks the control plane whether the holder's call still lives.
    pub(super) fn ask(&mut self, id: HolderId) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.lost.get_or_insert(ASK_STEP);
        if std::mem::replace(&mut holder.asking, true) {
            return;
        }
        let (verdict, port) = (holder.dialer.verdict(), self.port.clone());
        self.chores.set(Chore::Ask(id), None);
        self.control.spawn(async move { port.send(Command::Verdict(id, verdict.await)) });
    }

    pub(super) fn verdict(&mut self, links: &mut Links, id: HolderId, verdict: Verdict, now: Instant) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.asking = false;
        if let Verdict::Over(reason) = verdict {
            return self.close(links, id, &reason, now);
        }
        if let Some(pause) = holder.lost {
            holder.lost = Some((pause * 2).min(ASK_CAP));
            self.chores.set(Chore::Ask(id), Some(now + pause));
        }
    }

    /// Its audio is there (again).
    pub(super) fn live(&mut self, id: HolderId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.lost = None;
            self.chores.set(Chore::Ask(id), None);
        }
    }
}
