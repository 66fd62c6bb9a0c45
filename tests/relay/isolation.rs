//! A token for one call, and everything that somebody can try with it on another one: nothing is heard, nothing is said.
//!
//! The stranger is a session of another make, so it also says what our own would not. His token is for `voice/CA2/*`; call CA1 is
//! live all the while, and whoever listens to it is to hear its speaker and nobody else.
//! `make isolation` also takes the time of refusals.

use std::time::{Duration, Instant};

use clutchcall::moqt::RequestErrorCode;

use super::call::{Call, LIVE, patient_relay};
use super::peers;
use super::raw::{Answer, REQUEST_ERROR, REQUEST_OK, Raw, read_message};
use super::rig::{self, Client, Kind, Relay};
use super::words::{self, fields, namespace};

const OWN: &str = "voice/CA2/uplink";
const NOWHERE: &str = "voice/CA9/uplink";
/// Requests under way at once, and how many of these rounds one connection lives.
const ROUND: u64 = 40;
const ROUNDS_PER_SESSION: u64 = 32;

/// Names that look like the live call's, or like more than the stranger's.
fn names() -> Vec<Vec<u8>> {
    let lists: [&[&[u8]]; 13] = [
        &[b"voice", b"CA1", b"uplink"],
        &[b"voice", b"CA1", b"downlink"],
        &[b"voice", b"CA1"],
        &[b"voice"],
        &[b"voice", b"CA1", b"uplink", b"more"],
        &[b"voice/CA1/uplink"],
        &[b"voice", b"CA1/uplink"],
        &[b"voice", b"CA2/../CA1", b"uplink"],
        &[b"voice", b"CA2\0", b"uplink"],
        &[b"voice", b"CA22", b"uplink"],
        &[b"voice", b"*", b"uplink"],
        &[b"voice", b"CA2/CA1", b"uplink"],
        &[b"*"],
    ];
    lists.into_iter().map(fields).collect()
}

type Request = fn(u64, &[u8]) -> Vec<u8>;

/// Requests that name a track or a namespace of somebody else.
const BY_NAME: [Request; 6] = [
    words::subscribe_plainly,
    words::subscribe_patiently,
    |id, name| words::publish(id, name, id),
    words::publish_namespace,
    words::fetch,
    words::track_status,
];

/// Requests for all that begins so; an answer may be REQUEST_OK, and then nothing follows.
const BY_PREFIX: [Request; 2] = [words::subscribe_namespace, words::subscribe_tracks];

fn code(answer: &Answer) -> Option<u64> {
    let (REQUEST_ERROR, body) = answer.as_ref()? else { return None };
    words::read_vi(body).map(|(code, _)| code)
}

/// A refusal that says nothing about the call.
fn is_refused(answer: &Answer) -> bool {
    code(answer) == Some(RequestErrorCode::Unauthorized as u64)
}

/// The stranger's session, and the id of his next request.
struct Stranger {
    raw: Raw,
    next: u64,
}

impl Stranger {
    fn new(relay: &Relay) -> Self {
        let token = relay.token(&["voice/CA2/*"], &["voice/CA2/*"]);
        Self { raw: Raw::session(relay, &token.value), next: 0 }
    }

    fn id(&mut self) -> u64 {
        self.next += 2;
        self.next - 2
    }

    /// Says them all before the first answer is read.
    fn ask_all(&self, requests: &[Vec<u8>]) -> Vec<Answer> {
        self.raw.run("answers", async {
            let mut asked = Vec::new();
            for request in requests {
                asked.push(self.raw.open_request(request).await.expect("the session lives"));
            }
            let mut answers = Vec::new();
            for (send, receive) in &mut asked {
                answers.push(read_message(receive).await);
                let _ = send.reset(1_u8.into());
                let _ = receive.stop(1_u8.into());
            }
            answers
        })
    }

