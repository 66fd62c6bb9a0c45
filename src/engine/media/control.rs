//! A call's control track: what bridges learn of the call beside its audio. The messages are [`call::control`](crate::call::control)'s.
//!
//! It is announced with the call and ends with it. A key is told once, when it is let go, with the time at which it was pressed; the
//! digits stand in no log. Nothing is kept for who comes later; on a path that gives no answer keys wait for it. A key that comes as a
//! telephone event and is signalled (SIP INFO) too, whichever is first, is one key and told once ([`Lately`]).

use std::sync::Arc;

use super::call::Floor;
use super::lately::Lately;
use crate::call::control::{Dtmf, Message, Source};
use crate::moqt::message::TrackProperties;
use crate::tracks::{Delivery, LeaseId, PublishTrack, TrackId, Written, names};

/// So few that a thousand keys in a row, none 2 s after the one before, are one group: within a group nothing overtakes.
const OBJECT_US: u32 = 1000;

pub(super) struct Control {
    sid: Arc<str>,
    /// `None`: the sid is no name of a track, or the call is closed.
    track: Option<TrackId>,
    /// What is held down now, and since when.
    pressed: Option<(char, u64)>,
    /// What is held down now was signalled before, and told.
    is_told: bool,
    /// Keys that came as telephone events, and those that were signalled and may still come as one.
    events: Lately,
    signalled: Lately,
}

impl Control {
    pub(super) fn new(sid: Arc<str>) -> Self {
        let (events, signalled) = Default::default();
        Self { sid, track: None, pressed: None, is_told: false, events, signalled }
    }

    pub(super) fn open(&mut self, floor: &mut Floor<'_>, lease: LeaseId) {
        let Ok(track) = names::control(&self.sid) else { return };
        let properties = TrackProperties::default();
        let publish = PublishTrack { track, delivery: Delivery::Stream, frame_us: OBJECT_US, waits: true, properties };
        self.track = Some(floor.pool.publish(floor.links, lease, publish, floor.now));
    }

    /// END_OF_TRACK.
    pub(super) fn close(&mut self, floor: &mut Floor<'_>) {
        if let Some(track) = self.track.take() {
            floor.pool.end(floor.links, track, floor.now);
        }
    }

    /// A key that a leg has heard: pressed, or let go. `false`: it was signalled before, and came then.
    pub(super) fn handle_key(&mut self, floor: &mut Floor<'_>, key: char, ended_ms: Option<u32>) -> bool {
        self.events.note(key, floor.now);
        let now_us = floor.stamps.at(floor.now);
        let Some(duration_ms) = ended_ms else {
            self.pressed = Some((key, now_us));
            self.is_told = self.signalled.take(key, floor.now);
            return !self.is_told;
        };
        if std::mem::take(&mut self.is_told) {
            return false;
        }
        let since_us = self.pressed.take().filter(|(pressed, _)| *pressed == key).map(|(_, since_us)| since_us);
        let at_us = since_us.unwrap_or_else(|| before(now_us, duration_ms));
        self.tell(floor, Dtmf::new(key, duration_ms, at_us, Source::Rfc4733));
        true
    }

    /// A key that was signalled. `false`: it has come already.
    pub(super) fn handle_signalled(&mut self, floor: &mut Floor<'_>, key: char, duration_ms: u32) -> bool {
        let is_new = !self.events.has(key, floor.now);
        if is_new {
            self.signalled.note(key, floor.now);
            let at_us = before(floor.stamps.at(floor.now), duration_ms);
            self.tell(floor, Dtmf::new(key, duration_ms, at_us, Source::Info));
        }
        is_new
    }

    fn tell(&self, floor: &mut Floor<'_>, dtmf: Dtmf) {
        let Some(track) = self.track else { return };
        let at_us = dtmf.at_us;
        let object = Message::Dtmf(dtmf).write().into();
        let written = floor.pool.write(floor.links, track, at_us, object, floor.now);
        if matches!(written, Written::Offline | Written::Behind) {
            tracing::warn!(sid = %self.sid, ?written, "a key is not told: the way to the relay is down, or far behind");
        }
    }
}

fn before(now_us: u64, duration_ms: u32) -> u64 {
    now_us.saturating_sub(u64::from(duration_ms) * 1000)
}
