//! Too much of what is allowed: each flood meets its bound, and a call of others goes on.
//!
//! `make hostile` also takes the time from a speaker to its hearer while each flood lasts.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clutchcall::moqt::{PublishDoneCode, RequestErrorCode};

use super::call::Call;
use super::raw::{Answer, REQUEST_ERROR, REQUEST_OK, Raw, SUBSCRIBE_OK, read_message};
use super::rig::{self, Client, Kind, Relay, object};
use super::words::{self, fields, namespace};

const OWN: &str = "voice/CA2/uplink";
/// Requests under way at once: fewer than may wait for a publisher.
const BATCH: u64 = 50;

fn stranger(relay: &Relay) -> Raw {
    Raw::session(relay, &relay.token(&["voice/CA2/*"], &["voice/CA2/*"]).value)
}

fn code(answer: &Answer) -> Option<u64> {
    let (REQUEST_ERROR, body) = answer.as_ref()? else { return None };
    words::read_vi(body).map(|(code, _)| code)
}

fn is_excessive(answer: &Answer) -> bool {
    code(answer) == Some(RequestErrorCode::ExcessiveLoad as u64)
}

/// SUBSCRIBEs that are read and then cancelled, one batch; ids from `from` on. Whether the last was beyond the rate.
fn subscribe_and_cancel(raw: &Raw, from: u64) -> bool {
    raw.run("a batch of requests", async {
        let mut asked = Vec::new();
        for n in from..from + BATCH {
            let last = n.to_string();
            let name = fields(&[b"voice", b"CA2", last.as_bytes()]);
            asked.push(raw.open_request(&words::subscribe_patiently(2 * n, &name)).await.expect("the session lives"));
        }
        // This one is answered at once, and those before it were read by then.
        let last = words::subscribe_plainly(2 * (from + BATCH), &namespace(OWN));
        let (_send, mut receive) = raw.open_request(&last).await.expect("the session lives");
        let answer = read_message(&mut receive).await;
        for (send, receive) in &mut asked {
            let _ = send.reset(1_u8.into());
            let _ = receive.stop(1_u8.into());
        }
        is_excessive(&answer)
    })
}

