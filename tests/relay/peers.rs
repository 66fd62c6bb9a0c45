//! Other people's stacks against our relay: `aiomoqt` and `moq-rs`, each publishing and subscribing over raw QUIC
//! and WebTransport, in every draft.
//!
//! They run in processes of their own, with the interpreter that `CLUTCHCALL_PEERS_PYTHON` names (`make venv-peers` builds its
//! environment). Without it the tests say so; with `CI` set they fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clutchcall::moqt::Draft;
use clutchcall::tracks::{self, Delivery, PublishTrack, RouteKind, TrackId, Written};

use super::rig::{Client, Kind, LIMIT, Relay, track_of};

const NAMESPACE: &str = "voice/CA7/uplink";
const COUNT: usize = 120;
/// As the scripts have it.
const START_US: u64 = 1_700_000_000_000_000;

/// The interpreter with the peers; `None` only where they may be absent.
pub fn python() -> Option<String> {
    let python = std::env::var("CLUTCHCALL_PEERS_PYTHON").ok().filter(|path| !path.is_empty());
    if python.is_none() {
        let remedy = "CLUTCHCALL_PEERS_PYTHON names no interpreter with aiomoqt and moq-rs: run `make venv-peers`, \
                      then set it to .venv-peers/bin/python";
        assert!(std::env::var_os("CI").is_none(), "{remedy}");
        eprintln!("\n*** the peers are left out: {remedy}\n");
    }
    python
}

/// A peer's process and its lines.
struct Peer {
    child: Child,
    lines: crossbeam_channel::Receiver<String>,
    errors: crossbeam_channel::Receiver<String>,
}

