//! One call on an audio thread: its leg or its absence, its renditions, its agent.
//!
//! With a leg the engine publishes every uplink rendition and listens to every downlink one. Without one
//! ([`Caller::Bridge`]) bridges publish both sides themselves: the engine listens, and as soon as one rendition of a side has a
//! speaker it publishes that side's others. It never publishes and hears the same rendition, so it never hears itself.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::clock::Stamps;
use super::control::Control;
use super::mix::Mixer;
use super::rendition::{Incoming, Outgoing};
use super::speaker::Speaker;
use super::{Caller, Event, Stats};
use crate::audio::{CodecError, Frame, Limits, Params, Target};
use crate::engine::agents::Agent;
use crate::engine::leg::{Heard, Leg, SOCKETS};
use crate::moqt::ids::IdMap;
use crate::moqt::message::TrackProperties;
use crate::net::Links;
use crate::tracks::{Delivery, LeaseId, Pool, PublishTrack, Side, TrackId, names};

/// Sockets of one call that the thread watches: the leg's, then those of an agent with a line of its own.
pub(super) const WATCHED: usize = 2 * SOCKETS;
/// How long the end is said to whoever subscribes after [`Call::close`].
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What a call works with; all of it is the thread's.
pub(super) struct Floor<'a> {
    pub(super) pool: &'a mut Pool,
    pub(super) links: &'a mut Links,
    pub(super) tracks: &'a mut IdMap<TrackId, Place>,
    pub(super) events: &'a UnboundedSender<Event>,
    pub(super) now: Instant,
    /// The way to the relay stalls, or did so right now.
    pub(super) stalled: bool,
    pub(super) stamps: Stamps,
}

/// Where a track belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) call: u64,
    pub(super) side: Side,
    rendition: usize,
}

enum Way {
    Out(Outgoing),
    In(Box<Incoming>),
}

impl Way {
    fn params(&self) -> Params {
        match self {
            Way::Out(out) => out.params,
            Way::In(incoming) => incoming.params,
        }
    }
    fn track(&self) -> TrackId {
        match self {
            Way::Out(out) => out.track,
            Way::In(incoming) => incoming.track,
        }
    }
    fn is_live(&self) -> bool {
        matches!(self, Way::In(incoming) if incoming.live)
    }
}

pub(super) struct Call {
    pub(super) key: u64,
    pub(super) sid: Arc<str>,
    pub(super) lease: LeaseId,
    caller: Caller,
    uplink: Vec<Way>,
    downlink: Vec<Way>,
    started: bool,
    leg: Option<Box<dyn Leg>>,
    /// The leg speaks when it is asked at a tick; else when it has heard something.
    leg_is_paced: bool,
    /// What the call's frames are: the leg's, or the call's own rendition; and what the leg bears.
    params: Params,
    limits: Limits,
    speaker: Option<Speaker>,
    /// Bound before the call was answered: what the leg speaks is not known yet.
    waiting: Option<Box<dyn Agent>>,
    mixer: Mixer,
    control: Control,
    /// The leg has heard something.
    began: bool,
    stats: Stats,
    is_closed: bool,
    /// What the end of bridges' tracks is said under.
    last_words: Option<LeaseId>,
}

impl Call {
    pub(super) fn new(key: u64, sid: Arc<str>, caller: Caller, lease: LeaseId) -> Self {
        Self {
            key,
            control: Control::new(sid.clone()),
            sid,
            lease,
            caller,
            uplink: Vec::new(),
            downlink: Vec::new(),
            started: false,
            leg: None,
            leg_is_paced: true,
            params: Params::CALL,
            limits: Limits::default(),
            speaker: None,
            waiting: None,
            mixer: Mixer::default(),
            began: false,
            stats: Stats::default(),
            is_closed: false,
            last_words: None,
        }
    }

    pub(super) fn open(&mut self, floor: &mut Floor<'_>) {
        self.add(floor, Side::Uplink, Params::CALL);
        self.add(floor, Side::Downlink, Params::CALL);
        self.control.open(floor, self.lease);
    }

    /// The far end has signalled a key.
    pub(super) fn handle_signalled(&mut self, floor: &mut Floor<'_>, key: char, duration_ms: u32) {
        if self.control.handle_signalled(floor, key, duration_ms) {
            self.pass_on(floor, key, duration_ms);
        }
    }

