//! The relay is another program's: `relay.url`.

use std::net::SocketAddr;

use clutchcall::engine::config::Trust;
use clutchcall::engine::{Config, Engine};
use clutchcall::net::tls::Identity;
use clutchcall::relay::{self, Server};
use clutchcall::token::{KeySet, PublicKey};
use serde_json::json;

use crate::common::{Bench, config, wait_for};

/// What a relay elsewhere is started with stands in the engine's state folder.
fn public_key(state: &std::path::Path) -> PublicKey {
    drop(Engine::start(config(state)).unwrap());
    std::fs::read_to_string(state.join("token.pub")).unwrap().trim().parse().unwrap()
}

fn start(listen: SocketAddr, identity: &Identity, key: PublicKey) -> Server {
    Server::start(relay::Config::new(listen, identity.clone(), KeySet::from_iter([key]))).unwrap()
}

fn towards(config: &mut Config, relay: SocketAddr, identity: &Identity) {
    config.relay.url = Some(format!("moqt://{relay}").parse().unwrap());
    config.relay.trust = Trust::Hashes(vec![identity.certificate_hash()]);
}

#[test]
fn calls_live_at_a_relay_elsewhere_and_through_its_restart() {
    let state = tempfile::tempdir().unwrap();
    let (key, identity) = (public_key(state.path()), Identity::ephemeral());
    let relay = start(([127, 0, 0, 1], 0).into(), &identity, key);
    let address = relay.address();
    let mut config = config(state.path());
    towards(&mut config, address, &identity);
    let bench = Bench { engine: Engine::start(config).unwrap(), state };
    assert_eq!(bench.engine.relay_url(), format!("moqt://{address}"));

    let sid = bench.originate("+15550009011");
    bench.wait(&sid, &["in_progress"]);
    // The engine announces both sides of the call there.
    wait_for(|| (relay.counters().namespaces >= 1 && relay.counters().sessions == 1).then_some(()));
    assert_eq!(relay.counters().unauthorized, 0);
    let token = bench.post("voice.audioBridge.token", &json!({"sid": sid, "holder": "b"})).data();
    assert_eq!(token["relay"]["url"], format!("moqt://{address}"));
    assert_eq!(token["relay"]["certificateHashes"].as_array().unwrap().len(), 1);

    drop(relay);
    let without = bench.originate("+15550009011");
    assert_eq!(bench.wait(&without, &["in_progress"])["status"], "in_progress", "a call needs no relay to be dialed");
    let relay = start(address, &identity, key);
    wait_for(|| (relay.counters().namespaces >= 2).then_some(()));
    assert_eq!(bench.row(&sid)["status"], "in_progress");
    bench.hangup(&sid).data();
    bench.hangup(&without).data();
    wait_for(|| (relay.counters().tracks == 0).then_some(()));
}

#[test]
fn a_relay_that_is_not_there_keeps_nobody_from_calling() {
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::with(|config| towards(config, unused, &Identity::ephemeral()));
    let sid = bench.originate("+15550009011");
    bench.wait(&sid, &["in_progress"]);
    bench.hangup(&sid).data();
}

/// A socket that answers nothing, as behind a firewall: the engine says so, for as long as it is so.
#[test]
fn a_relay_that_never_answers_is_told_of() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let identity = Identity::ephemeral();
    let state = tempfile::tempdir().unwrap();
    let key = public_key(state.path());
    let address = silent.local_addr().unwrap();
    let bench = Bench::at(state, |config| towards(config, address, &identity));
    assert!(bench.metrics().contains("clutchcall_media_links_down 1\n"), "{}", bench.metrics());
    let ready = || bench.raw("GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let unready = wait_for(|| Some(ready()).filter(|told| told.body.contains("does not answer")));
    assert!(unready.status == 503 && unready.body.contains("no link to the relay for"), "{unready:?}");
    let dials = |metrics: &str| {
        metrics.lines().find_map(|line| line.strip_prefix("clutchcall_media_dials_total ")?.parse().ok())
    };
    assert!(dials(&bench.metrics()).is_some_and(|dials: u64| dials > 2), "{}", bench.metrics());
    // It comes at last.
    drop(silent);
    let _relay = start(address, &identity, key);
    wait_for(|| (ready().status == 200).then_some(()));
    assert!(bench.metrics().contains("clutchcall_media_links_down 0\n"));
}
