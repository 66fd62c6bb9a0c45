//! The control streams: SETUP (§10.3), GOAWAY (§10.4), every timer of the session, and its end.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::outbound::Queued;
use super::streams::Stream;
use super::{Dir, Event, Role, Session, StreamId, Transmit, constants, priority};
use crate::moqt::error::{CloseCode, ResetCode, Violation};
use crate::moqt::message::{GoAway, Message, Setup};

/// A time that the application asked for between two calls of the link: it is counted from the next of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    In(Duration),
    At(Instant),
}

impl Deadline {
    pub(super) fn counted_from(self, now: Instant) -> Instant {
        match self {
            Self::In(time) => now + time,
            Self::At(at) => at,
        }
    }
}

impl Session {
    pub(super) fn queue(&mut self, transmit: Transmit) {
        self.transmits.push_back(Queued::Ready(transmit));
    }

    pub(super) fn open(&mut self, dir: Dir, priority: i32) -> StreamId {
        let stream = StreamId(self.opened_streams * 2);
        self.opened_streams += 1;
        self.queue(Transmit::Open { stream, dir, priority });
        stream
    }

    /// `false`: the message can't be said; nothing was queued.
    pub(super) fn send(&mut self, stream: StreamId, message: &Message) -> bool {
        let mut data = BytesMut::new();
        let fits = message.encode(self.draft, &mut data).is_ok();
        if fits {
            if let Some(Stream::Request(state)) = self.streams.get_mut(&stream) {
                state.unwritten += data.len();
            }
            self.queue(Transmit::Data { stream, data: data.freeze() });
        }
        fits
    }

    pub(super) fn send_setup(&mut self, mut setup: Setup) {
        setup.max_request_updates = constants::EARLY_UPDATES as u64;
        self.control = self.open(Dir::Uni, priority::CONTROL);
        if !self.send(self.control, &Message::Setup(setup)) {
            self.close(CloseCode::InternalError as u64, "our own SETUP is longer than 65535 bytes");
        }
    }

    pub(super) fn read_control(&mut self, stream: StreamId, fin: bool) {
        while !self.closed {
            let Some(Stream::Control(reader)) = self.streams.get_mut(&stream) else { return };
            match reader.read() {
                Ok(Some(Message::Setup(setup))) => self.handle_setup(setup),
                Ok(Some(Message::GoAway { goaway, request })) => self.handle_goaway(goaway, request),
                Ok(Some(_)) => self.fail(Violation::protocol("a request's message on the control stream")),
                Ok(None) if fin => self.control_lost(),
                Ok(None) => return,
                Err(violation) => self.fail(violation),
            }
        }
    }

    fn handle_setup(&mut self, mut setup: Setup) {
        if self.is_set_up {
            return self.fail(Violation::protocol("a second SETUP"));
        }
        if self.role == Role::Client && setup.path.is_some() {
            return self.fail(Violation::new(CloseCode::InvalidPath, "a PATH from a server"));
        }
        if self.role == Role::Client && setup.authority.is_some() {
            return self.fail(Violation::new(CloseCode::InvalidAuthority, "an AUTHORITY from a server"));
        }
        for form in std::mem::take(&mut setup.token_aliases) {
            match self.token_cache.resolve_setup(form) {
                Ok(token) => setup.tokens.push(token),
                Err(violation) => return self.fail(violation),
            }
        }
        self.is_set_up = true;
        // 0, or nothing said, is no bound (draft 20 §"MAX_REQUEST_UPDATES").
        if setup.max_request_updates != 0 {
            self.peer_updates = self.peer_updates.min(setup.max_request_updates);
        }
        self.events.push_back(Event::Setup(setup));
        self.aliases.restart(self.now);
        self.early_bytes = 0;
        if self.streams.values().any(|stream| matches!(stream, Stream::Unknown(_))) {
            self.watch_stalls();
        }
        for stream in std::mem::take(&mut self.early) {
            self.read_request(stream);
        }
    }