    /// The same of the far end of a leg that was joined: it is the leg's to press.
    pub(super) fn handle_second_signalled(&mut self, key: char, duration_ms: u32, now: Instant) {
        if let Some(speaker) = &mut self.speaker {
            speaker.handle_signalled(key, duration_ms, now);
        }
    }

    fn pass_on(&mut self, floor: &mut Floor<'_>, key: char, duration_ms: u32) {
        if self.speaker.as_mut().is_some_and(|speaker| !speaker.hear_key(key, duration_ms)) {
            let _ = floor.events.send(Event::Unpressed { sid: self.sid.clone(), key, duration_ms, second: true });
        }
    }

    /// Makes a rendition available; one that is there stays as it is.
    pub(super) fn add(&mut self, floor: &mut Floor<'_>, side: Side, params: Params) {
        if self.side(side).iter().any(|way| way.params() == params) || self.is_closed {
            return;
        }
        let out = match self.caller {
            Caller::Leg => side == Side::Uplink,
            Caller::Bridge => self.has_source(side),
        };
        let rendition = self.side(side).len();
        let place = Place { call: self.key, side, rendition };
        if let Some(way) = self.way(floor, self.lease, place, params, out) {
            self.side_mut(side).push(way);
        }
    }

    /// The call is answered. Without a leg it goes on with the one that it listened to, if there is one.
    pub(super) fn start(&mut self, leg: Option<Box<dyn Leg>>, floor: &mut Floor<'_>) {
        self.started = true;
        if let Some(leg) = leg {
            self.listen(leg, floor);
        }
        if let Some(agent) = self.waiting.take() {
            self.bind(Some(agent), floor);
        }
    }

    /// What the leg says is heard from now on.
    pub(super) fn listen(&mut self, leg: Box<dyn Leg>, floor: &mut Floor<'_>) {
        if self.is_closed {
            return;
        }
        Target { params: self.params, limits: self.limits } = leg.target();
        self.leg_is_paced = leg.sockets().iter().all(Option::is_none);
        self.watch(leg.sockets(), 0, floor);
        self.leg = Some(leg);
    }