#[test]
fn who_subscribes_and_cancels_as_fast_as_it_goes_is_refused_and_forgotten() {
    let (relay, client) = (Relay::start(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let raw = stranger(&relay);
    let mut refused = false;
    for round in 0..40 {
        refused = subscribe_and_cancel(&raw, round * (BATCH + 1));
        call.goes_on();
    }
    assert!(refused, "2000 requests are more than a second's");
    relay.wait("nothing of it is left", |counters| counters.subscriptions == 1 && counters.tracks == 1);
    assert!(relay.server.counters().excessive > 0);
    call.goes_on();
}

/// A name of four kilobytes below the stranger's own call.
fn long_name(n: usize) -> Vec<u8> {
    let last = format!("{n:04000}");
    fields(&[b"voice", b"CA2", last.as_bytes()])
}

#[test]
fn who_floods_with_names_meets_the_bound_of_their_bytes() {
    let (relay, client) = (Relay::start(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let raw = stranger(&relay);
    let mut kept = 0;
    for n in 0..300 {
        let answer = raw.ask_and_keep(&words::publish_namespace(2 * n as u64, &long_name(n)));
        match answer {
            Some((REQUEST_OK, _)) => kept += 1,
            answer => assert!(is_excessive(&answer), "{answer:02x?}"),
        }
    }
    assert!((40..=65).contains(&kept), "{kept} names of 4 KB are kept of 256 KB");
    call.goes_on();
    relay.wait("they are counted", |counters| {
        counters.namespaces == kept + 1 && counters.excessive == 300 - kept as u64
    });
    drop(raw);
    relay.wait("they go with their session", |counters| counters.namespaces == 1 && counters.sessions == 2);
    call.goes_on();
}

#[test]
fn who_holds_subscriptions_meets_their_bound() {
    let (relay, client) = (Relay::start(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let raw = stranger(&relay);
    // Streams may be read in another order than they were opened: which of them are too many is not ours to say.
    raw.run("answers to those that are too many", async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..200_u64 {
            let last = n.to_string();
            let name = fields(&[b"voice", b"CA2", last.as_bytes()]);
            let asked = raw.open_request(&words::subscribe_patiently(2 * n, &name)).await;
            let (send, mut receive) = asked.expect("the session lives");
            raw.keep(send);
            let tell = tell.clone();
            tokio::spawn(async move { tell.send(is_excessive(&read_message(&mut receive).await)) });
        }
        for _ in 64..200 {
            assert_eq!(told.recv().await, Some(true));
        }
    });
    relay.wait("the others are held", |counters| (counters.held, counters.over_held) == (64, 200 - 64));
    call.goes_on();
    drop(raw);
    relay.wait("they go with their session", |counters| counters.subscriptions == 1 && counters.sessions == 2);
}

/// It takes what comes and reads nothing, so its flow control runs out.
#[test]
fn who_reads_nothing_is_ended_and_nobody_else_notices() {
    let (relay, client) = (Relay::start(), Client::start());
    let speaker = client.connect(&relay, Kind::RawQuic, vec![relay.token(&[OWN], &[])]);
    let hearer = client.connect(&relay, Kind::RawQuic, vec![relay.token(&[], &[OWN])]);
    assert_eq!(speaker.announce(OWN, vec![]), rig::Answer::Ok);
    let request = hearer.ask(OWN, None, vec![]);
    let publication = speaker.serve(OWN);
    assert_eq!(hearer.answered(request), rig::Answer::Ok);
    let raw = stranger(&relay);
    let (_send, mut receive) = raw.run("a subscription", async {
        let (send, mut receive) = raw.open_request(&words::subscribe_plainly(0, &namespace(OWN))).await.expect("lives");
        assert_eq!(read_message(&mut receive).await.map(|(kind, _)| kind), Some(SUBSCRIBE_OK));
        (send, receive)
    });
    let subgroup = speaker.open(publication, 1);
    let mut sent = 0;
    while relay.server.counters().too_far_behind == 0 {
        let payload = vec![7_u8; 32 * 1024];
        speaker.send(subgroup, object(1, sent, payload));
        assert_eq!(hearer.object(request).id, sent);
        sent += 1;
        assert!(sent < 10_000, "the one who reads nothing is never ended");
        // Acknowledgements go on: only what is read of a stream makes room for more.
        raw.run("a moment of its transport", async { tokio::task::yield_now().await });
    }
    let done = raw.run("PUBLISH_DONE", read_message(&mut receive)).expect("the session lives");
    let status = words::read_vi(&done.1).expect("a status").0;
    assert_eq!((done.0, status), (0x0b, PublishDoneCode::TooFarBehind as u64));
}

/// A datagram that begins as a QUIC version 1 Initial (RFC 9000 §17.2.2) and holds nothing that can be decrypted.
fn initial(n: u64) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend(n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x44, 0x90]);
    packet.resize(1200, n as u8);
    packet
}

fn initials(socket: &UdpSocket, to: SocketAddr, count: u64, from: u64) {
    for n in from..from + count {
        // What the kernel has no room for is lost, as on any path.
        let _ = socket.send_to(&initial(n), to);
    }
}

#[test]
fn initials_that_nobody_follows_up_leave_nothing() {
    let (relay, client) = (Relay::start(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    for round in 0..50 {
        initials(&socket, relay.server.address(), 100, round * 100);
        call.goes_on();
    }
    // Handshakes that begin rightly and are left alone.
    for _ in 0..50 {
        Raw::knock(relay.server.address());
        call.goes_on();
    }
    let raw = stranger(&relay);
    assert!(raw.ask(&words::subscribe_plainly(0, &namespace("voice/CA9/uplink"))).is_some(), "a new session is let in");
    drop(raw);
    relay.wait("only the call is left", |counters| counters.sessions == 2);
}

/// From speaker to hearer, a frame per 20 ms: the median and the 99th percentile.
fn late(call: &mut Call<'_>) -> [f64; 2] {
    let (begin, mut late) = (Instant::now(), Vec::new());
    for frame in 0..SECONDS * 50 {
        let due = begin + Duration::from_millis(20 * frame);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let said = Instant::now();
        call.goes_on();
        late.push(said.elapsed());
    }
    late.sort_unstable();
    [50, 99].map(|percent| late[late.len() * percent / 100].as_secs_f64() * 1e6)
}

/// How long each flood lasts, and how many times one of its steps is taken in a second.
const SECONDS: u64 = 10;
const STEPS_PER_S: u64 = 100;

/// Takes a step of the flood a hundred times a second, on a thread of its own, for as long as `work` lasts. How many of what
/// it counts were done in a second.
fn beside<'a, T>(flood: impl FnOnce() -> Box<dyn FnMut() -> u64 + 'a> + Send, work: impl FnOnce() -> T) -> (T, u64) {
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let (mut step, begin) = (flood(), Instant::now());
            let (mut steps, mut done) = (0, 0);
            while !ending.load(Ordering::Relaxed) {
                done += step();
                steps += 1;
                let due = begin + Duration::from_millis(1000 / STEPS_PER_S) * steps;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            (done as f64 / begin.elapsed().as_secs_f64()) as u64
        });
        let worked = work();
        ending.store(true, Ordering::Relaxed);
        (worked, flooding.join().expect("a flood ends well"))
    })
}

/// Twenty at a step.
fn flood_of_initials(to: SocketAddr) -> Box<dyn FnMut() -> u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    let mut from = 0;
    Box::new(move || {
        initials(&socket, to, 20, from);
        from += 20;
        20
    })
}

