//! The media worker's app: see the contract in [`super`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use super::publisher::Publisher;
use super::{
    Clock, Command, Delivered, Dialer, HolderId, Link, MediaPort, Prepared, Publication, Refused, RouteKey, Seat,
    Standing, Subscription, Verdict,
};
use crate::client::runtime::TurnHook;
use crate::net::{App, LinkEvent, LinkId, Links};
use crate::ring::{Neighbour, RingId, RingSender};
use crate::tracks::{DialId, Event, LeaseId, Pool, RouteId, RouteKind, State, Supply, TrackId};

/// The fate of a call is asked after this time again while its audio is lost; it doubles up to the cap.
const ASK_STEP: Duration = Duration::from_millis(500);
const ASK_CAP: Duration = Duration::from_secs(5);

/// Who publishes for one bridge publishes for others in the same breath; a frame may be this much later for it.
const GATHERS: Duration = Duration::from_micros(50);

/// Everything that one worker carries.
pub(in crate::client) struct Media {
    pool: Pool,
    commands: Receiver<Command>,
    port: MediaPort,
    control: tokio::runtime::Handle,
    delivery: Neighbour,
    hook: Arc<TurnHook>,
    hook_due: Option<Instant>,
    routes: HashMap<RouteKey, RouteId>,
    holders: HashMap<HolderId, Holder>,
    leases: HashMap<LeaseId, HolderId>,
    publishers: HashMap<RingId, Publisher>,
    published: HashMap<TrackId, RingId>,
    subscribers: HashMap<TrackId, Subscriber>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    done: bool,
}

struct Holder {
    lease: LeaseId,
    dialer: Arc<dyn Dialer>,
    standing: Arc<Standing>,
    states: Option<RingSender<Delivered>>,
    ends_with_track: bool,
    /// Its audio is lost: when the control plane is asked next, and how long after that.
    lost: Option<Duration>,
    asking: bool,
    renew_at: Option<Instant>,
}

struct Subscriber {
    holder: HolderId,
    subscription: Subscription,
    next_sequence: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Publisher(RingId),
    Renew(HolderId),
    Ask(HolderId),
}

/// What a worker's app is made of beside its pool.
pub(in crate::client) struct Parts {
    pub(in crate::client) commands: Receiver<Command>,
    pub(in crate::client) port: MediaPort,
    pub(in crate::client) control: tokio::runtime::Handle,
    pub(in crate::client) delivery: Neighbour,
    pub(in crate::client) hook: Arc<TurnHook>,
}

