//! A call's control track: what bridges learn of the call beside its audio. The messages are [`call::control`](crate::call::control)'s.
//!
//! It is announced with the call and ends with it. A key is told once, when it is let go, with the time at which it was pressed; the
//! digits stand in no log. Nothing is kept for who comes later. Where the far end sends keys as telephone events, what it
//! signals besides (SIP INFO) is the same key once more, and passed over.

use std::sync::Arc;

use super::call::Floor;
use crate::call::control::{Dtmf, Message, Source};
use crate::moqt::message::TrackProperties;
use crate::tracks::{Delivery, LeaseId, PublishTrack, TrackId, names};

/// So few that a thousand keys in a row, none 2 s after the one before, are one group: within a group nothing overtakes.
const OBJECT_US: u32 = 1000;

pub(super) struct Control {
    sid: Arc<str>,
    /// `None`: the sid is no name of a track, or the call is closed.
    track: Option<TrackId>,
    /// What is held down now, and since when.
    pressed: Option<(char, u64)>,
    /// The far end sends telephone events.
    has_events: bool,
}

impl Control {
    pub(super) fn new(sid: Arc<str>) -> Self {
        Self { sid, track: None, pressed: None, has_events: false }
    }

    pub(super) fn open(&mut self, floor: &mut Floor<'_>, lease: LeaseId) {
        let Ok(track) = names::control(&self.sid) else { return };
        let properties = TrackProperties::default();
        let publish = PublishTrack { track, delivery: Delivery::Stream, frame_us: OBJECT_US, properties };
        self.track = Some(floor.pool.publish(floor.links, lease, publish, floor.now));
    }

    /// END_OF_TRACK.
    pub(super) fn close(&mut self, floor: &mut Floor<'_>) {
        if let Some(track) = self.track.take() {
            floor.pool.end(floor.links, track, floor.now);
        }
    }

    /// A key that a leg has heard: pressed, or let go.
    pub(super) fn handle_key(&mut self, floor: &mut Floor<'_>, key: char, ended_ms: Option<u32>) {
        self.has_events = true;
        let now_us = floor.stamps.at(floor.now);
        let Some(duration_ms) = ended_ms else {
            self.pressed = Some((key, now_us));
            return;
        };
        let since_us = self.pressed.take().filter(|(pressed, _)| *pressed == key).map(|(_, since_us)| since_us);
        let at_us = since_us.unwrap_or_else(|| before(now_us, duration_ms));
        self.tell(floor, Dtmf::new(key, duration_ms, at_us, Source::Rfc4733));
    }

    /// A key that was signalled. `false`: it has come already.
    pub(super) fn handle_signalled(&mut self, floor: &mut Floor<'_>, key: char, duration_ms: u32) -> bool {
        if !self.has_events {
            let at_us = before(floor.stamps.at(floor.now), duration_ms);
            self.tell(floor, Dtmf::new(key, duration_ms, at_us, Source::Info));
        }
        !self.has_events
    }

    fn tell(&self, floor: &mut Floor<'_>, dtmf: Dtmf) {
        let Some(track) = self.track else { return };
        let at_us = dtmf.at_us;
        let object = Message::Dtmf(dtmf).write().into();
        floor.pool.write(floor.links, track, at_us, object, floor.now);
    }
}

fn before(now_us: u64, duration_ms: u32) -> u64 {
    now_us.saturating_sub(u64::from(duration_ms) * 1000)
}
