//! Real bridges at the engine's own relay: audio both ways, and who may speak.

use std::time::Instant;

use bytes::Bytes;
use clutchcall::audio::{Codec, Params};
use clutchcall::call::wire::BridgeRole;
use clutchcall::client::options::Surroundings;
use clutchcall::client::{Arguments, Bridge, BridgeSpec, Client, Clock, Options, Unclaimed};
use clutchcall::error::Kind;
use clutchcall::tracks::Delivery;

use crate::common::{Bench, KEY, wait_for};

fn client(bench: &Bench) -> Client {
    client_with(bench, None)
}

fn client_with(bench: &Bench, pool: Option<u32>) -> Client {
    let arguments = Arguments {
        base_url: Some(bench.engine.base_url().to_owned()),
        api_key: Some(KEY.to_owned()),
        org_id: Some("org_a".to_owned()),
        pool,
        ..Arguments::default()
    };
    let surroundings = Surroundings { variable: &|_| None, dev_state: None };
    Client::new(Options::resolve(arguments, &surroundings).unwrap()).unwrap()
}

fn attach(client: &Client, sid: &str, params: Params) -> Result<Bridge, Kind> {
    let (role, delivery) = (BridgeRole::Server, Delivery::Stream);
    let spec = BridgeSpec { sid: sid.to_owned(), role, params, delivery, clock: Clock { at: Instant::now(), us: 0 } };
    let (ring, _heard) = client.runtime().delivery().ring(1);
    client.attach(spec, ring, &mut || false).map(Unclaimed::claim).map_err(|error| error.kind())
}

fn pcm() -> Params {
    Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap()
}

/// Half a second of a quiet saw.
fn say(bridge: &Bridge) {
    let samples = (0..320i16).flat_map(|n| ((n % 80) * 50).to_le_bytes());
    let frame: Bytes = samples.collect::<Vec<u8>>().into();
    (0..25).for_each(|_| bridge.publish(frame.clone(), None).unwrap());
}

#[test]
fn what_a_bridge_says_is_heard_and_comes_back_from_an_echoing_phone() {
    let bench = Bench::new();
    let client = client(&bench);
    // Attached while it rings: audio comes once somebody is there.
    let sid = bench.originate("+15550009012");
    let bridge = attach(&client, &sid, pcm()).unwrap();
    bench.wait(&sid, &["in_progress"]);
    // A stamp of the wall clock lies years ahead: refused, and what follows is heard all the same.
    let unix_us = 1_700_000_000_000_000;
    let refused = bridge.publish(Bytes::from_static(&[0; 640]), Some(unix_us)).unwrap_err();
    assert_eq!((refused.kind(), refused.message.contains("monotonic")), (Kind::Value, true), "{refused}");
    wait_for(|| {
        // What is said before the link is up is gone, as it should be: say it again.
        if bridge.queued_us() == 0 {
            say(&bridge);
        }
        (bridge.stats().frames_in > 10).then_some(())
    });
    assert_eq!(attach(&client, &sid, pcm()).err(), Some(Kind::Conflict), "one speaker per codec");
    let other = attach(&client, &sid, Params::CALL).unwrap();
    // Who closes gives the right to speak back at once.
    bridge.close(&mut || false).unwrap();
    let again = attach(&client, &sid, pcm()).unwrap();
    client.attach_agent(&sid, "echo", &mut || false).unwrap();
    other.close(&mut || false).unwrap();
    assert_eq!(attach(&client, &sid, Params::CALL).err(), Some(Kind::Conflict), "the agent speaks");
    bench.hangup(&sid).data();
    wait_for(|| again.publish(Bytes::from_static(&[0; 640]), None).err());
    assert_eq!(attach(&client, &sid, pcm()).err(), Some(Kind::Conflict), "the call has ended");
}

#[test]
fn bridges_share_a_link_to_the_engines_own_relay_unless_their_user_says_no() {
    let bench = Bench::new();
    let (sharing, alone) = (client_with(&bench, None), client_with(&bench, Some(1)));
    let sids: Vec<String> = (0..4).map(|_| bench.originate("+15550009012")).collect();
    sids.iter().for_each(|sid| drop(bench.wait(sid, &["in_progress"])));
    let shared: Vec<Bridge> = sids[..3].iter().map(|sid| attach(&sharing, sid, pcm()).unwrap()).collect();
    let own = attach(&alone, &sids[3], pcm()).unwrap();
    let all: Vec<&Bridge> = shared.iter().chain([&own]).collect();
    wait_for(|| {
        all.iter().filter(|bridge| bridge.queued_us() == 0).for_each(|bridge| say(bridge));
        all.iter().all(|bridge| bridge.stats().frames_in > 10).then_some(())
    });
    let stats: Vec<_> = all.iter().map(|bridge| bridge.stats()).collect();
    assert_eq!(stats.iter().map(|stats| stats.shared_by).collect::<Vec<_>>(), [3, 3, 3, 1]);
    // Whoever came before the link stood saw it dialled.
    assert!(stats.iter().all(|stats| stats.dials <= 1) && (stats[0].dials, stats[3].dials) == (1, 1), "{stats:?}");
    assert!(stats.iter().all(|stats| !stats.path.rtt.is_zero() && stats.path.packets_out > 10), "{stats:?}");
    // Who goes takes nothing along.
    shared[0].close(&mut || false).unwrap();
    let before = shared[1].stats().frames_in;
    wait_for(|| {
        all[1..].iter().filter(|bridge| bridge.queued_us() == 0).for_each(|bridge| say(bridge));
        (shared[1].stats().frames_in > before + 10).then_some(())
    });
    let after = shared[1].stats();
    assert_eq!((after.shared_by, after.reconnects), (2, 0));
    assert_eq!(shared[0].stats().dials, stats[0].dials, "what was told last");
}

/// Two shards: calls fall to either, each bridge is told the port of its call's, and speaks and hears there.
#[test]
fn every_call_is_heard_at_the_shard_in_charge_of_it() {
    let bench = Bench::with(|config| config.relay.relaying.shards = 2);
    let client = client(&bench);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let sid = bench.originate("+15550009012");
            let bridge = attach(&client, &sid, pcm()).unwrap();
            (sid, bridge)
        })
        .collect();
    let shards: std::collections::BTreeSet<_> =
        calls.iter().map(|(sid, _)| clutchcall::relay::shard_of(&["voice", sid], 2)).collect();
    for (sid, bridge) in &calls {
        bench.wait(sid, &["in_progress"]);
        wait_for(|| {
            if bridge.queued_us() == 0 {
                say(bridge);
            }
            (bridge.stats().frames_in > 10).then_some(())
        });
    }
    // Random sids: all six on one shard is one run in 32, and no failure.
    assert!(!shards.is_empty());
    let text = get(bench.engine.base_url(), "/metrics");
    for shard in &shards {
        let line = format!("clutchcall_relay_objects_in_total{{shard=\"{shard}\"}} ");
        let figure = text.lines().find_map(|found| found.strip_prefix(&line));
        assert!(figure.is_some_and(|figure| figure != "0"), "shard {shard} carried nothing");
    }
    assert!(text.contains("clutchcall_relay_relays{shard=\"1\"} 2"), "the shards hold a session each way");
}

/// One answer over a plain socket.
pub(crate) fn get(base_url: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let address = base_url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("the engine listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}
