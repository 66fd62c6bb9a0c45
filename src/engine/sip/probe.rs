//! Asks a trunk's far side once whether it is there, because somebody wants to know: the same question as [`Keepalive`]'s, whose
//! answer counts for the trunk's health too.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::options::Keepalive;
use crate::engine::trunk::{Probe, Probed};
use crate::sip::registration::State;

/// Whoever asks waits no longer.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Question {
    pub(super) keepalive: Keepalive,
    /// Of a trunk that registers.
    pub(super) registration: Option<watch::Receiver<State>>,
}

impl Question {
    pub(super) async fn run(self, probed: Probed) {
        let (keepalive, begun) = (&self.keepalive, Instant::now());
        let mut ask = keepalive.ask();
        let late = || Err(format!("no answer within {} s", LIMIT.as_secs()));
        let asked = tokio::time::timeout(LIMIT, keepalive.once(&mut ask)).await;
        let answer = asked.unwrap_or_else(|_| late());
        keepalive.note(answer.as_ref().map(|reply| reply.code).ok());
        probed(Some(self.probe(answer.map(|reply| (reply.code, reply.phrase)), ask.place, begun.elapsed())));
    }

    /// Too many wait for their answers already: it is not asked.
    pub(super) fn refuse(self, probed: Probed) {
        let why = format!("it was not asked: too many ask already, try again in {} s", LIMIT.as_secs());
        probed(Some(self.probe(Err(why), None, Duration::ZERO)));
    }

    fn probe(&self, answer: Result<(u16, String), String>, address: Option<SocketAddr>, after: Duration) -> Probe {
        let Self { keepalive, registration } = self;
        Probe {
            peer: keepalive.settings.hop().to_string(),
            address,
            transport: keepalive.settings.transport.as_str(),
            local: keepalive.stack.address(),
            answer,
            after,
            registration: registration.as_ref().map(|state| still(*state.borrow(), Instant::now())),
        }
    }
}

/// What was granted ends with its time.
fn still(state: State, now: Instant) -> State {
    match state {
        State::Registered { until } if until <= now => State::Unreachable,
        state => state,
    }
}