impl Media {
    pub(in crate::client) fn new(parts: Parts, seed: u64, now: Instant) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Parts { commands, port, control, delivery, hook } = parts;
        Self {
            pool: Pool::new(seed, now, unix),
            commands,
            port,
            control,
            delivery,
            hook,
            hook_due: None,
            routes: HashMap::new(),
            holders: HashMap::new(),
            leases: HashMap::new(),
            publishers: HashMap::new(),
            published: HashMap::new(),
            subscribers: HashMap::new(),
            timers: BinaryHeap::new(),
            done: false,
        }
    }

    fn command(&mut self, links: &mut Links, command: Command, now: Instant) {
        match command {
            Command::Open(id, seat) => self.open(id, *seat, now),
            Command::Publish(id, publication) => self.publish(links, id, *publication, now),
            Command::Subscribe(id, subscription) => self.subscribe(links, id, *subscription, now),
            Command::EndTrack(id, ring) => self.end_track(links, id, ring, now),
            Command::Unsubscribe(id, ring) => self.unsubscribe(links, id, ring),
            Command::Supply(dial, id, prepared) => self.supply(links, dial, id, prepared, now),
            Command::Renewed(id, prepared) => self.renewed(id, prepared, now),
            Command::Verdict(id, verdict) => self.verdict(links, id, verdict, now),
            Command::Close(id) => self.close(links, id, "the bridge was closed", now),
            Command::Shutdown => self.shutdown(links, now),
        }
    }

    fn open(&mut self, id: HolderId, seat: Seat, now: Instant) {
        let cap = seat.route.cap;
        let route = *self.routes.entry(seat.route).or_insert_with(|| self.pool.route(RouteKind { cap }));
        let lease = self.pool.lease(route, seat.tokens, now);
        self.leases.insert(lease, id);
        self.set_timer(seat.renew_at, Timer::Renew(id));
        let Seat { dialer, standing, states, ends_with_track, renew_at, .. } = seat;
        let holder = Holder { lease, dialer, standing, states, ends_with_track, lost: None, asking: false, renew_at };
        self.holders.insert(id, holder);
    }

    fn publish(&mut self, links: &mut Links, id: HolderId, publication: Publication, now: Instant) {
        let Some(holder) = self.holders.get(&id) else { return };
        let track = self.pool.publish(links, holder.lease, publication.track.clone(), now);
        let ring = crate::ring::Source::id(&publication.frames);
        self.published.insert(track, ring);
        self.publishers.insert(ring, Publisher::new(id, track, publication, now));
    }

    fn subscribe(&mut self, links: &mut Links, id: HolderId, subscription: Subscription, now: Instant) {
        let Some(holder) = self.holders.get(&id) else { return };
        let track = self.pool.subscribe(links, holder.lease, subscription.track.clone(), now);
        self.subscribers.insert(track, Subscriber { holder: id, subscription, next_sequence: None });
    }

    fn end_track(&mut self, links: &mut Links, id: HolderId, ring: RingId, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&ring).filter(|publisher| publisher.holder == id) else { return };
        publisher.pump(&mut self.pool, links, now);
        self.pool.end(links, publisher.track, now);
        self.published.remove(&publisher.track);
        self.publishers.remove(&ring);
    }

    fn unsubscribe(&mut self, links: &mut Links, id: HolderId, ring: RingId) {
        let of = |subscriber: &Subscriber| subscriber.holder == id && subscriber.subscription.ring.id() == ring;
        let Some(track) = self.subscribers.iter().find(|(_, subscriber)| of(subscriber)).map(|(track, _)| *track)
        else {
            return;
        };
        self.pool.close(links, track);
        self.subscribers.remove(&track);
    }

    fn supply(
        &mut self,
        links: &mut Links,
        dial: DialId,
        id: HolderId,
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
        let Some(holder) = self.holders.get_mut(&id) else { return };
        self.pool.renew(holder.lease, prepared.tokens.clone());
        holder.renew_at = prepared.renew_at;
        self.set_timer(prepared.renew_at, Timer::Renew(id));
    }

    fn fetch_tokens(&self, id: HolderId) {
        let Some(holder) = self.holders.get(&id) else { return };
        let (prepare, port) = (holder.dialer.prepare(), self.port.clone());
        self.control.spawn(async move { port.send(Command::Renewed(id, prepare.await.map(Box::new))) });
    }

    fn renewed(&mut self, id: HolderId, prepared: Result<Box<Prepared>, Refused>, now: Instant) {
        match prepared {
            Ok(prepared) => self.renew(id, &prepared),
            Err(refused) => {
                let again = Some(now + ASK_CAP);
                if let Some(holder) = self.holders.get_mut(&id) {
                    holder.renew_at = again;
                }
                self.set_timer(again, Timer::Renew(id));
                if refused.ask {
                    self.ask(id);
                }
            }
        }
    }

    fn handle_pool(&mut self, links: &mut Links, now: Instant) {
        while let Some(event) = self.pool.poll_event() {
            self.event(links, event, now);
        }
    }

    fn event(&mut self, links: &mut Links, event: Event, now: Instant) {
        match event {
            Event::Frame { track, timestamp_us, payload, sequence } => {
                if let Some(subscriber) = self.subscribers.get_mut(&track) {
                    subscriber.frame(timestamp_us, payload, sequence, now);
                }
            }
            Event::WantDial { id, lease } => self.want_dial(links, id, lease, now),
            Event::WantTokens { lease } => {
                if let Some(id) = self.leases.get(&lease).copied() {
                    self.fetch_tokens(id);
                }
            }
            Event::State { lease, state, reason } => self.state(lease, state, reason),
            Event::Subscribers { track, count } => {
                if let Some(publisher) = self.published.get(&track).and_then(|ring| self.publishers.get(ring)) {
                    publisher.set_subscribers(count);
                }
            }
            Event::Live { track } => {
                if let Some(holder) = self.subscriber_holder(track) {
                    holder.lost = None;
                }
            }
            Event::Ended { track } => self.ended(links, track, now),
            Event::Lost { track, .. } => {
                if let Some(id) = self.subscribers.get(&track).map(|subscriber| subscriber.holder) {
                    self.ask(id);
                }
            }
            Event::Refused { track, code, reason } => self.refused(track, code, &reason),
        }
    }

    fn want_dial(&mut self, links: &mut Links, id: DialId, lease: LeaseId, now: Instant) {
        let holder = self.leases.get(&lease).and_then(|id| Some((*id, self.holders.get(id)?)));
        let Some((holder_id, holder)) = holder else {
            return self.pool.supply(links, id, Err("nobody leases this link any more".into()), now);
        };
        let (prepare, port) = (holder.dialer.prepare(), self.port.clone());
        self.control.spawn(async move { port.send(Command::Supply(id, holder_id, prepare.await.map(Box::new))) });
    }

    fn state(&mut self, lease: LeaseId, state: State, reason: Option<String>) {
        let Some(id) = self.leases.get(&lease).copied() else { return };
        let Some(holder) = self.holders.get(&id) else { return };
        let link = match state {
            State::Connecting => Link::Connecting,
            State::Connected => Link::Connected,
            State::Reconnecting => Link::Reconnecting,
            State::Failed => Link::Failed,
        };
        holder.stand(link, reason);
        if state == State::Failed {
            self.ask(id);
        }
    }

    fn ended(&mut self, links: &mut Links, track: TrackId, now: Instant) {
        let Some(subscriber) = self.subscribers.get(&track) else { return };
        let id = subscriber.holder;
        if self.holders.get(&id).is_some_and(|holder| holder.ends_with_track) {
            return self.close(links, id, "the call ended", now);
        }
        subscriber.subscription.ring.push(Delivered::Closed);
        self.subscribers.remove(&track);
    }

    fn refused(&mut self, track: TrackId, code: u64, reason: &str) {
        let published = self.published.get(&track).and_then(|ring| self.publishers.get(ring));
        let id = published.map(|publisher| publisher.holder);
        let Some(id) = id.or_else(|| self.subscribers.get(&track).map(|subscriber| subscriber.holder)) else { return };
        if let Some(holder) = self.holders.get(&id) {
            holder.stand(Link::Failed, Some(format!("the relay refused a track: {reason} ({code:#x})")));
        }
        self.ask(id);
    }

    /// Asks the control plane whether the holder's call still lives.
    fn ask(&mut self, id: HolderId) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.lost.get_or_insert(ASK_STEP);
        if std::mem::replace(&mut holder.asking, true) {
            return;
        }
        let (verdict, port) = (holder.dialer.verdict(), self.port.clone());
        self.control.spawn(async move { port.send(Command::Verdict(id, verdict.await)) });
    }

    fn verdict(&mut self, links: &mut Links, id: HolderId, verdict: Verdict, now: Instant) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.asking = false;
        if let Verdict::Over(reason) = verdict {
            return self.close(links, id, &reason, now);
        }
        if let Some(pause) = holder.lost {
            holder.lost = Some((pause * 2).min(ASK_CAP));
            self.set_timer(Some(now + pause), Timer::Ask(id));
        }
    }

    fn close(&mut self, links: &mut Links, id: HolderId, reason: &str, now: Instant) {
        let Some(holder) = self.holders.remove(&id) else { return };
        self.pool.release(links, holder.lease, now);
        self.leases.remove(&holder.lease);
        self.publishers.retain(|_, publisher| {
            if publisher.holder == id {
                publisher.forget_queue();
            }
            publisher.holder != id
        });
        self.published.retain(|_, ring| self.publishers.contains_key(ring));
        holder.stand(Link::Closed, Some(reason.to_owned()));
        self.subscribers.retain(|_, subscriber| {
            if subscriber.holder != id {
                return true;
            }
            subscriber.subscription.ring.push(Delivered::Closed);
            false
        });
        if let Some(states) = &holder.states {
            states.push(Delivered::Closed);
        }
    }

    fn shutdown(&mut self, links: &mut Links, now: Instant) {
        let holders: Vec<_> = self.holders.keys().copied().collect();
        for id in holders {
            self.close(links, id, "the process is ending", now);
        }
        self.pool.shutdown(links);
        self.done = true;
    }

    fn subscriber_holder(&mut self, track: TrackId) -> Option<&mut Holder> {
        self.holders.get_mut(&self.subscribers.get(&track)?.holder)
    }

    /// Sends what is due of one track and sets its next timer.
    fn pump(&mut self, links: &mut Links, ring: RingId, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&ring) else { return };
        publisher.pump(&mut self.pool, links, now);
        let Some(due) = publisher.poll_timeout() else { return };
        // One timer per track stands in the heap, unless an earlier one is needed.
        if publisher.due.is_none_or(|set| set > due) {
            publisher.due = Some(due);
            self.set_timer(Some(due), Timer::Publisher(ring));
        }
    }

    fn set_timer(&mut self, at: Option<Instant>, timer: Timer) {
        if let Some(at) = at {
            self.timers.push(Reverse((at, timer)));
        }
    }

    fn timer(&mut self, links: &mut Links, timer: Timer, now: Instant) {
        match timer {
            Timer::Publisher(ring) => {
                if let Some(publisher) = self.publishers.get_mut(&ring) {
                    publisher.due = None;
                }
                self.pump(links, ring, now);
            }
            Timer::Ask(id) => {
                if self.holders.get(&id).is_some_and(|holder| holder.lost.is_some()) {
                    self.ask(id);
                }
            }
            Timer::Renew(id) => {
                // A dial in between has brought fresh tokens and a later time.
                let Some(holder) = self.holders.get_mut(&id) else { return };
                if holder.renew_at.take_if(|at| *at <= now).is_none() {
                    return;
                }
                self.fetch_tokens(id);
            }
        }
    }
}

