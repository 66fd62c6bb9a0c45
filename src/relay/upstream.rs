//! The relay that this one is an edge of: where it is, and one shard's session to it, dialled again when it is lost.
//!
//! The control thread resolves the name and reads the token ([`Towards`]); a shard dials, with pauses that double, and hands the
//! session to its core once the other's SETUP has come. Each shard has a session of its own, for the namespaces that it
//! is in charge of.
//!
//! A GOAWAY of that relay is followed (§10.4): another session is dialled, where its URI says if our token may go there, and handed
//! to the core beside the first. Both bring what is subscribed, each object passes once, and the first is left a while after the other's
//! requests were accepted. A relay that drains and names no other place accepts none: it is heard to its end, and dialled again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use url::Url;

use crate::moqt::message::{GoAway, Setup, Token};
use crate::moqt::{CloseCode, Drafts};
use crate::net::{Dial, LinkId, Links, Trust};
use crate::tracks::migration::follow_to;

/// Between two attempts: the first pause, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A session that stood so long begins anew with the first pause.
const STEADY: Duration = Duration::from_secs(30);
/// A relay that drains ends soon: whether it, or another in its place, takes us again is asked this often meanwhile.
const SEEK: Duration = Duration::from_secs(1);
/// What was on its way on a session that another has replaced is heard for this long; by then the other brings it.
const LINGER: Duration = Duration::from_secs(2);

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
            Self::File(file) => crate::files::text(file, crate::files::SETTINGS)
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

/// One shard's sessions to it: the one that serves, and while its relay sends it away the one that is to take its place.
pub(super) struct Dialler {
    config: UpstreamConfig,
    towards: Arc<ArcSwapOption<Towards>>,
    current: Option<Way>,
    next: Option<Way>,
    /// Replaced: it brings what is on its way until this time.
    old: Option<(LinkId, Instant)>,
    /// The current one's relay said GOAWAY, to this URI; an empty one: come again where you came.
    sent_to: Option<String>,
    again: Option<Instant>,
    pause: Duration,
}

/// A session, dialled or standing.
struct Way {
    link: LinkId,
    since: Option<Instant>,
}

impl Dialler {
    pub(super) fn new(config: UpstreamConfig, towards: Arc<ArcSwapOption<Towards>>) -> Self {
        let (current, next, old, sent_to, again) = (None, None, None, None, None);
        Self { config, towards, current, next, old, sent_to, again, pause: PAUSE }
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        let ways = [&self.current, &self.next].into_iter().flatten().map(|way| way.link);
        ways.chain(self.old.map(|(link, _)| link)).any(|own| own == link)
    }

    /// Whether its session stands.
    pub(super) fn is_up(&self) -> bool {
        self.current.as_ref().is_some_and(|way| way.since.is_some())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let again = self.again.filter(|_| self.wants_one());
        again.into_iter().chain(self.old.map(|(_, until)| until)).min()
    }

    /// There is none, or the one there is has to go.
    fn wants_one(&self) -> bool {
        self.current.is_none() || (self.sent_to.is_some() && self.next.is_none())
    }

    /// Dials if a session is wanted, its pause is over and its address is known.
    pub(super) fn dial(&mut self, links: &mut Links, implementation: &str, now: Instant) {
        if !self.wants_one() || self.again.is_some_and(|again| again > now) {
            return;
        }
        let Some(towards) = self.towards.load_full() else { return };
        let token = towards.token.iter().map(|text| Token { kind: 0, value: Bytes::from(text.clone()) });
        let setup =
            Setup { tokens: token.collect(), implementation: Some(implementation.to_owned()), ..Setup::default() };
        let (url, address) = self.place(towards.address);
        self.again = None;
        let dial = Dial { url, address, trust: self.config.trust.clone(), drafts: Drafts::default(), setup };
        let way = Some(Way { link: links.dial(dial, now), since: None });
        match self.current {
            Some(_) => self.next = way,
            None => {
                // Where it was sent is tried once; after that the relay is where its name says.
                (self.current, self.sent_to) = (way, None);
            }
        }
    }

