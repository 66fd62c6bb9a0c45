//! What the engine shows the outside, and what it keeps to be the same after a restart: state folder, signing key, relay.
//!
//! The relay is the engine's own, opened in this process, or one elsewhere (`relay.url`), whose name is resolved again and again
//! on the control thread. Bridges are told where to dial by [`Outside::reference`], which is settled at the start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ring::rand::SystemRandom;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use url::Url;

use super::config::{self, Config, hex};
use super::media::Supply;
use super::private;
use crate::call::wire::RelayRef;
use crate::files;
use crate::moqt::Drafts;
use crate::net::Trust;
use crate::net::tls::Identity;
use crate::relay::{self, Ports};
use crate::token::{KeySet, PublicKey, SigningKey};
use crate::tracks::migration;

/// The key that signs tokens (PKCS#8 DER), and its public half as text for a relay elsewhere.
const KEY_FILE: &str = "token.key";
const PUBLIC_FILE: &str = "token.pub";
/// A relay's port where its URL names none.
const RELAY_PORT: u16 = 4433;
/// How often a relay's name is resolved, and how soon after a failure.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);
/// An engine starts without the relay's address rather than wait longer for it.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);

/// The relay as seen from inside and from outside.
pub(super) struct Outside {
    /// What bridges are told.
    pub(super) reference: RelayRef,
    /// The same for those of the calls that each shard of our own relay is in charge of.
    pub(super) shards: Vec<RelayRef>,
    pub(super) supply: Way,
    /// Of the engine's own relay, which may show another certificate tomorrow.
    pub(super) identity: Option<Identity>,
    pub(super) gauges: Option<relay::Gauges>,
}

/// How the audio threads will reach the relay.
pub(super) enum Way {
    Port(Ports),
    Dial(Url, Trust, Drafts),
}

/// The name of a relay elsewhere, and where its address is announced.
pub(super) struct Resolving {
    url: Url,
    address: watch::Sender<Result<SocketAddr, String>>,
}

/// For the owner only.
pub(super) fn make_folder(path: &Path) -> Result<(), String> {
    private::make_folder(path).map_err(|e| {
        format!("the state folder {} can't be made ({e}): name a folder that is writable in `state`", path.display())
    })
}

/// The public half of the key in this state folder, which is made if there is none: for a relay that starts first.
pub fn public_key(state: &Path) -> Result<PublicKey, String> {
    make_folder(state)?;
    Ok(signing_key(state)?.public())
}

/// The key in a file of the user's: PKCS#8, DER or PEM.
pub fn signing_key_of(file: &Path) -> Result<SigningKey, String> {
    let bytes = files::read(file, files::SETTINGS).map_err(|e| format!("{} can't be read: {e}", file.display()))?;
    let pem = PrivatePkcs8KeyDer::from_pem_slice(&bytes);
    let document = pem.as_ref().map_or(bytes.as_slice(), |pem| pem.secret_pkcs8_der());
    SigningKey::from_pkcs8(document).map_err(|e| {
        format!("{}: {e}; name the token.key of an engine's state folder, or what `openssl genpkey -algorithm ed25519` writes", file.display())
    })
}

/// The same key after a restart, so that tokens in use stay valid.
pub(super) fn signing_key(state: &Path) -> Result<SigningKey, String> {
    let path = state.join(KEY_FILE);
    let key = match files::read(&path, files::SETTINGS) {
        Ok(document) => SigningKey::from_pkcs8(&document)
            .map_err(|e| format!("{} is damaged ({e}): move it away, and a new one is made", path.display()))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let (key, document) = SigningKey::generate(&SystemRandom::new()).map_err(|e| e.to_string())?;
            private::write(&path, &document)?;
            key
        }
        Err(e) => return Err(format!("{} can't be read: {e}", path.display())),
    };
    let (public, text) = (state.join(PUBLIC_FILE), format!("{}\n", key.public()));
    // Whoever reads it may do so at any moment, and a full disk is no reason to touch it.
    if files::read(&public, files::SETTINGS).ok().as_deref() != Some(text.as_bytes()) {
        private::write(&public, text.as_bytes())?;
    }
    Ok(key)
}