impl Holder {
    fn stand(&self, link: Link, reason: Option<String>) {
        let changed = self.standing.set(link, reason);
        if let Some(states) = self.states.as_ref().filter(|_| changed) {
            states.push(Delivered::State(link));
        }
    }
}

impl Subscriber {
    fn frame(&mut self, timestamp_us: Option<u64>, payload: bytes::Bytes, sequence: u64, now: Instant) {
        self.note_sequence(sequence);
        let figures = &self.subscription.figures;
        if let (Some(lag), Some(stamp_us)) = (&mut self.subscription.lag, timestamp_us)
            && !lag.admit(stamp_us, now)
        {
            figures.stale.fetch_add(1, Relaxed);
            return;
        }
        figures.frames_in.fetch_add(1, Relaxed);
        // A publisher without a clock is heard by ours.
        let timestamp_us = timestamp_us.unwrap_or_else(|| Clock::process().us_at(now));
        self.subscription.ring.push(Delivered::Frame { timestamp_us, payload });
    }

    fn note_sequence(&mut self, sequence: u64) {
        let figures = &self.subscription.figures;
        let next = self.next_sequence.unwrap_or(sequence);
        if sequence > next {
            figures.gaps.fetch_add(1, Relaxed);
            figures.missing.fetch_add(sequence - next, Relaxed);
        } else if sequence < next {
            // It takes the place that was left for it. Only this thread writes.
            figures.missing.store(figures.missing.load(Relaxed).saturating_sub(1), Relaxed);
        }
        self.next_sequence = Some(next.max(sequence.wrapping_add(1)));
    }
}

impl App for Media {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant) {
        self.pool.handle_event(links, link, event, now);
        self.handle_pool(links, now);
    }

    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            self.command(links, command, now);
        }
        while let Some(ring) = self.port.handoffs().take() {
            self.pump(links, ring, now);
        }
        self.handle_pool(links, now);
    }

    fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        if self.pool.poll_timeout().is_some_and(|at| at <= now) {
            self.pool.handle_timeout(links, now);
        }
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, timer))) = self.timers.pop() {
                self.timer(links, timer, now);
            }
        }
        self.handle_pool(links, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        [self.pool.poll_timeout(), timer, self.hook_due].into_iter().flatten().min()
    }

    fn gathers(&self) -> Duration {
        GATHERS
    }

    fn flush(&mut self, now: Instant) {
        self.delivery.flush();
        self.hook_due = self.hook.look(now);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