    /// Where GOAWAY wants us, if our token may go there, else where we came from.
    fn place(&self, address: SocketAddr) -> (Url, SocketAddr) {
        let stay = (self.config.url.clone(), address);
        let Some(uri) = self.sent_to.as_deref().filter(|uri| !uri.is_empty()) else { return stay };
        follow_to((&self.config.url, address), &self.config.trust, uri, super::control::RELAY_PORT).unwrap_or_else(
            |reason| {
                tracing::warn!(reason, "the upstream relay's GOAWAY is answered at the same address");
                stay
            },
        )
    }

    /// Its SETUP has come.
    pub(super) fn stands(&mut self, link: LinkId, now: Instant) {
        let way = [&mut self.current, &mut self.next].into_iter().flatten().find(|way| way.link == link);
        way.into_iter().for_each(|way| way.since = Some(now));
    }

    /// Another session is dialled beside the one that has to go. One that was to take its place and is sent away too leads nowhere,
    /// as to a relay that drains: it is left, and another is tried.
    pub(super) fn handle_goaway(&mut self, links: &mut Links, link: LinkId, goaway: &GoAway, now: Instant) {
        if self.next.take_if(|way| way.link == link).is_some() {
            links.close(link, CloseCode::NoError as u64, "sent away at once");
            self.again = Some(now + SEEK);
            return;
        }
        let Some(way) = self.current.as_ref().filter(|way| way.link == link) else { return };
        let settled = way.since.is_some_and(|since| now.saturating_duration_since(since) >= STEADY);
        self.sent_to = Some(goaway.uri.clone());
        match settled || self.pause == PAUSE {
            true => self.again = Some(now),
            false => self.rest(now),
        }
    }

    /// A request on this session was accepted. `true`: it takes over from the one before, which is left behind a while.
    pub(super) fn takes_over(&mut self, links: &mut Links, link: LinkId, now: Instant) -> bool {
        let Some(next) = self.next.take_if(|way| way.link == link) else { return false };
        let older = std::mem::replace(&mut self.old, self.current.take().map(|way| (way.link, now + LINGER)));
        if let Some((older, _)) = older {
            links.close(older, CloseCode::NoError as u64, "moved to another session");
        }
        // A relay that sends away whoever comes is not asked in a circle.
        (self.current, self.sent_to, self.pause) = (Some(next), None, (2 * self.pause).min(LONGEST_PAUSE));
        true
    }

    /// Leaves the session that was replaced.
    pub(super) fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        if let Some((link, _)) = self.old.take_if(|(_, until)| *until <= now) {
            links.close(link, CloseCode::NoError as u64, "moved to another session");
        }
    }

    /// It is gone. `true`: it served, and nothing stands in its place: it is dialled again, at once where GOAWAY named a place,
    /// else behind a pause.
    pub(super) fn lost(&mut self, link: LinkId, now: Instant) -> bool {
        if self.old.take_if(|(old, _)| *old == link).is_some() {
            return false;
        }
        if self.next.take_if(|way| way.link == link).is_some() {
            self.again = Some(now + SEEK);
            return false;
        }
        let Some(gone) = self.current.take_if(|way| way.link == link) else { return false };
        if gone.since.is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.pause = PAUSE;
        }
        self.current = self.next.take();
        let is_elsewhere = self.sent_to.as_ref().is_some_and(|uri| !uri.is_empty());
        match (&self.current, is_elsewhere) {
            (Some(_), _) => self.sent_to = None,
            (None, true) => self.again = Some(now),
            (None, false) => self.rest(now),
        }
        gone.since.is_some() && !self.is_up()
    }

    /// Not before a pause, and a longer one the next time.
    fn rest(&mut self, now: Instant) {
        self.again = Some(now + self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}
