//! From a URL to a dial: names resolved, trust chosen, SETUP filled. Runs on the control thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::moqt::Drafts;
use crate::moqt::message::{Setup, Token};
use crate::net::shown::{is_doubtful, origin};
use crate::net::{Dial, Trust};
use crate::tracks::migration;

/// MoQT over raw QUIC when the URL names no port.
const DEFAULT_PORT: u16 = 443;
/// A name server that says nothing holds up one attempt, not its holder.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
const IMPLEMENTATION: &str = concat!("clutchcall/", env!("CARGO_PKG_VERSION"));

/// A relay, and whose certificate it must show.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) url: Url,
    /// SHA-256 of the certificates to accept; empty: the machine's roots decide.
    pub(super) hashes: Vec<[u8; 32]>,
    /// The user wrote out that any certificate will do.
    pub(super) anything: bool,
    /// What is offered, the preferred first.
    pub(super) drafts: Drafts,
}

impl Relay {
    /// The error names what is wrong with the text.
    pub(super) fn new(url: &str, hashes: &[String], anything: bool) -> Result<Self, String> {
        let parsed = Url::parse(url.trim()).map_err(|_| format!("{:?} is no URL", origin(url)))?;
        if !matches!(parsed.scheme(), "moqt" | "moq" | "quic" | "https") {
            return Err(format!("{:?} is no address of a relay: write moqt:// or https:// and a host", origin(url)));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(format!("{:?} names no host", origin(url)));
        }
        if is_doubtful(&parsed) {
            return Err(format!(
                "{:?} has an @ behind its host: write %40 for it, and %2F for a / in a password",
                origin(url)
            ));
        }
        let hashes = hashes.iter().map(|hash| parse_hash(hash)).collect::<Result<_, _>>()?;
        Ok(Self { url: parsed, hashes, anything, drafts: Drafts::default() })
    }

    /// The same relay, asked for these drafts.
    pub(super) fn with_drafts(self, drafts: Drafts) -> Self {
        Self { drafts, ..self }
    }

    /// The same relay under another host (and port, where one is given).
    pub(super) fn at_host(mut self, host: &str) -> Self {
        // The scheme decides how a host is read, so it is read under the one it was checked with.
        let Ok(host) = Url::parse(&format!("https://{host}")) else { return self };
        let name = host.host_str().unwrap_or_default();
        // Neither fails: the URL has a host, and the new one was read as a host.
        let _ = self.url.set_host(Some(name));
        if let Some(port) = host.port() {
            let _ = self.url.set_port(Some(port));
        }
        self
    }

    /// Where the relay wants us, if our tokens may go there; else here again.
    pub(super) fn follow(mut self, uri: Option<&str>) -> Self {
        match uri.map(|uri| migration::follow(&self.url, &self.trust(), uri)) {
            Some(Ok(url)) => self.url = url,
            Some(Err(reason)) => tracing::warn!(reason, "the relay's GOAWAY is answered at the same address"),
            None => {}
        }
        self
    }

    fn trust(&self) -> Trust {
        match () {
            () if self.anything => Trust::Anything,
            () if self.hashes.is_empty() => Trust::System,
            () => Trust::Hashes(self.hashes.clone()),
        }
    }

    /// A dial of now. `attempt` walks through the addresses of the name.
    pub(super) async fn dial(&self, tokens: Vec<Token>, attempt: &AtomicUsize) -> Result<Dial, String> {
        let address = self.resolve(attempt.fetch_add(1, Relaxed)).await?;
        let trust = self.trust();
        // Over WebTransport the CONNECT request carries both (draft-18 §3.1.3).
        let raw = self.url.scheme() != "https";
        let setup = Setup {
            path: raw.then(|| self.path()),
            authority: raw.then(|| self.authority()),
            tokens,
            implementation: Some(IMPLEMENTATION.to_owned()),
            ..Setup::default()
        };
        Ok(Dial { url: self.url.clone(), address, trust, drafts: self.drafts.clone(), setup })
    }

    async fn resolve(&self, attempt: usize) -> Result<SocketAddr, String> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().unwrap_or(DEFAULT_PORT);
        let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port)));
        let found: Vec<SocketAddr> = found
            .await
            .map_err(|_| format!("no name server told the address of the relay {host}"))?
            .map_err(|error| format!("the relay's name {host} does not resolve: {error}"))?
            .collect();
        let first = found.get(attempt % found.len().max(1));
        first.copied().ok_or_else(|| format!("the relay's name {host} has no address"))
    }

    fn path(&self) -> String {
        let path = if self.url.path().is_empty() { "/" } else { self.url.path() };
        self.url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// A token as it goes into SETUP and requests (kind 0: agreed out of band).
pub(super) fn token(text: &str) -> Token {
    Token { kind: 0, value: Bytes::copy_from_slice(text.as_bytes()) }
}

fn parse_hash(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("certificate hash {text:?} is not 64 hexadecimal digits (SHA-256)");
    let digits = text.replace(':', "");
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_host_replaces_host_and_port() {
        let relay = Relay::new("moqt://127.0.0.1:4443/voice?x=1", &[], false).unwrap();
        assert_eq!(relay.clone().at_host("relay.example").url.as_str(), "moqt://relay.example:4443/voice?x=1");
        let relay = relay.at_host("[::1]:99");
        assert_eq!((relay.url.host_str(), relay.url.port()), (Some("[::1]"), Some(99)));
        assert_eq!((relay.path().as_str(), relay.authority().as_str()), ("/voice?x=1", "[::1]:99"));
        assert_eq!(Relay::new("moqt://h:1", &[], false).unwrap().path(), "/");
    }

    #[test]
    fn a_goaways_uri_is_followed_where_our_tokens_may_go() {
        let pinned = Relay::new("moqt://h:1", &["ab".repeat(32)], false).unwrap();
        let known = Relay::new("moqt://h:1", &[], false).unwrap();
        let follow = |relay: &Relay, uri| relay.clone().follow(uri).url.to_string();
        assert_eq!(follow(&pinned, Some("moqt://other:2/x")), "moqt://other:2/x");
        assert_eq!(follow(&known, Some("moqt://other:2/x")), "moqt://h:1");
        assert_eq!(
            (follow(&known, Some("moqt://h:2")), follow(&known, None)),
            ("moqt://h:2".into(), "moqt://h:1".into())
        );
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_secrets() {
        for url in
            ["moqt://us3r:pa/55@h", "moqt://us3r:1/55@h", "moqt://us3r:pa@55@@h:x", "ftp://us3r:55@h", "us3r:55@h"]
        {
            let told = Relay::new(url, &[], false).unwrap_err();
            assert!(!["us3r", "55"].iter().any(|secret| told.contains(secret)), "{url}: {told}");
        }
    }

    #[test]
    fn what_is_no_relay_is_said() {
        for url in ["h:1", "http://h", "ftp://h", "moqt:///x", ""] {
            assert!(Relay::new(url, &[], false).is_err(), "{url}");
        }
        let hash = "AB:".repeat(31) + "cd";
        assert_eq!(Relay::new("https://h", &[hash], false).unwrap().hashes[0][31], 0xcd);
        assert!(Relay::new("https://h", &["zz".repeat(32)], false).is_err());
    }
}