/// An address that somebody on this machine can use.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Opens the engine's own relay, or notes the one elsewhere.
pub(super) fn open(config: &Config, key: PublicKey) -> Result<(Option<relay::Server>, Outside), String> {
    match &config.relay.url {
        Some(url) => Ok((None, elsewhere(config, url)?)),
        None => {
            let (server, outside) = own(config, key)?;
            Ok((Some(server), outside))
        }
    }
}

fn elsewhere(config: &Config, url: &Url) -> Result<Outside, String> {
    let relay = &config.relay;
    let trust = trust(&relay.trust)?;
    let certificate_hashes = match &trust {
        Trust::Hashes(hashes) => hashes.iter().map(|hash| hex(hash)).collect(),
        _ => Vec::new(),
    };
    let public = relay.public_url.as_ref().unwrap_or(url);
    let reference = reference(relay, public.to_string(), public, certificate_hashes);
    Ok(Outside {
        reference,
        shards: Vec::new(),
        supply: Way::Dial(url.clone(), trust, relay.drafts.clone()),
        identity: None,
        gauges: None,
    })
}

fn trust(told: &config::Trust) -> Result<Trust, String> {
    Ok(match told {
        config::Trust::System => Trust::System,
        config::Trust::Roots(file) => Trust::Roots(roots(file)?),
        config::Trust::Hashes(hashes) => Trust::Hashes(hashes.clone()),
        config::Trust::Anything => Trust::Anything,
    })
}

/// A relay that takes nobody's tokens yet.
pub(super) fn relay_config(
    listen: SocketAddr,
    identity: Identity,
    relaying: &config::Relaying,
) -> Result<relay::Config, String> {
    let config::Relaying { shards, limits, cache, admission, upstream } = relaying.clone();
    let upstream = upstream.map(|told| {
        let config::Upstream { url, trust: trusted, token } = told;
        Ok::<_, String>(relay::UpstreamConfig { url, trust: trust(&trusted)?, token })
    });
    let plain = relay::Config::new(listen, identity, KeySet::default());
    Ok(relay::Config { shards, limits, cache, admission, upstream: upstream.transpose()?, ..plain })
}

fn own(config: &Config, key: PublicKey) -> Result<(relay::Server, Outside), String> {
    let relay = &config.relay;
    let identity = match &relay.certificate {
        Some((chain, key)) => Identity::from_pem(chain, key, &config.state)?,
        None => Identity::loopback(&config.state)?,
    };
    if relay.certificate.is_some() && relay.public_url.is_none() && relay.listen.ip().is_unspecified() {
        return Err("relay.public_url is missing: relay.listen stands for every address, so say which name bridges \
                    are to dial, such as \"moqt://voice.example.com:4433\""
            .to_owned());
    }
    let (hashes, shown) = (pinned(&identity), identity.clone());
    let mut keys = relay.keys.clone();
    keys.fixed = keys.fixed.plus(KeySet::from_iter([key]));
    let (drafts, plain) = (relay.drafts.clone(), relay_config(relay.listen, identity, &relay.relaying)?);
    let server = relay::Server::start(relay::Config { keys, drafts, ..plain })?;
    let local = format!("moqt://{}", reachable(server.address()));
    let public = match &relay.public_url {
        Some(url) => url.clone(),
        None => local.parse().map_err(|e| format!("{local} is no URL: {e}"))?,
    };
    let first = reference(relay, public.to_string(), &public, hashes);
    let addresses = server.addresses();
    let shards = addresses.iter().map(|address| {
        let behind = address.port().wrapping_sub(server.address().port());
        at_shard(&first, if relay.public_url.is_some() { port(&public).wrapping_add(behind) } else { address.port() })
    });
    let shards = shards.collect();
    let (supply, gauges) = (Way::Port(server.ports()), Some(server.gauges()));
    Ok((server, Outside { reference: first, shards, supply, identity: Some(shown), gauges }))
}

/// What bridges must pin: the certificate of now, where nobody else vouches for it.
pub(super) fn pinned(identity: &Identity) -> Vec<String> {
    if identity.is_self_signed() { vec![hex(&identity.certificate_hash())] } else { Vec::new() }
}

