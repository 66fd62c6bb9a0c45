//! Keys that are rolled over and tokens that are revoked while the relay runs, over every kind of link.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clutchcall::moqt::CloseCode;
use clutchcall::moqt::message::{Setup, Token};
use clutchcall::net::tls::Identity;
use clutchcall::net::{Dial, Down, Trust};
use clutchcall::relay::KeySources;
use clutchcall::token::{Claims, LEEWAY_S, SigningKey};
use clutchcall::tracks::{self, RouteKind};

use super::rig::{Answer, Client, KINDS, Kind, Link, Relay, object, track_of, unix};

const UPLINK: &str = "voice/CA1/uplink";

/// A relay whose keys and revocations stand in files of a folder that lives as long.
struct Filed {
    relay: Relay,
    folder: tempfile::TempDir,
    second: SigningKey,
}

impl Filed {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (keys, revoked) = (folder.path().join("keys"), folder.path().join("revoked"));
        std::fs::write(&revoked, "").expect("it is ours");
        let mut first = None;
        let relay = Relay::keyed(|key, config| {
            first = Some(key.public());
            std::fs::write(&keys, format!("{}\n", key.public())).expect("it is ours");
            config.keys =
                KeySources { files: vec![keys.clone()], revoked: Some(revoked.clone()), ..Default::default() };
        });
        let second = SigningKey::generate(&ring::rand::SystemRandom::new()).expect("randomness").0;
        Self { relay, folder, second }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As an editor does: whole or not at all.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("unfinished"), text).expect("it is ours");
        std::fs::rename(self.path("unfinished"), self.path(name)).expect("it is ours");
    }

    fn token(&self, key: &SigningKey, jti: &str) -> Token {
        let claims = Claims { jti: Some(jti.into()), ..self.relay.claims(&[UPLINK], &[UPLINK]) };
        Token { kind: 0, value: claims.encode(key).into() }
    }
}