    /// Data for aliases that may be somebody's: as streams and as datagrams.
    fn forge(&self, from: u64) {
        for alias in from..from + 4 {
            let _ = self.raw.uni(&words::subgroup(alias % 64, 1, b"forged")).finish();
            let forged = words::datagram(alias % 64, 1, b"forged");
            let _ = self.raw.connection.send_datagram(forged.into());
        }
    }

    /// Nothing came but the relay's own control stream.
    fn heard_nothing(&mut self) {
        // What was under way is here when another answer is.
        let id = self.id();
        assert!(self.raw.ask(&words::subscribe_plainly(id, &namespace(NOWHERE))).is_some());
        let frames = self.raw.run("what came", async {
            let mut frames = 0;
            loop {
                tokio::select! {
                    biased;
                    stream = self.raw.connection.accept_uni() => {
                        let mut stream = stream.expect("the session lives");
                        let mut first = [0; 2];
                        stream.read_exact(&mut first).await.expect("a stream says what it is");
                        frames += u64::from(first != [0xaf, 0x00]);
                    }
                    request = self.raw.connection.accept_bi() => {
                        request.expect("the session lives");
                        frames += 1;
                    }
                    datagram = self.raw.connection.read_datagram() => {
                        datagram.expect("the session lives");
                        frames += 1;
                    }
                    () = std::future::ready(()) => return frames,
                }
            }
        });
        assert_eq!(frames, 0, "frames or tracks of another call");
    }
}

fn attempts(count: u64) {
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let names = names();
    let (mut made, mut round) = (0, 0);
    let mut stranger = Stranger::new(&relay);
    while made < count {
        if round % ROUNDS_PER_SESSION == ROUNDS_PER_SESSION - 1 {
            stranger.heard_nothing();
            stranger = Stranger::new(&relay);
        }
        let requests = (0..ROUND).map(|n| (made + n) as usize).map(|n| {
            let name = &names[n / BY_NAME.len() % names.len()];
            BY_NAME[n % BY_NAME.len()](stranger.id(), name)
        });
        let requests: Vec<_> = requests.collect();
        for (request, answer) in requests.iter().zip(stranger.ask_all(&requests)) {
            assert!(is_refused(&answer), "{request:02x?}: {answer:02x?}");
        }
        // Of requests that aren't his: what others' sessions call theirs, and what he was refused.
        let joins: Vec<_> = [0, 1, 2, made]
            .into_iter()
            .flat_map(|joining| [2, 3].map(|kind| words::fetch_joining(stranger.id(), kind, joining, 0)))
            .collect();
        for answer in stranger.ask_all(&joins) {
            assert_eq!(code(&answer), Some(RequestErrorCode::InvalidJoiningRequestId as u64), "{answer:02x?}");
        }
        for request in BY_PREFIX {
            let prefixes: Vec<_> = names.iter().map(|name| request(stranger.id(), name)).collect();
            for answer in stranger.ask_all(&prefixes) {
                assert!(matches!(answer, Some((REQUEST_OK | REQUEST_ERROR, _))), "{answer:02x?}");
            }
        }
        stranger.forge(round);
        call.goes_on();
        made += ROUND + joins.len() as u64 + 2 * names.len() as u64 + 8;
        round += 1;
    }
    stranger.heard_nothing();
    call.goes_on();
    println!("{made} attempts, {} sessions, 0 frames", round / ROUNDS_PER_SESSION + 1);
}

#[test]
fn a_token_for_one_call_neither_hears_nor_speaks_on_another() {
    attempts(100_000);
}

