//! A relay by itself, as `clutchcall relay` is told of it: [`Alone`], from TOML text. The words are those of an engine's `[relay]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::table::{Table, parsed};
use super::{Relaying, parse};
use crate::engine::outside;
use crate::moqt::Drafts;
use crate::net::tls::Identity;
use crate::relay::{self, KeySources};

/// What a relay without an engine is told, before its files are read.
#[derive(Clone, Debug)]
pub struct Alone {
    /// UDP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM; `None`: self-minted for loopback.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What is spoken, the preferred first.
    pub drafts: Drafts,
    /// Whose tokens count, and which count no longer.
    pub keys: KeySources,
    /// Shards, bounds, the relay that it is an edge of.
    pub relaying: Relaying,
    /// Anybody may do everything: only when it is written out.
    pub open: bool,
    /// Where `/healthz` and `/metrics` are answered (TCP).
    pub metrics: Option<SocketAddr>,
}

impl Alone {
    /// Relative paths start at `base`.
    pub fn from_toml(text: &str, base: &Path) -> Result<Self, String> {
        let mut table = Table::new(String::new(), parsed(text)?);
        let listen = parse::listen(&mut table, SocketAddr::from(([127, 0, 0, 1], super::RELAY_PORT)))?;
        let certificate = parse::certificate(&mut table, base)?;
        let drafts = parse::drafts(&mut table)?;
        let keys = parse::key_sources(&mut table, base)?;
        let metrics = table.parsed("metrics", "an address with a TCP port, such as \"127.0.0.1:9464\"")?;
        let open = table.truth("open")?;
        let relaying = Relaying::read(&mut table, base)?;
        table.finish()?;
        Ok(Self { listen, certificate, drafts, keys, relaying, open, metrics })
    }

    /// What the relay itself is told. Reads the roots to trust upstream.
    pub fn into_config(self, identity: Identity) -> Result<relay::Config, String> {
        let Self { listen, drafts, keys, relaying, open, metrics, .. } = self;
        let config = relay::Config { metrics, drafts, open, ..outside::relay_config(listen, identity, &relaying)? };
        Ok(relay::Config { keys, ..config })
    }
}