fn unauthorized(link: Link<'_>, word: &str) {
    match link.down() {
        Down::Peer { code, reason } => {
            assert_eq!(code, CloseCode::Unauthorized as u64, "{reason}");
            assert!(reason.contains(word), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_rolled_over_under_live_sessions() {
    for kind in KINDS {
        let (filed, client) = (Filed::start(), Client::start());
        let key = Arc::clone(&filed.relay.key);
        let old = client.connect(&filed.relay, kind, vec![filed.token(&key, "1")]);
        assert_eq!(old.announce(UPLINK, vec![]), Answer::Ok);
        let early = Setup { tokens: vec![filed.token(&filed.second, "2")], ..Setup::default() };
        unauthorized(client.dial(&filed.relay, kind, early), "kid");

        filed.write("keys", &format!("{}\n{}\n", key.public(), filed.second.public()));
        filed.relay.server.reload();
        // Whether the ring has changed shows in who is let in.
        let new = loop {
            let setup = Setup { tokens: vec![filed.token(&filed.second, "2")], ..Setup::default() };
            let link = client.dial(&filed.relay, kind, setup);
            if link.is_let_in() {
                break link;
            }
        };
        assert_eq!(new.announce(UPLINK, vec![]), Answer::Ok, "{kind:?}");
        assert_eq!(old.announce("voice/CA1/uplink/again", vec![]), old.announce("voice/CA2/uplink", vec![]));

        filed.write("keys", &format!("{}\n", filed.second.public()));
        filed.relay.server.reload();
        unauthorized(old, "withdrawn");
        filed.relay.wait("one session is left", |counters| counters.sessions == 1);
        assert_eq!(new.announce("voice/CA1/uplink", vec![]), Answer::Ok, "{kind:?}: the new key's session goes on");
        filed.relay.wait("it is counted", |_| filed.relay.server.figures().entrance.withdrawn == 1);
    }
}

/// Nobody asks for it: the file is looked at.
#[test]
fn a_revoked_token_ends_its_sessions_and_is_refused_from_then_on() {
    for kind in KINDS {
        let (filed, client) = (Filed::start(), Client::start());
        let key = Arc::clone(&filed.relay.key);
        let doomed = client.connect(&filed.relay, kind, vec![filed.token(&key, "doomed")]);
        let other = client.connect(&filed.relay, kind, vec![filed.token(&key, "other")]);
        filed.write("revoked", "# by name\njti doomed\n");
        unauthorized(doomed, "revoked");
        let again = Setup { tokens: vec![filed.token(&key, "doomed")], ..Setup::default() };
        unauthorized(client.dial(&filed.relay, kind, again), "revoked");
        assert_eq!(other.announce(UPLINK, vec![]), Answer::Ok);
    }
}

#[test]
fn a_file_that_is_broken_later_throws_nobody_out() {
    let (filed, client) = (Filed::start(), Client::start());
    let key = Arc::clone(&filed.relay.key);
    let kind = Kind::RawQuic;
    let there = client.connect(&filed.relay, kind, vec![filed.token(&key, "1")]);
    filed.write("keys", "no key at all\n");
    filed.relay.server.reload();
    filed.write("revoked", "jti 1\n");
    filed.relay.server.reload();
    let next = client.connect(&filed.relay, kind, vec![filed.token(&key, "2")]);
    assert_eq!((there.announce(UPLINK, vec![]), next.announce(UPLINK, vec![])), (Answer::Ok, Answer::Ok));
    // Put right, all that was written counts.
    filed.write("keys", &format!("{}\n", key.public()));
    filed.relay.server.reload();
    unauthorized(there, "revoked");
    assert_eq!(next.announce(UPLINK, vec![]), Answer::Ok);
}

/// A subscriber of the SDK's pool whose token runs out in the middle: the relay ends what it allowed, the pool asks for another
/// token, and the track goes on under it.
#[test]
fn a_track_goes_on_past_the_end_of_its_token() {
    // A port is an engine's: what it was allowed goes on to the end of its calls.
    for kind in [Kind::RawQuic, Kind::WebTransport] {
        let relay = Relay::with(|config| config.limits.expiry_grace = Some(Duration::ZERO));
        let (speaker, hearer) = (Client::start(), Client::start());
        let publisher = speaker.connect(&relay, kind, vec![relay.token(&[UPLINK], &[])]);
        assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
        // Within the leeway for clocks that disagree it counts for some seconds more.
        let mut short = relay.claims(&[], &[UPLINK]);
        short.exp = unix().as_secs() + 3 - LEEWAY_S;
        hearer.supply(&relay, kind, &relay.sign(&short));
        let (lease, track) = hearer.run(|hands| {
            let now = hands.now;
            let (pool, links) = hands.pool();
            let route = pool.route(RouteKind { cap: 1 });
            let lease = pool.lease(route, vec![], now);
            (lease, pool.subscribe(links, lease, track_of(UPLINK), now))
        });
        let frame = |expected: &'static [u8]| {
            hearer.on_pool("a frame", |event| match event {
                tracks::Event::Frame { track: of, payload, .. } if *of == track => Some(payload[..] == *expected),
                _ => None,
            })
        };
        let first = publisher.serve(UPLINK);
        let subgroup = publisher.open(first, 1);
        publisher.send(subgroup, object(1, 0, &b"before"[..]));
        assert!(frame(b"before"), "{kind:?}");
        hearer.on_pool("the wish for another token", |event| match event {
            tracks::Event::WantTokens { lease: of } if *of == lease => Some(()),
            _ => None,
        });
        let fresh = relay.token(&[], &[UPLINK]);
        hearer.run(move |hands| hands.pool().0.renew(lease, vec![fresh]));
        let second = publisher.serve(UPLINK);
        let subgroup = publisher.open(second, 2);
        publisher.send(subgroup, object(2, 0, &b"behind"[..]));
        assert!(frame(b"behind"), "{kind:?}");
        relay.wait("the end is counted", |counters| counters.expired == 1);
    }
}

/// A certificate's files are replaced under a relay that runs: who comes is shown the new one, who is there stays.
#[test]
fn a_certificate_is_replaced_under_live_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    // What a loopback identity mints is a pair of PEM files.
    let mint = |name: &str| Identity::loopback(&path(name)).expect("minted").certificate_hash();
    let (old, new) = (mint("old"), mint("new"));
    let (chain, key) = (path("chain.pem"), path("chain.key"));
    let put = |from: &str| {
        std::fs::copy(path(from).join("certificate.pem"), &chain).expect("it is ours");
        std::fs::copy(path(from).join("key.pem"), &key).expect("it is ours");
    };
    put("old");
    let identity = Identity::from_pem(&chain, &key, &path("state")).expect("a chain and its key");
    let relay = Relay::with(|config| config.identity = identity);
    let client = Client::start();
    let pinning = |hash: [u8; 32]| {
        let setup = Setup { tokens: vec![relay.token(&[UPLINK], &[])], ..Setup::default() };
        Dial { trust: Trust::Hashes(vec![hash]), ..relay.dial(Kind::RawQuic, setup) }
    };
    let there = client.link(pinning(old));
    assert!(there.is_let_in());
    put("new");
    relay.server.reload();
    // Whether it is shown shows in who comes in.
    while !client.link(pinning(new)).is_let_in() {}
    assert!(matches!(client.link(pinning(old)).down(), Down::Unreachable(_)), "the old one is not shown any more");
    assert_eq!(there.announce(UPLINK, vec![]), Answer::Ok);
}
