//! What an engine is told at its start: [`Config`], from `clutchcall.toml`, from `CLUTCHCALL_*`, or from code.
//!
//! A value of the environment wins over the file's. A key that nobody reads is an error that names the nearest one; a wrong value
//! names its key and the remedy. Paths in a file are relative to the file. API keys are kept as salted hashes only.
//!
//! | File | Holds |
//! |---|---|
//! | `table` | one TOML table being read: typed values, leftovers, nearest names |
//! | `parse` | TOML into [`Config`] |
//! | `alone` | [`Alone`]: a relay without an engine |
//! | `relay` | what a relay is told wherever it runs |
//! | `inbound` | [`Inbound`]: what becomes of calls that come in |
//! | `trunk`, `trunks` | [`Trunk`]: a line that carries calls; how its table is read |
//! | `env` | `CLUTCHCALL_*` laid over the file |
//! | `key` | [`ApiKey`]: organisation, scopes, salted hash |
//! | `keyfile` | [`keyfile`]: keys that come and go while the engine runs |
//!
//! The room reads files and the environment; it opens no socket and starts nothing.

mod alone;
mod env;
mod inbound;
mod key;
pub mod keyfile;
mod parse;
mod relay;
mod table;
mod trunk;
mod trunks;

#[cfg(test)]
mod inbound_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trunk_tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::webhooks;
use crate::moqt::Drafts;
use crate::relay::KeySources;

pub use alone::Alone;
pub use inbound::{Challenge, Inbound, InboundRule, NumberPattern, Then, callback_url, may_be_told};
#[cfg(test)]
pub(super) use key::compared;
pub(super) use key::hex;
pub use key::{ApiKey, MOST_KEY_BYTES, SCOPES, mint};
pub use relay::{Relaying, Upstream};
pub use trunk::{CallerId, Credentials, DtmfMode, Host, Secret, SipTrunk, Transport, Trunk, TrunkKind};
pub(super) use trunk::{SIP_PORT, SIPS_PORT};

/// The trunk and the agent that a development engine has.
const DEV_TRUNK: &str = "trunk_main";
const DEV_AGENT: &str = "echo";
const DEV_ORG: &str = "org_dev";
/// Where the API listens unless told otherwise.
const API_PORT: u16 = 8080;
/// Where the relay listens unless told otherwise (UDP).
const RELAY_PORT: u16 = 4433;

/// Bridges per connection to the engine's own relay, and the most anywhere: a lost packet costs a frame of a few calls, a dead
/// connection so many calls their path (decision 0045).
pub const POOL: usize = 32;

/// Every key with its default and what it is for; a file to begin with.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Everything an engine is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Records, certificate, QUIC keys and the signing key live here, readable by the owner only.
    pub state: PathBuf,
    /// Part of every sid: letters and digits, at most 8.
    pub node: String,
    pub audio_threads: usize,
    pub api: Api,
    pub relay: Relay,
    pub dns: Dns,
    pub phone: Phone,
    pub keys: Vec<ApiKey>,
    pub orgs: BTreeMap<String, Org>,
    pub webhooks: Webhooks,
    pub trunks: BTreeMap<String, Trunk>,
    pub agents: BTreeMap<String, Agent>,
    pub limits: Limits,
    /// The text of a key that was minted for this run; no file holds it.
    pub minted: Option<Minted>,
}

/// A key in plain text and whose it is.
#[derive(Clone)]
pub struct Minted {
    pub org: String,
    pub key: String,
}

#[derive(Clone, Debug)]
pub struct Api {
    /// TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Keys beside [`Config::keys`], read again when they change; there need not be one.
    pub keys_file: PathBuf,
    /// Certificate chain and key, PEM; `None`: plain HTTP.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// The engine's own relay, or the foreign one that it publishes to.
#[derive(Clone, Debug)]
pub struct Relay {
    /// UDP; port 0 takes a free one. Unused with `url`.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM; `None`: self-minted for loopback.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Keys beside the engine's own whose tokens count, and revoked tokens. Unused with `url`.
    pub keys: KeySources,
    /// Its shards, bounds and upstream relay. Unused with `url`.
    pub relaying: Relaying,
    /// A relay that runs elsewhere: the engine publishes there and opens none of its own.
    pub url: Option<Url>,
    /// Whom to trust at `url`.
    pub trust: Trust,
    /// What bridges are told to dial, where it differs from `url` or the bound address.
    pub public_url: Option<Url>,
    pub web_transport_url: Option<Url>,
    /// What its own relay speaks, or is offered at `url`; the preferred first.
    pub drafts: Drafts,
    /// Bridges that may share one connection; `None`: [`POOL`] on the engine's own relay, one elsewhere.
    pub pool: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The machine's root certificates.
    System,
    /// A PEM file of roots.
    Roots(PathBuf),
    /// SHA-256 of leaf certificates.
    Hashes(Vec<[u8; 32]>),
    /// Whatever the server shows; only when written out as `trust = "anything"`.
    Anything,
}

/// Who is asked for the SRV records of trunks.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Empty: the machine's own name servers.
    pub servers: Vec<SocketAddr>,
}