impl Peer {
    fn start(python: &str, (script, role): (&str, &str), relay: &Relay, draft: Draft, wire: Kind) -> Self {
        let (publish, subscribe): (&[&str], &[&str]) = match role {
            "publish" => (&[NAMESPACE], &[]),
            _ => (&[], &[NAMESPACE]),
        };
        let token = relay.token(publish, subscribe).value;
        let scheme = if wire == Kind::WebTransport { "https" } else { "moqt" };
        let draft: u64 = draft.alpn()["moqt-".len()..].parse().expect("an ALPN ends in the draft's number");
        let wish = serde_json::json!({
            "role": role,
            "url": format!("{scheme}://127.0.0.1:{}/", relay.server.address().port()),
            "token": std::str::from_utf8(&token).expect("a JWT is ASCII"),
            "namespace": NAMESPACE,
            "count": COUNT,
            "draft": draft,
            "datagram": false,
        });
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/").to_owned() + script)
            .arg(wish.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
        let (tell, lines) = crossbeam_channel::unbounded();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        let (tell, errors) = crossbeam_channel::bounded(1);
        let mut stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = tell.send(text);
        });
        Self { child, lines, errors }
    }

    fn line(&mut self) -> serde_json::Value {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")),
            Err(error) => {
                let _ = self.child.kill();
                panic!("the peer says nothing ({error}): {:?}", self.errors.recv_timeout(LIMIT));
            }
        }
    }

    /// It may write.
    fn go(&mut self) {
        self.child.stdin.as_mut().expect("piped").write_all(b"go\n").expect("the peer reads");
    }

    /// The next line that tells of a frame.
    fn frame(&mut self) -> serde_json::Value {
        loop {
            let line = self.line();
            if line.get("payload").is_some() {
                return line;
            }
        }
    }

    /// Skips lines until one has this key.
    fn until(&mut self, key: &str) -> serde_json::Value {
        let end = Instant::now() + LIMIT;
        loop {
            let line = self.line();
            if let Some(value) = line.get(key) {
                return value.clone();
            }
            assert!(Instant::now() < end, "the peer never says {key}");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn payload(n: usize) -> String {
    format!("frame {n}")
}

fn stamp(n: usize) -> u64 {
    START_US + n as u64 * 20_000
}

/// Each draft over each wire, the wire on both sides of the relay. It speaks nothing else, so that nobody can choose another.
fn everywhere(check: impl Fn(&str, &Relay, Draft, Kind)) {
    let Some(python) = python() else { return };
    for draft in Draft::ADVERTISED {
        for wire in [Kind::RawQuic, Kind::WebTransport] {
            eprintln!("{} over {wire:?}", draft.alpn());
            check(&python, &Relay::with(|config| config.drafts = draft.into()), draft, wire);
        }
    }
}

/// The peer publishes; a bridge's subscription hears every frame and every stamp.
fn publishes(script: &str, python: &str, relay: &Relay, draft: Draft, wire: Kind) {
    let client = Client::start();
    client.supply(relay, wire, &relay.token(&[], &[NAMESPACE]));
    let mut peer = Peer::start(python, (script, "publish"), relay, draft, wire);
    peer.until("announced");
    let track = client.run(|hands| {
        let now = hands.now;
        let (pool, links) = hands.pool();
        let route = pool.route(RouteKind { cap: 1 });
        let lease = pool.lease(route, vec![], now);
        pool.subscribe(links, lease, track_of(NAMESPACE), now)
    });
    client.on_pool("the peer's SUBSCRIBE_OK", |event| (*event == tracks::Event::Live { track }).then_some(()));
    let mut heard = Vec::new();
    while heard.len() < COUNT {
        peer.go();
        heard.extend((0..10).map(|_| frame(&client, track)));
    }
    let sent: Vec<(u64, String)> = (0..COUNT).map(|n| (stamp(n), payload(n))).collect();
    // moq-rs makes each frame a stream, and streams may overtake each other.
    heard.sort();
    assert_eq!(heard, sent);
}

fn frame(client: &Client, wanted: TrackId) -> (u64, String) {
    client.on_pool("a peer's frame", |event| match event {
        tracks::Event::Frame { track, timestamp_us, payload, .. } if *track == wanted => {
            let text = String::from_utf8(payload.to_vec()).expect("the script writes text");
            Some((timestamp_us.expect("it is stamped"), text))
        }
        _ => None,
    })
}

/// A bridge publishes; the peer's subscription hears every frame and every stamp.
fn subscribes(script: &str, python: &str, relay: &Relay, draft: Draft, wire: Kind) {
    let client = Client::start();
    client.supply(relay, wire, &relay.token(&[NAMESPACE], &[]));
    let track = client.run(|hands| {
        let now = hands.now;
        let (pool, links) = hands.pool();
        let route = pool.route(RouteKind { cap: 1 });
        let lease = pool.lease(route, vec![], now);
        let (track, properties) = (track_of(NAMESPACE), Default::default());
        let track = PublishTrack { track, delivery: Delivery::Stream, frame_us: 20_000, waits: false, properties };
        pool.publish(links, lease, track, now)
    });
    relay.wait("our namespace is known", |counters| counters.namespaces == 1);
    let mut peer = Peer::start(python, (script, "subscribe"), relay, draft, wire);
    client.on_pool("the peer's subscription", |event| match event {
        tracks::Event::Subscribers { track: id, count } if *id == track && *count > 0 => Some(()),
        _ => None,
    });
    // Group by group: moq-rs skips to the newest group when several are there at once.
    for group in (0..COUNT).collect::<Vec<_>>().chunks(50).map(<[usize]>::to_vec) {
        let frames = group.clone();
        client.run(move |hands| {
            let now = hands.now;
            let (pool, links) = hands.pool();
            for n in frames {
                assert_eq!(pool.write(links, track, stamp(n), payload(n).into(), now), Written::Sent);
            }
        });
        for n in group {
            let line = peer.frame();
            assert_eq!((line["stamp"].as_u64(), line["payload"].as_str()), (Some(stamp(n)), Some(&payload(n)[..])));
        }
    }
    peer.until("done");
}

#[test]
fn aiomoqt_publishes_through_our_relay() {
    everywhere(|python, relay, draft, wire| publishes("aiomoqt_peer.py", python, relay, draft, wire));
}

#[test]
fn aiomoqt_subscribes_from_our_relay() {
    everywhere(|python, relay, draft, wire| subscribes("aiomoqt_peer.py", python, relay, draft, wire));
}

#[test]
fn moq_rs_publishes_through_our_relay() {
    everywhere(|python, relay, draft, wire| publishes("moq_peer.py", python, relay, draft, wire));
}

#[test]
fn moq_rs_subscribes_from_our_relay() {
    everywhere(|python, relay, draft, wire| subscribes("moq_peer.py", python, relay, draft, wire));
}
