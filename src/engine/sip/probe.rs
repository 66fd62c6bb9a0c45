//! Asks a trunk's far side once whether it is there, because somebody wants to know: the same question as [`Keepalive`]'s, whose
//! answer counts for the trunk's health too.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::options::Keepalive;
use crate::engine::config::Host;
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
        let Self { keepalive, registration } = self;
        let (settings, mut ask, begun) = (&keepalive.settings, keepalive.ask(), Instant::now());
        let late = || Err(format!("no answer within {} s", LIMIT.as_secs()));
        let answer = tokio::time::timeout(LIMIT, keepalive.once(&mut ask)).await.unwrap_or_else(|_| late());
        keepalive.note(answer.as_ref().map(|reply| reply.code).ok());
        let peer = settings.peer();
        let port = Some(peer.port.unwrap_or(settings.default_port()));
        probed(Some(Probe {
            peer: Host { port, ..peer.clone() }.to_string(),
            transport: settings.transport.as_str(),
            local: keepalive.stack.address(),
            answer: answer.map(|reply| (reply.code, reply.phrase)),
            after: begun.elapsed(),
            registration: registration.map(|state| still(*state.borrow(), Instant::now())),
        }));
    }
}

/// What was granted ends with its time.
fn still(state: State, now: Instant) -> State {
    match state {
        State::Registered { until } if until <= now => State::Unreachable,
        state => state,
    }
}
