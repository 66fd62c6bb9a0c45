//! The relay with sockets: [`moqt::relay::Core`](crate::moqt::relay::Core) on [`net`](crate::net) workers.
//!
//! A [`Server`] is N shards, each one thread, one UDP port, one core; it starts with one. `clutchcall relay` runs it alone, the
//! engine opens one inside its process and reaches it through [`Server::port`]: a session without a socket and without a
//! privilege, under the same tokens, bounds and counters as a stranger's.
//!
//! | File | Holds |
//! |---|---|
//! | `config` | [`Config`]: where to listen, whose certificate, which keys, what limits |
//! | `auth` | tokens into rights: the [`Gate`](crate::moqt::relay::Gate) over [`token`](crate::token) |
//! | `shard` | the worker's app: sessions in, the core's words out; SETUP checked |
//!
//! It never parses audio, asks nobody about a token, and outlives whatever its peers do.

use std::net::SocketAddr;

use crate::moqt::relay::{Counters, Limits};
use crate::net::PortEnd;
use crate::token::KeySet;

/// What a relay is told at its start.
pub struct Config {
    pub listen: SocketAddr,
    /// Certificate and QUIC keys.
    pub identity: crate::net::tls::Identity,
    /// Public keys of those who mint tokens.
    pub keys: KeySet,
    /// For strangers on a wire; a port gets [`Limits::engine`].
    pub limits: Limits,
}

/// A running relay. Dropping it ends its threads; links are closed first.
pub struct Server {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Server {
    /// Binds and starts. The error names the address and the remedy.
    pub fn start(config: Config) -> Result<Self, String> {
        todo!()
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// One end of a session without a socket; the other is taken by the shard.
    pub fn port(&self) -> PortEnd {
        todo!()
    }

    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// Closes every session and joins the threads.
    pub fn shutdown(self) {
        todo!()
    }
}