fn reference(relay: &config::Relay, url: String, public: &Url, certificate_hashes: Vec<String>) -> RelayRef {
    let web_transport_url = match &relay.web_transport_url {
        Some(url) => url.to_string(),
        None => format!("https://{}:{}/", public.host_str().unwrap_or("localhost"), port(public)),
    };
    let url = url.trim_end_matches('/').to_owned();
    // A stranger may want a session's tokens in its SETUP, so links are shared there only where the operator says so.
    let pool = relay.pool.unwrap_or(if relay.url.is_some() { 1 } else { config::POOL });
    RelayRef { url, web_transport_url, certificate_hashes, pool }
}

/// The same relay at another of its ports: the shards' follow the first one's, behind a public URL as well.
fn at_shard(first: &RelayRef, port: u16) -> RelayRef {
    let moved = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| url.port() != Some(port)).and_then(|mut url| {
            url.set_port(Some(port)).ok()?;
            Some(url)
        });
        url.map_or_else(|| text.to_owned(), |url| url.to_string().trim_end_matches('/').to_owned())
    };
    let mut web_transport_url = moved(&first.web_transport_url);
    if first.web_transport_url.ends_with('/') && !web_transport_url.ends_with('/') {
        web_transport_url.push('/');
    }
    RelayRef { url: moved(&first.url), web_transport_url, ..first.clone() }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(RELAY_PORT)
}

fn roots(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let unreadable = |e: rustls_pki_types::pem::Error| {
        format!("relay.roots {}: no PEM certificates can be read ({e})", file.display())
    };
    let pem =
        files::read(file, files::SETTINGS).map_err(|error| unreadable(rustls_pki_types::pem::Error::Io(error)))?;
    let certificates = CertificateDer::pem_slice_iter(&pem);
    let roots: Vec<_> =
        certificates.map(|der| der.map(|der| der.to_vec()).map_err(unreadable)).collect::<Result<_, _>>()?;
    if roots.is_empty() {
        return Err(format!("relay.roots {} holds no certificate", file.display()));
    }
    Ok(roots)
}

impl Way {
    pub(super) async fn open(self) -> (Supply, Option<Resolving>) {
        match self {
            Self::Port(ports) => (Supply::Port(ports), None),
            Self::Dial(url, trust, drafts) => {
                let (address, known) = watch::channel(resolve(&url).await);
                (Supply::Dial { url: url.clone(), trust, drafts, address: known }, Some(Resolving { url, address }))
            }
        }
    }
}

/// Where the relay's GOAWAY wants us, as far as it needs no name server: another port or path of the same host, or an address.
pub(super) fn follow(url: &Url, trust: &Trust, uri: Option<&str>, address: SocketAddr) -> (Url, SocketAddr) {
    let stay = |reason: String| {
        tracing::warn!(reason, "the relay's GOAWAY is answered at the same address");
        (url.clone(), address)
    };
    let Some(uri) = uri else { return (url.clone(), address) };
    migration::follow_to((url, address), trust, uri, RELAY_PORT).unwrap_or_else(stay)
}

/// Never ends; without a name to resolve it only waits.
pub(super) async fn keep_resolving(resolving: Option<Resolving>) {
    let Some(Resolving { url, address }) = resolving else { return std::future::pending().await };
    loop {
        let pause = if address.borrow().is_ok() { RESOLVE_EVERY } else { RESOLVE_AGAIN };
        tokio::time::sleep(pause).await;
        let found = resolve(&url).await;
        // A name server that fails for a moment takes nothing away.
        if found.is_ok() || address.borrow().is_err() {
            let _ = address.send_replace(found);
        }
    }
}