    fn watch(&self, sockets: [Option<BorrowedFd<'_>>; SOCKETS], first: usize, floor: &Floor<'_>) {
        for (at, socket) in sockets.into_iter().enumerate() {
            let watched = socket.map(|socket| floor.links.watch(socket, self.key as usize * WATCHED + first + at));
            if let Some(Err(error)) = watched {
                tracing::error!(sid = %self.sid, %error, "a call's socket can't be watched: nothing of it is heard");
            }
        }
    }

    /// How often the call wants to tick; `None`: it has nothing to do by the clock.
    pub(super) fn period_ms(&self) -> Option<u8> {
        let ticks = self.leg.is_some() || (self.caller == Caller::Bridge && self.speaker.is_some());
        (ticks && !self.is_closed).then_some(self.params.frame_ms)
    }

    pub(super) fn bind(&mut self, agent: Option<Box<dyn Agent>>, floor: &mut Floor<'_>) {
        self.leave_speaker();
        self.waiting = None;
        match agent {
            Some(agent) if self.started => match Speaker::new(agent, self.target()) {
                Ok(speaker) => {
                    self.watch(speaker.sockets(), SOCKETS, floor);
                    self.speaker = Some(speaker);
                }
                Err(error) => self.dismiss(&error, floor),
            },
            agent => self.waiting = agent,
        }
        if self.speaker.is_some() {
            let kept = self.downlink.iter_mut().map(|way| if let Way::In(heard) = way { heard.clear() } else { 0 });
            self.stats.dropped_down += kept.sum::<usize>() as u64;
        }
        self.settle(floor, Side::Downlink);
    }

    /// One frame each way.
    pub(super) fn tick(&mut self, floor: &mut Floor<'_>, at: Instant, timestamp_us: u64) {
        let Some(mut leg) = self.leg.take() else { return self.tick_speaker(floor, at, timestamp_us) };
        if self.leg_is_paced {
            match leg.pull(at) {
                Some(frame) => self.heard_caller(floor, &frame, at, timestamp_us),
                None => self.stats.gaps_up += 1,
            }
        }
        self.with_speaker(floor, |speaker| speaker.handle_tick(at));
        while let Some((key, duration_ms)) = self.speaker.as_mut().and_then(Speaker::take_key) {
            if !leg.press(key, duration_ms) {
                let unpressed = Event::Unpressed { sid: self.sid.clone(), key, duration_ms, second: false };
                let _ = floor.events.send(unpressed);
            }
        }
        let to = self.target();
        let frame = match &mut self.speaker {
            Some(speaker) => speaker.say(at),
            None => self.mixer.mix(self.downlink.iter_mut().filter_map(incoming), to),
        };
        let late = self.downlink.iter_mut().filter_map(incoming).map(Incoming::trim);
        self.stats.dropped_down += late.sum::<usize>() as u64;
        match &frame {
            Some(_) => {
                self.began = true;
                self.stats.frames_down += 1;
            }
            None => self.stats.gaps_down += u64::from(self.began),
        }
        leg.push(frame.as_ref(), at);
        self.handle_heard(floor, &mut *leg);
        self.leg = Some(leg);
    }

    /// One of the sockets has something.
    pub(super) fn handle_readable(&mut self, floor: &mut Floor<'_>, socket: usize) {
        if let Some(socket) = socket.checked_sub(SOCKETS) {
            let now = floor.now;
            return self.with_speaker(floor, |speaker| speaker.receive(socket, now));
        }
        let Some(mut leg) = self.leg.take() else { return };
        leg.receive(socket, floor.now);
        self.handle_heard(floor, &mut *leg);
        self.leg = Some(leg);
    }

    /// `work` says whether the agent's far end has fallen silent: that is the end of a call as the leg's own silence is.
    fn with_speaker(&mut self, floor: &mut Floor<'_>, work: impl FnOnce(&mut Speaker) -> Result<bool, CodecError>) {
        match self.speaker.as_mut().map(work) {
            Some(Ok(true)) => drop(floor.events.send(Event::Silent { sid: self.sid.clone() })),
            Some(Err(error)) => self.dismiss(&error, floor),
            Some(Ok(false)) | None => {}
        }
    }

    fn leave_speaker(&mut self) {
        if let Some(line) = self.speaker.take().and_then(|speaker| speaker.line()) {
            self.stats.second = Some(line);
        }
    }

    fn dismiss(&mut self, error: &CodecError, floor: &mut Floor<'_>) {
        self.leave_speaker();
        let reason = format!("its audio does not fit the call's: {error}");
        let _ = floor.events.send(Event::AgentEnded { sid: self.sid.clone(), reason });
    }

    fn handle_heard(&mut self, floor: &mut Floor<'_>, leg: &mut dyn Leg) {
        while let Some(heard) = leg.poll_heard() {
            let event = match heard {
                Heard::Frame { frame, at } => {
                    self.heard_caller(floor, &frame, at, floor.stamps.at(at));
                    continue;
                }
                Heard::Retuned => {
                    self.retune(leg.target(), floor);
                    continue;
                }
                Heard::Loss(percent) => {
                    self.expect_loss(percent);
                    continue;
                }
                Heard::Key { key, ended_ms } => {
                    let is_new = self.control.handle_key(floor, key, ended_ms);
                    if let (Some(duration_ms), true) = (ended_ms, is_new) {
                        self.pass_on(floor, key, duration_ms);
                    }
                    Event::Key { sid: self.sid.clone(), key, ended_ms }
                }
                Heard::Silent => Event::Silent { sid: self.sid.clone() },
            };
            let _ = floor.events.send(event);
        }
    }

    fn target(&self) -> Target {
        Target { params: self.params, limits: self.limits }
    }

    /// The leg speaks another codec from now on, or bears more or less.
    fn retune(&mut self, to: Target, floor: &mut Floor<'_>) {
        Target { params: self.params, limits: self.limits } = to;
        self.mixer = Mixer::default();
        self.downlink.iter_mut().filter_map(incoming).for_each(Incoming::retune);
        self.with_speaker(floor, |speaker| speaker.retune(to).map(|()| false));
    }

    /// The leg's far end loses so much of what it is sent.
    fn expect_loss(&mut self, percent: u8) {
        self.limits.loss = percent;
        self.mixer.expect_loss(percent);
        self.downlink.iter_mut().filter_map(incoming).for_each(|heard| heard.expect_loss(percent));
        if let Some(speaker) = &mut self.speaker {
            speaker.expect_loss(percent);
        }
    }

    /// Without a leg only an agent speaks by the clock.
    fn tick_speaker(&mut self, floor: &mut Floor<'_>, at: Instant, timestamp_us: u64) {
        self.with_speaker(floor, |speaker| speaker.handle_tick(at));
        let Some(frame) = self.speaker.as_mut().and_then(|speaker| speaker.say(at)) else { return };
        self.stats.frames_down += 1;
        write(floor, &mut self.downlink, self.params, &frame, timestamp_us);
    }

    fn heard_caller(&mut self, floor: &mut Floor<'_>, frame: &Frame, at: Instant, timestamp_us: u64) {
        self.stats.frames_up += 1;
        if let Some(speaker) = &mut self.speaker {
            speaker.hear(frame, self.params, at);
        }
        write(floor, &mut self.uplink, self.params, frame, timestamp_us);
    }

    /// A bridge said something.
    pub(super) fn handle_frame(&mut self, floor: &mut Floor<'_>, place: Place, timestamp_us: u64, frame: Frame) {
        if place.side == Side::Uplink {
            return self.heard_bridge(floor, place, timestamp_us, &frame);
        }
        let Some(Way::In(incoming)) = self.downlink.get_mut(place.rendition) else { return };
        if self.caller == Caller::Leg && !self.started {
            self.stats.dropped_before_answer += 1;
        } else if self.speaker.is_some() {
            self.stats.dropped_down += 1;
        } else if self.caller == Caller::Leg {
            let kept = incoming.is_fresh(timestamp_us, floor.stalled, floor.now) && incoming.insert(frame);
            self.stats.dropped_down += u64::from(!kept);
        } else {
            self.stats.frames_down += 1;
            let params = incoming.params;
            write(floor, &mut self.downlink, params, &frame, timestamp_us);
        }
    }

    /// A caller's bridge said something: the agent hears it, and the renditions that the bridge does not publish.
    fn heard_bridge(&mut self, floor: &mut Floor<'_>, place: Place, timestamp_us: u64, frame: &Frame) {
        let Some(Way::In(incoming)) = self.uplink.get(place.rendition) else { return };
        let params = incoming.params;
        self.stats.frames_up += 1;
        if let Some(speaker) = &mut self.speaker {
            speaker.hear(frame, params, floor.now);
        }
        write(floor, &mut self.uplink, params, frame, timestamp_us);
    }

    /// A bridge began, or ceased, to publish a rendition.
    pub(super) fn handle_live(&mut self, floor: &mut Floor<'_>, place: Place, live: bool) {
        let Some(Way::In(incoming)) = self.side_mut(place.side).get_mut(place.rendition) else { return };
        if std::mem::replace(&mut incoming.live, live) == live {
            return;
        }
        let rendition = incoming.params.rendition();
        let _ = floor.events.send(Event::Speaking { sid: self.sid.clone(), side: place.side, rendition, live });
        self.settle(floor, place.side);
    }

    /// A bridge said the end of its track. The end of a call is the engine's to say, so it goes on listening.
    pub(super) fn handle_ended(&mut self, floor: &mut Floor<'_>, place: Place) {
        self.handle_live(floor, place, false);
        if let Some(Way::In(_)) = self.side(place.side).get(place.rendition) {
            self.turn(floor, place.side, place.rendition, false);
        }
    }

    pub(super) fn handle_subscribers(&mut self, place: Place, count: usize) {
        if let Some(Way::Out(out)) = self.side_mut(place.side).get_mut(place.rendition) {
            out.set_subscribers(count);
        }
    }

    /// Says the end on both sides, and goes on saying it to late subscribers until [`Call::release`]. Without a leg, subscribers
    /// of a bridge's track know the bridge alone. Under `lease`, a fresh one, the namespaces are announced once more: that
    /// is when the relay asks for all that is wanted there, and is told the end.
    pub(super) fn close(&mut self, floor: &mut Floor<'_>, lease: Option<LeaseId>) {
        self.stats.line = self.leg.take().and_then(|leg| leg.line());
        if let Some(line) = self.stats.line {
            self.stats.gaps_up += line.packets_lost;
        }
        self.leave_speaker();
        self.waiting = None;
        self.control.close(floor);
        self.is_closed = true;
        self.last_words = lease;
        for side in [Side::Uplink, Side::Downlink] {
            for rendition in 0..self.side(side).len() {
                if let Way::In(incoming) = &self.side(side)[rendition] {
                    let (params, track) = (incoming.params, incoming.track);
                    floor.tracks.remove(&track);
                    floor.pool.close(floor.links, track);
                    let place = Place { call: self.key, side, rendition };
                    if let Some(way) = lease.and_then(|lease| self.way(floor, lease, place, params, true)) {
                        self.side_mut(side)[rendition] = way;
                    }
                }
            }
        }
        for way in self.ways() {
            floor.tracks.remove(&way.track());
            if let Way::Out(out) = way {
                floor.pool.end(floor.links, out.track, floor.now);
            }
        }
    }

    /// Gives everything back.
    pub(super) fn release(&mut self, floor: &mut Floor<'_>) {
        for lease in self.last_words.into_iter().chain([self.lease]) {
            floor.pool.release(floor.links, lease, floor.now);
        }
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = LeaseId> + use<> {
        self.last_words.into_iter().chain([self.lease])
    }

    pub(super) fn caller(&self) -> Caller {
        self.caller
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    /// Without a leg: who is a source and who is made of it may have changed. With one nothing ever turns.
    fn settle(&mut self, floor: &mut Floor<'_>, side: Side) {
        if self.caller == Caller::Leg || self.is_closed {
            return;
        }
        let source = self.has_source(side);
        let agent = side == Side::Downlink && self.speaker.is_some();
        for rendition in 0..self.side(side).len() {
            match &self.side(side)[rendition] {
                Way::In(incoming) if source && (agent || !incoming.live) => self.turn(floor, side, rendition, true),
                Way::Out(_) if !source => self.turn(floor, side, rendition, false),
                _ => {}
            }
        }
    }

    fn has_source(&self, side: Side) -> bool {
        let agent = side == Side::Downlink && self.speaker.is_some();
        agent || self.side(side).iter().any(Way::is_live)
    }

    /// Publishes what was heard, or hears what was published; also begins to hear afresh.
    fn turn(&mut self, floor: &mut Floor<'_>, side: Side, rendition: usize, out: bool) {
        let Some(old) = self.side(side).get(rendition) else { return };
        let (params, track, was_live) = (old.params(), old.track(), old.is_live());
        floor.tracks.remove(&track);
        floor.pool.close(floor.links, track);
        if was_live {
            let rendition = params.rendition();
            let _ = floor.events.send(Event::Speaking { sid: self.sid.clone(), side, rendition, live: false });
        }
        let place = Place { call: self.key, side, rendition };
        if let Some(way) = self.way(floor, self.lease, place, params, out) {
            self.side_mut(side)[rendition] = way;
        }
    }

    fn way(&self, floor: &mut Floor<'_>, lease: LeaseId, place: Place, params: Params, out: bool) -> Option<Way> {
        let track = names::track(&self.sid, place.side, &params.rendition()).ok()?;
        let (way, id) = if out {
            let properties = TrackProperties::default();
            let publish = PublishTrack {
                track,
                delivery: Delivery::Stream,
                frame_us: params.frame_us(),
                waits: false,
                properties,
            };
            let id = floor.pool.publish(floor.links, lease, publish, floor.now);
            (Way::Out(Outgoing::new(id, params)), id)
        } else {
            let id = floor.pool.subscribe(floor.links, lease, track, floor.now);
            (Way::In(Box::new(Incoming::new(id, params))), id)
        };
        floor.tracks.insert(id, place);
        Some(way)
    }

    fn side(&self, side: Side) -> &Vec<Way> {
        match side {
            Side::Uplink => &self.uplink,
            Side::Downlink => &self.downlink,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Vec<Way> {
        match side {
            Side::Uplink => &mut self.uplink,
            Side::Downlink => &mut self.downlink,
        }
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        self.uplink.iter().chain(&self.downlink)
    }
}

fn incoming(way: &mut Way) -> Option<&mut Incoming> {
    match way {
        Way::In(incoming) => Some(incoming),
        Way::Out(_) => None,
    }
}

/// One frame of a side's source into all that the engine publishes of that side.
fn write(floor: &mut Floor<'_>, side: &mut [Way], from: Params, frame: &Frame, timestamp_us: u64) {
    for way in side {
        if let Way::Out(out) = way {
            let track = out.track;
            out.make(from, frame, timestamp_us, |at_us, frame: Bytes| {
                floor.pool.write(floor.links, track, at_us, frame, floor.now);
            });
        }
    }
}
