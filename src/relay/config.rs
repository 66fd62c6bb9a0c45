//! What a relay is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use super::keyring::KeySources;
use super::upstream::UpstreamConfig;
use crate::moqt::Drafts;
use crate::moqt::relay::{CacheLimits, Limits};
use crate::net::Handshakes;
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
    /// What one shard keeps for FETCH.
    pub cache: CacheLimits,
    pub admission: Admission,
    /// Where `/healthz` and `/metrics` are answered over HTTP (TCP); `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Threads with a UDP port each: the first is `listen`, the others follow it, or are free ones if its port is 0.
    pub shards: usize,
    /// Anybody may publish and subscribe everything, with or without a token. Only when the user writes it out.
    pub open: bool,
    /// The relay that this one is an edge of.
    pub upstream: Option<UpstreamConfig>,
}

impl Config {
    /// With the usual limits.
    pub fn new(listen: SocketAddr, identity: Identity, keys: KeySet) -> Self {
        let (limits, admission) = (Limits::default(), Admission::default());
        let drafts = Drafts::default();
        let (metrics, upstream) = (None, None);
        Self {
            listen,
            identity,
            drafts,
            keys: keys.into(),
            limits,
            cache: CacheLimits::default(),
            admission,
            metrics,
            shards: 1,
            open: false,
            upstream,
        }
    }
}

/// Who may become a session. Who comes beyond is closed with a reason; who is there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Of all peers on wires.
    pub sessions: usize,
    /// Of one IPv4 address or one IPv6 /64.
    pub sessions_per_address: usize,
    /// Whose SETUP brought a token of one identity ([`Rights::identity`](crate::moqt::relay::Rights::identity)); an engine's are not
    /// counted, and who shows tokens with requests only is counted by those.
    pub sessions_per_token: usize,
    /// A peer whose transport is up must say its SETUP within this time.
    pub setup_timeout: Duration,
    /// Connections of one shard in their handshake from which on newcomers must first prove their address (Retry, RFC 9000
    /// §8.1.2), and from which on they are refused.
    pub retry_from: usize,
    pub refuse_from: usize,
}

impl Default for Admission {
    fn default() -> Self {
        let Handshakes { retry_from, refuse_from } = Handshakes::default();
        let setup_timeout = Duration::from_secs(5);
        Self {
            sessions: 16 * 1024,
            sessions_per_address: 4096,
            sessions_per_token: 1024,
            setup_timeout,
            retry_from,
            refuse_from,
        }
    }
}
