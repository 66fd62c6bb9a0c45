//! The relay that this one is an edge of: where it is, and one shard's session to it, dialled again when it is lost.
//!
//! The control thread resolves the name and reads the token ([`Towards`]); a shard dials, with pauses that double, and hands the
//! session to its core once the other's SETUP has come. Each shard has a session of its own, for the namespaces that it
//! is in charge of.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use url::Url;

use crate::moqt::Drafts;
use crate::moqt::message::{Setup, Token};
use crate::net::{Dial, LinkId, Links, Trust};

/// Between two attempts: the first pause, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A session that stood so long begins anew with the first pause.
const STEADY: Duration = Duration::from_secs(30);

/// The relay that this one is an edge of.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// `moqt://` or `https://`.
    pub url: Url,
    pub trust: Trust,
    /// Our own token: what we may subscribe and publish there.
    pub token: Option<UpstreamToken>,
}

/// A token, or the file that it stands in, which is read again with every look at the name.
#[derive(Clone, PartialEq, Eq)]
pub enum UpstreamToken {
    Text(String),
    File(PathBuf),
}

impl std::fmt::Debug for UpstreamToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(file) => write!(f, "File({})", file.display()),
        }
    }
}

impl UpstreamToken {
    /// The error names the file.
    pub(super) fn read(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(file) => std::fs::read_to_string(file)
                .map(|text| text.trim().to_owned())
                .map_err(|error| format!("upstream token {}: {error}", file.display())),
        }
    }
}

/// What the control thread found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Towards {
    pub(super) address: SocketAddr,
    pub(super) token: Option<String>,
}

/// One shard's session to it.
pub(super) struct Dialler {
    config: UpstreamConfig,
    towards: Arc<ArcSwapOption<Towards>>,
    link: Option<LinkId>,
    since: Option<Instant>,
    again: Option<Instant>,
    pause: Duration,
}

impl Dialler {
    pub(super) fn new(config: UpstreamConfig, towards: Arc<ArcSwapOption<Towards>>) -> Self {
        Self { config, towards, link: None, since: None, again: None, pause: PAUSE }
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.link == Some(link)
    }

    /// Whether its session stands.
    pub(super) fn is_up(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again.filter(|_| self.link.is_none())
    }

    /// Dials if there is no session, its pause is over and its address is known.
    pub(super) fn dial(&mut self, links: &mut Links, implementation: &str, now: Instant) {
        if self.link.is_some() || self.again.is_some_and(|again| again > now) {
            return;
        }
        let Some(towards) = self.towards.load_full() else { return };
        let token = towards.token.iter().map(|text| Token { kind: 0, value: Bytes::from(text.clone()) });
        let setup =
            Setup { tokens: token.collect(), implementation: Some(implementation.to_owned()), ..Setup::default() };
        let (url, trust) = (self.config.url.clone(), self.config.trust.clone());
        self.again = None;
        let dial = Dial { url, address: towards.address, trust, drafts: Drafts::default(), setup };
        self.link = Some(links.dial(dial, now));
    }

    /// Its SETUP has come.
    pub(super) fn stands(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// It is gone; it is dialled again behind a pause.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.pause = PAUSE;
        }
        self.link = None;
        self.again = Some(now + self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}
