//! The media worker's app: see the contract in [`super`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use super::holders::{Chore, Holder};
use super::news::News;
use super::publisher::Publisher;
use super::{Clock, Command, Delivered, HolderId, Link, MediaPort, Publication, RouteKey, Subscription};
use crate::call::control::{self, Message, Read};
use crate::client::lookout::Lookout;
use crate::moqt::RequestErrorCode;
use crate::moqt::ids::IdMap;
use crate::net::{App, LinkEvent, LinkId, Links};
use crate::ring::{Neighbour, RingId};
use crate::tracks::timers::Timers;
use crate::tracks::{Event, LeaseId, Pool, RouteId, TrackId};

/// Who publishes for one bridge publishes for others in the same breath; a frame may be this much later for it.
const GATHERS: Duration = Duration::from_micros(50);

/// Everything that one worker carries.
pub(in crate::client) struct Media {
    pub(super) pool: Pool,
    commands: Receiver<Command>,
    pub(super) port: MediaPort,
    pub(super) control: tokio::runtime::Handle,
    delivery: Neighbour,
    lookout: Arc<Lookout>,
    look_due: Option<Instant>,
    pub(super) routes: HashMap<RouteKey, RouteId>,
    pub(super) holders: IdMap<HolderId, Holder>,
    pub(super) leases: IdMap<LeaseId, HolderId>,
    publishers: IdMap<RingId, Publisher>,
    published: IdMap<TrackId, RingId>,
    subscribers: IdMap<TrackId, Subscriber>,
    /// When tracks have a frame to send.
    paces: BinaryHeap<Reverse<(Instant, RingId)>>,
    pub(super) chores: Timers<Chore>,
    pub(super) news: News,
    done: bool,
}

struct Subscriber {
    holder: HolderId,
    subscription: Subscription,
    next_sequence: Option<u64>,
}

/// What a worker's app is made of beside its pool.
pub(in crate::client) struct Parts {
    pub(in crate::client) commands: Receiver<Command>,
    pub(in crate::client) port: MediaPort,
    pub(in crate::client) control: tokio::runtime::Handle,
    pub(in crate::client) delivery: Neighbour,
    pub(in crate::client) lookout: Arc<Lookout>,
}