    fn handle_goaway(&mut self, goaway: GoAway, request: Option<u64>) {
        let ours = u64::from(self.role == Role::Server);
        let violation = match request {
            _ if self.goaway_received => Some(Violation::protocol("a second GOAWAY")),
            _ if self.role == Role::Server && !goaway.uri.is_empty() => {
                Some(Violation::protocol("a client sends a server elsewhere"))
            }
            None if self.draft.profile().goaway_has_request => {
                Some(Violation::protocol("a GOAWAY without a Request ID"))
            }
            None => None,
            Some(id) if id % 2 != ours => {
                Some(Violation::new(CloseCode::InvalidRequestId, "a GOAWAY with a Request ID of its sender"))
            }
            Some(_) => None,
        };
        if let Some(violation) = violation {
            return self.fail(violation);
        }
        self.goaway_received = true;
        self.events.push_back(Event::GoAway(goaway));
    }

    /// Neither control stream may end before the session (§3.3).
    pub(super) fn control_lost(&mut self) {
        self.fail(Violation::protocol("a control stream that ends"));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let goaway = self.goaway_by.map(|by| match by {
            Deadline::In(_) => self.now,
            Deadline::At(at) => at,
        });
        let setup = if self.is_set_up { self.aliases.next_deadline() } else { Some(self.setup_by) };
        let ending = self.ending.front().map(|(at, _)| *at);
        let moving = self.moving.iter().map(|(by, _)| match by {
            Deadline::In(_) => self.now,
            Deadline::At(at) => *at,
        });
        let timers = [goaway, setup, ending, self.next_late(), self.next_stall()];
        timers.into_iter().flatten().chain(moving).min()
    }

    pub(super) fn expire(&mut self) {
        if !self.is_set_up && self.setup_by <= self.now {
            return self.fail(Violation::new(CloseCode::ControlMessageTimeout, "no SETUP in time"));
        }
        match self.goaway_by {
            Some(Deadline::In(time)) => self.goaway_by = Some(Deadline::At(self.now + time)),
            Some(Deadline::At(at)) if at <= self.now => {
                self.goaway_by = None;
                if !self.requests.is_empty() {
                    return self.fail(Violation::new(CloseCode::GoAwayTimeout, "requests are open after GOAWAY"));
                }
            }
            _ => {}
        }
        while let Some((_, request)) = self.ending.pop_front_if(|(at, _)| *at <= self.now) {
            self.end_subscription(request);
        }
        self.drop_late();
        self.reset_unmoved();
        self.close_stalled();
        if self.closed {
            return;
        }
        if self.is_set_up {
            let (streams, datagrams) = self.aliases.expire(self.now);
            self.counters.unknown_datagrams += datagrams;
            for stream in streams {
                self.counters.unknown_streams += 1;
                self.discard(stream, ResetCode::Cancelled);
            }
        }
    }

    // ---- the session ----

    /// Says that this session is about to end; later requests of the peer are refused with GOING_AWAY. A client can't name a URI.
    /// Only the first call counts.
    pub fn goaway(&mut self, mut goaway: GoAway) {
        if self.closed || self.goaway_sent {
            return;
        }
        if self.role == Role::Client {
            goaway.uri.clear();
        }
        self.goaway_by = goaway.timeout.map(Deadline::In);
        let request = Some(self.peer_ids.next());
        self.goaway_sent = self.send(self.control, &Message::GoAway { goaway, request });
    }

    pub fn close(&mut self, code: u64, reason: &str) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.queue(Transmit::Close { code, reason: reason.to_owned() });
        self.events.push_back(Event::Closed { code, reason: reason.to_owned() });
        self.streams.clear();
        self.requests.clear();
    }

    pub(super) fn fail(&mut self, violation: Violation) {
        self.close(violation.code as u64, violation.reason);
    }
}