/// One at a step.
fn flood_of_handshakes(to: SocketAddr) -> Box<dyn FnMut() -> u64> {
    Box::new(move || {
        Raw::knock(to);
        1
    })
}

/// Reported, not asserted. The floods share the machine's cores with the relay and the call: what that alone costs is told by the same
/// flood against somebody else, a relay that carries nothing. The least of the rounds says most, since other work only adds to it.
#[test]
#[ignore = "takes times: make hostile"]
fn what_floods_cost_others() {
    let (relay, client) = (Relay::start(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let elsewhere = Relay::start();
    let other = elsewhere.server.address();
    for round in 0..3 {
        let quiet = late(&mut call);
        println!("round {round}: nothing: p50 {:.0} µs, p99 {:.0} µs", quiet[0], quiet[1]);
        let mut report = |what: &str, flood: &(dyn Fn(&Relay) -> Box<dyn FnMut() -> u64 + '_> + Sync)| {
            let ([p50, p99], rate) = beside(|| flood(&relay), || late(&mut call));
            let ratio = p99 / quiet[1];
            println!("round {round}: {what}, {rate} a second: p50 {p50:.0} µs, p99 {p99:.0} µs ({ratio:.2} times)");
        };
        report("Initials", &|relay| flood_of_initials(relay.server.address()));
        report("Initials, at another relay", &|_| flood_of_initials(other));
        report("handshakes that are left alone", &|relay| flood_of_handshakes(relay.server.address()));
        report("such handshakes, at another relay", &|_| flood_of_handshakes(other));
        report("SUBSCRIBE and cancel", &|relay| {
            let (raw, mut from) = (stranger(relay), 0);
            Box::new(move || {
                subscribe_and_cancel(&raw, from);
                from += BATCH + 1;
                BATCH + 1
            })
        });
        report("names of 4 KB", &|relay| {
            let (raw, mut n) = (stranger(relay), 0);
            Box::new(move || {
                raw.ask(&words::publish_namespace(2 * n as u64, &long_name(n)));
                n += 1;
                1
            })
        });
        println!("round {round}: {} KiB are resident, clients and floods included", resident_kib());
    }
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