impl Media {
    pub(in crate::client) fn new(parts: Parts, seed: u64, now: Instant) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Parts { commands, port, control, delivery, lookout } = parts;
        Self {
            pool: Pool::new(seed, now, unix),
            commands,
            port,
            control,
            delivery,
            lookout,
            look_due: None,
            routes: HashMap::new(),
            holders: IdMap::default(),
            leases: IdMap::default(),
            publishers: IdMap::default(),
            published: IdMap::default(),
            subscribers: IdMap::default(),
            paces: BinaryHeap::new(),
            chores: Timers::default(),
            news: News::default(),
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
            Command::Supply(dial, id, prepared) => self.supply(links, (dial, id), prepared, now),
            Command::Renewed(id, prepared) => self.renewed(id, prepared, now),
            Command::Measure(id, answer) => self.measure(links, id, answer),
            Command::Watch(id, states) => self.watch(id, states),
            Command::Verdict(id, verdict) => self.verdict(links, id, verdict, now),
            Command::Close(id) => self.close(links, id, "the bridge was closed", now),
            Command::Shutdown => self.shutdown(links, now),
            #[cfg(test)]
            Command::Count(answer) => drop(answer.send(self.sizes())),
        }
    }

    fn publish(&mut self, links: &mut Links, id: HolderId, publication: Publication, now: Instant) {
        let Some(holder) = self.holders.get(&id) else { return };
        let track = self.pool.publish(links, holder.lease, publication.track.clone(), now);
        let ring = crate::ring::Source::id(&publication.frames);
        self.published.insert(track, ring);
        self.publishers.insert(ring, Publisher::new(id, track, publication, now));
    }

    fn subscribe(&mut self, links: &mut Links, id: HolderId, subscription: Subscription, now: Instant) {
        let Some(holder) = self.holders.get(&id) else {
            // It was closed in the meantime.
            subscription.ring.push(Delivered::Closed);
            return;
        };
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
            Event::WantDial { id, lease, uri } => self.want_dial(links, (id, lease), uri, now),
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
            Event::TooOld { track, count } => {
                if let Some(publisher) = self.published.get(&track).and_then(|ring| self.publishers.get(ring)) {
                    publisher.note_too_old(count);
                }
            }
            Event::Live { track } => {
                if let Some(id) = self.hears_audio(track) {
                    self.live(id);
                }
            }
            Event::Ended { track } => self.ended(links, track, now),
            Event::Lost { track, .. } => {
                if let Some(id) = self.hears_audio(track) {
                    self.ask(id);
                }
            }
            Event::Refused { track, code, reason } => self.refused(track, code, &reason),
        }
    }

    /// Whose audio this track brings.
    fn hears_audio(&self, track: TrackId) -> Option<HolderId> {
        let subscriber = self.subscribers.get(&track).filter(|subscriber| !subscriber.subscription.is_control)?;
        Some(subscriber.holder)
    }

    fn ended(&mut self, links: &mut Links, track: TrackId, now: Instant) {
        let audio = self.hears_audio(track);
        let closes = |id: &HolderId| self.holders.get(id).is_some_and(|holder| holder.ends_with_track);
        if let Some(id) = audio.filter(closes) {
            return self.close(links, id, "the call ended", now);
        }
        self.drop_subscriber(links, track);
    }

    fn drop_subscriber(&mut self, links: &mut Links, track: TrackId) {
        let Some(subscriber) = self.subscribers.get(&track) else { return };
        subscriber.subscription.ring.push(Delivered::Closed);
        self.subscribers.remove(&track);
        self.pool.close(links, track);
    }

    fn refused(&mut self, track: TrackId, code: u64, reason: &str) {
        if self.subscribers.get(&track).is_some_and(|subscriber| subscriber.subscription.is_control) {
            // Fresh tokens, or another link, may have it yet.
            tracing::warn!(reason, code, "a relay refuses the control track of a call: its keys are not heard");
            return;
        }
        let published = self.published.get(&track).and_then(|ring| self.publishers.get(ring));
        let id = published.map(|publisher| publisher.holder);
        let Some(id) = id.or_else(|| self.subscribers.get(&track).map(|subscriber| subscriber.holder)) else { return };
        if let Some(holder) = self.holders.get(&id) {
            let remedy = match code == RequestErrorCode::ExpiredAuthToken as u64 {
                true => ": connect again with a fresh one, or give a callable that returns one",
                false => "",
            };
            let reason = format!("the relay refused a track: {reason} ({code:#x}){remedy}");
            holder.stand(Link::Failed, Some(reason), &mut self.news);
        }
        self.ask(id);
    }

    pub(super) fn close(&mut self, links: &mut Links, id: HolderId, reason: &str, now: Instant) {
        let Some(holder) = self.holders.remove(&id) else { return };
        self.forget_chores(id);
        self.pool.release(links, holder.lease, now);
        self.leases.remove(&holder.lease);
        self.publishers.retain(|_, publisher| {
            if publisher.holder == id {
                publisher.forget_queue();
            }
            publisher.holder != id
        });
        self.published.retain(|_, ring| self.publishers.contains_key(ring));
        holder.stand(Link::Closed, Some(reason.to_owned()), &mut self.news);
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

    /// The last is bounded by one, whoever comes next clears it away.
    #[cfg(test)]
    fn sizes(&self) -> Vec<usize> {
        let (holders, tracks) = (self.holders.len() + self.leases.len(), self.publishers.len() + self.published.len());
        vec![holders, tracks, self.subscribers.len(), self.chores.len(), self.paces.len(), self.routes.len()]
    }

    fn shutdown(&mut self, links: &mut Links, now: Instant) {
        let holders: Vec<_> = self.holders.keys().copied().collect();
        for id in holders {
            self.close(links, id, "the process is ending", now);
        }
        self.pool.shutdown(links);
        self.done = true;
    }

    /// Sends what is due of one track and sets its next timer.
    fn pump(&mut self, links: &mut Links, ring: RingId, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&ring) else { return };
        publisher.pump(&mut self.pool, links, now);
        let Some(due) = publisher.poll_timeout() else { return };
        // One timer per track stands in the heap, unless an earlier one is needed.
        if publisher.due.is_none_or(|set| set > due) {
            publisher.due = Some(due);
            self.paces.push(Reverse((due, ring)));
        }
    }
}

impl Subscriber {
    fn frame(&mut self, timestamp_us: Option<u64>, payload: bytes::Bytes, sequence: u64, now: Instant) {
        if self.subscription.is_control {
            return self.message(&payload);
        }
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
        self.subscription.ring.push(Delivered::Frame { timestamp_us, payload, sequence });
    }

    /// What a later engine may say besides is passed over.
    fn message(&self, object: &[u8]) {
        match control::read(object) {
            Read::Message(Message::Dtmf(dtmf)) => {
                self.subscription.figures.keys.fetch_add(1, Relaxed);
                self.subscription.ring.push(Delivered::Dtmf(dtmf));
            }
            Read::Unknown => {}
            Read::Spoiled => tracing::warn!("an engine says what is no message on the control track of a call"),
        }
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
        while let Some(Reverse((_, ring))) = self.paces.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.paces.pop();
            self.publishers.get_mut(&ring).into_iter().for_each(|publisher| publisher.due = None);
            self.pump(links, ring, now);
        }
        while let Some(chore) = self.chores.pop(now) {
            self.handle_chore(chore);
        }
        self.handle_pool(links, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let pace = self.paces.peek().map(|Reverse((at, _))| *at);
        [self.pool.poll_timeout(), pace, self.chores.next(), self.look_due].into_iter().flatten().min()
    }

    fn gathers(&self) -> Duration {
        GATHERS
    }

    fn flush(&mut self, now: Instant) {
        self.delivery.flush();
        self.news.tell();
        self.look_due = self.lookout.look(now);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