/// The simulated phone behind trunks of kind `phone`.
#[derive(Clone, Debug, Default)]
pub struct Phone {
    /// A WAV that the phone says when it answers.
    pub clip: Option<PathBuf>,
    /// A folder into which it records what it hears.
    pub record: Option<PathBuf>,
    /// Hz of its recordings, one of Opus's rates; `None`: the phone's own default.
    pub record_rate: Option<u32>,
    /// How long it rings before it picks up; `None`: the phone's own default.
    pub ring: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub struct Org {
    pub display_name: Option<String>,
    /// Signs what is told of its calls; `None`: nothing does.
    pub webhook_secret: Option<webhooks::Secret>,
}

/// How what becomes of calls is told to HTTP servers.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    pub pace: webhooks::Pace,
    /// The only hosts to which `status_callback` may lead, `*.example.com` for all below; empty: any.
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub kind: AgentKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Says what it hears.
    Echo,
}

impl AgentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls at the same time, over all trunks.
    pub calls: usize,
    /// TCP connections of the API, and how many of them from one IPv4 address or one IPv6 /64; 0: no bound of its own.
    pub connections: usize,
    pub connections_per_address: usize,
    /// What the head of a request may take, a connection between two requests, and a body.
    pub head: Duration,
    pub idle: Duration,
    pub body: Duration,
    /// Of one request's input.
    pub body_bytes: usize,
    /// Requests per second of one API key, and how many may come at once.
    pub requests_per_s: u32,
    pub request_burst: u32,
    /// Ended calls that are kept, by number, by age, and by the size of the file.
    pub records: u64,
    pub record_days: u64,
    pub store_mb: u64,
    /// How long a token for the relay counts. Whoever has one fetches the next ahead of its end.
    pub token_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 2000,
            connections: 1024,
            connections_per_address: 0,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            body: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            requests_per_s: 5000,
            request_burst: 10_000,
            records: 100_000,
            record_days: 30,
            store_mb: 1024,
            token_ttl: Duration::from_secs(3600),
        }
    }
}

impl Config {
    /// An engine without keys, trunks and agents that listens on loopback.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let state = state.into();
        Self {
            api: Api { listen: loopback(API_PORT), keys_file: state.join(keyfile::NAME), certificate: None },
            state,
            node: "1".to_owned(),
            audio_threads: 1,
            relay: Relay {
                listen: loopback(RELAY_PORT),
                certificate: None,
                keys: KeySources::default(),
                relaying: Relaying::default(),
                url: None,
                trust: Trust::System,
                public_url: None,
                web_transport_url: None,
                drafts: Drafts::default(),
                pool: None,
            },
            dns: Dns::default(),
            phone: Phone::default(),
            keys: Vec::new(),
            orgs: BTreeMap::new(),
            webhooks: Webhooks::default(),
            trunks: BTreeMap::new(),
            agents: BTreeMap::new(),
            limits: Limits::default(),
            minted: None,
        }
    }

    /// The development engine: loopback, free ports, one organisation with a fresh key, the simulated phone behind
    /// `trunk_main`, and the `echo` agent.
    pub fn dev(state: impl Into<PathBuf>) -> Self {
        let mut config = Self::new(state);
        config.api.listen.set_port(0);
        config.relay.listen.set_port(0);
        config.orgs.insert(DEV_ORG.to_owned(), Org::default());
        config.trunks.insert(DEV_TRUNK.to_owned(), Trunk::default());
        config.agents.insert(DEV_AGENT.to_owned(), Agent { kind: AgentKind::Echo });
        let (key, text) = mint(DEV_ORG, &["voice:*"]);
        config.keys.push(key);
        config.minted = Some(Minted { org: DEV_ORG.to_owned(), key: text });
        config
    }

    /// Reads a file and lays this process's `CLUTCHCALL_*` over it.
    pub fn load(path: &Path) -> Result<Self, String> {
        Self::load_with(path, std::env::vars())
    }

    /// The same with an environment of the caller's.
    pub fn load_with(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let text = crate::files::text(path, crate::files::SETTINGS)
            .map_err(|e| format!("{} can't be read: {e}", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::from_toml(&text, base, environment).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// From TOML text; relative paths start at `base`.
    pub fn from_toml(
        text: &str,
        base: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let mut root = table::parsed(text)?;
        env::overlay(&mut root, environment)?;
        parse::config(root, base)
    }
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Minted(org {})", self.org)
    }
}