async fn resolve(url: &Url) -> Result<SocketAddr, String> {
    // Brackets belong to the URL, not to the address.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port(url)))).await;
    let mut found = found
        .map_err(|_| format!("relay.url: no name server told the address of {host}"))?
        .map_err(|e| format!("relay.url: the name {host} can't be resolved: {e}"))?;
    found.next().ok_or_else(|| format!("relay.url: the name {host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_key_survives_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let first = signing_key(state.path()).unwrap().public();
        assert_eq!(signing_key(state.path()).unwrap().public(), first);
        let text = std::fs::read_to_string(state.path().join(PUBLIC_FILE)).unwrap();
        assert_eq!(text.parse::<PublicKey>().unwrap(), first);
        std::fs::write(state.path().join(KEY_FILE), b"no key").unwrap();
        assert!(signing_key(state.path()).unwrap_err().contains("token.key is damaged"));
    }

    #[test]
    fn the_public_key_is_written_when_it_differs_and_then_whole_or_not_at_all() {
        use std::os::unix::fs::MetadataExt as _;
        let state = tempfile::tempdir().unwrap();
        let key = signing_key(state.path()).unwrap().public();
        let (public, unfinished) = (state.path().join(PUBLIC_FILE), state.path().join("token.new"));
        // Nothing can be written any more, as on a full disk, and nothing needs to be.
        std::fs::create_dir_all(unfinished.join("taken")).unwrap();
        let before = std::fs::metadata(&public).unwrap().ino();
        signing_key(state.path()).unwrap();
        assert_eq!(std::fs::metadata(&public).unwrap().ino(), before);
        std::fs::write(&public, "another").unwrap();
        let error = signing_key(state.path()).map(|_| ()).unwrap_err();
        assert!(error.contains("token.pub can't be written"), "{error}");
        assert_eq!(std::fs::read_to_string(&public).unwrap(), "another", "it was touched");
        std::fs::remove_dir_all(&unfinished).unwrap();
        signing_key(state.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&public).unwrap().parse::<PublicKey>().unwrap(), key);
    }

    #[test]
    fn a_relay_elsewhere_is_named_to_bridges() {
        let mut config = Config::new("/tmp/x");
        let url: Url = "moqt://relay.example.com".parse().unwrap();
        config.relay.trust = config::Trust::Hashes(vec![[0xab; 32]]);
        let outside = elsewhere(&config, &url).unwrap();
        assert_eq!(outside.reference.url, "moqt://relay.example.com");
        assert_eq!(outside.reference.web_transport_url, "https://relay.example.com:4433/");
        assert_eq!(outside.reference.certificate_hashes, ["ab".repeat(32)]);
        config.relay.trust = config::Trust::Roots("/nowhere.pem".into());
        assert!(elsewhere(&config, &url).err().unwrap().contains("relay.roots /nowhere.pem"));
    }

    #[test]
    fn bridges_share_links_to_our_own_relay_and_elsewhere_where_the_operator_says_so() {
        let mut config = Config::new("/tmp/x");
        let url: Url = "moqt://relay.example.com".parse().unwrap();
        let pool = |config: &Config| reference(&config.relay, url.to_string(), &url, Vec::new()).pool;
        assert_eq!(pool(&config), config::POOL);
        config.relay.url = Some(url.clone());
        assert_eq!(pool(&config), 1);
        config.relay.pool = Some(8);
        assert_eq!(pool(&config), 8);
    }

    #[test]
    fn an_engine_follows_a_goaway_as_far_as_it_needs_no_name_server() {
        let url: Url = "moqt://relay.example.com:4433".parse().unwrap();
        let address: SocketAddr = "192.0.2.1:4433".parse().unwrap();
        let pinned = Trust::Hashes(vec![[0xab; 32]]);
        let to = |trust: &Trust, uri: &str| follow(&url, trust, Some(uri), address).1.to_string();
        assert_eq!(follow(&url, &pinned, None, address), (url.clone(), address));
        assert_eq!(to(&Trust::System, "moqt://relay.example.com:4434/x"), "192.0.2.1:4434");
        assert_eq!(to(&pinned, "moqt://192.0.2.9:1"), "192.0.2.9:1");
        assert_eq!(to(&pinned, "moqt://[2001:db8::1]:1"), "[2001:db8::1]:1");
        for (trust, uri) in [(&pinned, "moqt://other.example:1"), (&Trust::System, "moqt://192.0.2.9:1"), (&pinned, "")]
        {
            assert_eq!(to(trust, uri), address.to_string(), "{uri}");
        }
    }
}