/// What is announced under a prefix is listed for those who may hear it: his own call is, the live one is not.
#[test]
fn listings_hold_what_the_token_may_hear() {
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let own = client.connect(&relay, Kind::RawQuic, vec![relay.token(&[OWN], &[])]);
    assert_eq!(own.announce(OWN, vec![]), rig::Answer::Ok);
    for prefix in ["", "voice"] {
        let mut stranger = Stranger::new(&relay);
        let request = words::subscribe_namespace(stranger.id(), &namespace(prefix));
        let (ok, listed, more) = stranger.raw.run("a listing", async {
            let (_send, mut receive) = stranger.raw.open_request(&request).await.expect("the session lives");
            let mut heard = Vec::new();
            let suffix = namespace(OWN.strip_prefix(prefix).expect("it begins so"));
            // REQUEST_OK, then NAMESPACE (0x08) with the suffix: 3 + 1 bytes, and 3 more than its fields.
            let expected = words::message(0x08, &[&suffix]).len() + 4;
            while heard.len() < expected {
                heard.extend_from_slice(&receive.read_chunk(4096, true).await.expect("it lives").expect("open").bytes);
            }
            let (kind, _) = words::first_message(&heard).expect("an answer");
            let listed = heard[4..] == words::message(0x08, &[&suffix]);
            (kind, listed, heard)
        });
        assert_eq!((ok, listed), (REQUEST_OK, true), "{prefix:?}: {more:02x?}");
        call.goes_on();
        stranger.heard_nothing();
    }
}

#[test]
fn a_refusal_is_the_same_bytes_whether_the_call_exists_or_not() {
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let mut stranger = Stranger::new(&relay);
    for request in BY_NAME {
        let [there, nowhere] = [LIVE, NOWHERE].map(|name| {
            let bytes = request(stranger.id(), &namespace(name));
            stranger.raw.ask(&bytes)
        });
        assert!(is_refused(&there), "{there:02x?}");
        assert_eq!(there, nowhere);
    }
    call.goes_on();
}

/// Reported, not asserted: the clock of a busy machine decides nothing.
#[test]
#[ignore = "takes times: make isolation"]
fn a_refusal_takes_as_long_whether_the_call_exists_or_not() {
    const ANSWERS: usize = 1000;
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let mut stranger = Stranger::new(&relay);
    let names = [LIVE, NOWHERE].map(namespace);
    let requests = [("SUBSCRIBE", BY_NAME[0]), ("PUBLISH_NAMESPACE", BY_NAME[3]), ("FETCH", BY_NAME[4])];
    for (what, request) in requests {
        let mut times = [Vec::new(), Vec::new()];
        for n in 0..2 * ANSWERS {
            let bytes = request(stranger.id(), &names[n % 2]);
            let asked = Instant::now();
            assert!(is_refused(&stranger.raw.ask(&bytes)));
            times[n % 2].push(asked.elapsed());
        }
        times.iter_mut().for_each(|times| times.sort_unstable());
        let at = |times: &[Duration], quarter: usize| times[times.len() * quarter / 4].as_secs_f64() * 1e6;
        let [there, nowhere] = [0, 1].map(|which| [1, 2, 3].map(|quarter| at(&times[which], quarter)));
        let (apart, spread) = ((there[1] - nowhere[1]).abs(), (there[2] - there[0]).min(nowhere[2] - nowhere[0]));
        println!(
            "{what}: median {:.1} µs for a live call, {:.1} µs for none ({ANSWERS} each): {apart:.2} µs apart, quartiles \
             {spread:.2} µs apart: {}",
            there[1],
            nowhere[1],
            if apart < spread { "kept" } else { "missed" }
        );
    }
    call.goes_on();
}

/// The same with a stack that others use.
#[test]
fn aiomoqt_with_a_token_for_another_call_gets_nothing() {
    let Some(python) = peers::python() else { return };
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    call.goes_on();
    let token = relay.token(&["voice/CA2/*"], &["voice/CA2/*"]).value;
    let told = std::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/aiomoqt_intruder.py"))
        .arg(relay.server.address().port().to_string())
        .args([std::str::from_utf8(&token).expect("a JWT is ASCII"), LIVE, "audio"])
        .output()
        .expect("the interpreter starts");
    let said: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&told.stderr));
    });
    assert_eq!(said["objects"], 0, "{said}");
    for name in ["subscribe", "fetch", "track_status", "publish", "publish_namespace"] {
        assert_eq!(said["answers"][name]["code"], RequestErrorCode::Unauthorized as u64, "{name}: {said}");
    }
    call.goes_on();
}
