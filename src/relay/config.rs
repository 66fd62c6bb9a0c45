//! What a relay is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use super::keyring::KeySources;
use crate::moqt::Drafts;
use crate::moqt::relay::Limits;
use crate::net::tls::Identity;
use crate::token::KeySet;

/// Where to listen, who we are, whose tokens count, and what one stranger may cost.
pub struct Config {
    pub listen: SocketAddr,
    /// Certificate and QUIC keys.
    pub identity: Identity,
    /// What is spoken, the preferred first.
    pub drafts: Drafts,
    /// Public keys of those who mint tokens, and the tokens that were revoked.
    pub keys: KeySources,
    /// For strangers on a wire; a port gets [`Limits::engine`].
    pub limits: Limits,
    pub admission: Admission,
    /// Where `/healthz` and `/metrics` are answered over HTTP (TCP); `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// With the usual limits.
    pub fn new(listen: SocketAddr, identity: Identity, keys: KeySet) -> Self {
        let (limits, admission) = (Limits::default(), Admission::default());
        let (drafts, keys) = (Drafts::default(), keys.into());
        Self { listen, identity, drafts, keys, limits, admission, metrics: None }
    }
}

/// Who may become a session. Who comes beyond is closed with a reason; who is there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Of all peers on wires.
    pub sessions: usize,
    /// Of one IPv4 address or one IPv6 /64.
    pub sessions_per_address: usize,
    /// A peer whose transport is up must say its SETUP within this time.
    pub setup_timeout: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { sessions: 16 * 1024, sessions_per_address: 4096, setup_timeout: Duration::from_secs(5) }
    }
}
