//! Bytes that no peer of good will sends, on every kind of stream.
//!
//! Each costs the one who sends it the draft's close code (§15.10). Beside it a call of others goes on.

use clutchcall::moqt::CloseCode;

use super::call::{Call, patient_relay};
use super::raw::{REQUEST_OK, Raw, SUBSCRIBE_OK};
use super::rig::{Client, Relay};
use super::words::{self, fields, message, namespace, sized, vi};

const OWN: &str = "voice/CA2/uplink";
const PROTOCOL: CloseCode = CloseCode::ProtocolViolation;

fn stranger(relay: &Relay) -> Raw {
    Raw::session(relay, &relay.token(&["voice/CA2/*"], &["voice/CA2/*"]).value)
}

fn own() -> Vec<u8> {
    namespace(OWN)
}

/// Numbers from a seed (SplitMix64), and bytes made of them.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(300)).map(|_| self.next() as u8).collect()
    }
    /// One thing about it is wrong: a byte, its end, or something in between.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        let at = self.below(good.len());
        let mut bytes = good.to_vec();
        match self.below(3) {
            0 => bytes[at] = self.next() as u8,
            1 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, self.bytes())),
        }
        bytes
    }
}

/// What is said, how that stream ends, and what it costs.
type Case = (&'static str, Vec<u8>, End, CloseCode);

#[derive(Clone, Copy, Debug)]
enum End {
    Open,
    Finish,
    Reset,
}

/// Each case on a session of its own, beside a live call.
fn each(cases: Vec<Case>, say: impl Fn(&Raw, &[u8], End)) {
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    for (what, bytes, end, expected) in cases {
        let raw = stranger(&relay);
        say(&raw, &bytes, end);
        let (code, reason) = raw.closed(what);
        assert_eq!(code, expected as u64, "{what}: {reason}");
        call.goes_on();
    }
    relay.wait("only the call is left", |counters| counters.sessions == 2 && counters.namespaces == 1);
}

fn on_uni(raw: &Raw, bytes: &[u8], end: End) {
    finish(raw, raw.uni(bytes), end);
}

fn on_control(raw: &mut Raw, bytes: &[u8], end: End) {
    let mut control = raw.take_control();
    raw.run("room on the control stream", async {
        let _ = control.write_all(bytes).await;
    });
    finish(raw, control, end);
}

fn on_bidi(raw: &Raw, bytes: &[u8], end: End) {
    let opened = raw.run("a request stream", raw.open_request(bytes));
    let (send, receive) = opened.expect("the session lives");
    finish(raw, send, end);
    raw.keep(receive);
}

/// Ends a stream, or keeps it as it is for as long as the session lives.
fn finish(raw: &Raw, mut stream: quinn::SendStream, end: End) {
    match end {
        End::Open => {}
        End::Finish => stream.finish().expect("open until now"),
        End::Reset => stream.reset(1_u8.into()).expect("open until now"),
    }
    raw.keep(stream);
}

#[test]
fn the_control_stream() {
    let goaway = message(0x10, &[&sized(b""), &vi(0), &vi(1)]);
    let cases = vec![
        ("a second SETUP", words::setup(b""), End::Open, PROTOCOL),
        ("a request", words::subscribe_plainly(0, &own()), End::Open, PROTOCOL),
        ("an unknown message", message(0x7777, &[b"x"]), End::Open, PROTOCOL),
        ("GOAWAY that is shorter than its length says", message(0x10, &[&sized(b""), &vi(0)]), End::Open, PROTOCOL),
        ("GOAWAY that is longer", message(0x10, &[&sized(b""), &vi(0), &vi(1), b"more"]), End::Open, PROTOCOL),
        (
            "a GOAWAY that sends a server elsewhere",
            message(0x10, &[&sized(b"moqt://x"), &vi(0), &vi(1)]),
            End::Open,
            PROTOCOL,
        ),
        ("a URI of more than 8192 bytes", message(0x10, &[&sized(&[b'x'; 9000]), &vi(0), &vi(1)]), End::Open, PROTOCOL),
        ("two GOAWAYs", [goaway.clone(), goaway.clone()].concat(), End::Open, PROTOCOL),
        ("its end", Vec::new(), End::Finish, PROTOCOL),
        ("its end within a message", goaway[..3].to_vec(), End::Finish, PROTOCOL),
        ("its reset", Vec::new(), End::Reset, PROTOCOL),
    ];
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    for (what, bytes, end, expected) in cases {
        let mut raw = stranger(&relay);
        // Behind an answer the SETUP is read; a reset would take it along.
        assert!(raw.ask(&words::subscribe_plainly(0, &own())).is_some());
        on_control(&mut raw, &bytes, end);
        let (code, reason) = raw.closed(what);
        assert_eq!(code, expected as u64, "{what}: {reason}");
        call.goes_on();
    }
}

/// Instead of a good SETUP.
#[test]
fn the_first_words() {
    let option = |kind: u64, value: &[u8]| message(0x2f00, &[&vi(kind), &sized(value)]);
    let cases: Vec<Case> = vec![
        ("an option that is longer than the message", message(0x2f00, &[&vi(3), &vi(40), b"x"]), End::Open, PROTOCOL),
        ("a length beyond all options", [vi(0x2f00), vec![0, 9], vi(2), vi(1)].concat(), End::Finish, PROTOCOL),
        ("two paths", message(0x2f00, &[&vi(1), &sized(b"/"), &vi(0), &sized(b"/")]), End::Open, PROTOCOL),
        ("a token of no form", option(3, b""), End::Open, CloseCode::KeyValueFormatting),
        ("a token that is none", option(3, &words::token(b"no token")), End::Open, CloseCode::MalformedAuthToken),
        ("a request instead", words::subscribe_plainly(0, &own()), End::Open, PROTOCOL),
    ];
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    for (what, bytes, end, expected) in cases {
        let raw = Raw::connect(relay.server.address());
        on_uni(&raw, &bytes, end);
        let (code, reason) = raw.closed(what);
        assert_eq!(code, expected as u64, "{what}: {reason}");
        call.goes_on();
    }
}

#[test]
fn request_streams() {
    let subscribe = words::subscribe_plainly(0, &own());
    let with = |parameters: &[&[u8]]| words::subscribe(0, &own(), &parameters.concat());
    let long = vec![b'x'; 4096];
    let many: Vec<&[u8]> = vec![b"f"; 33];
    let cases = vec![
        ("an unknown message", message(0x7777, &[b"x"]), End::Open, PROTOCOL),
        ("an answer to nothing", message(SUBSCRIBE_OK, &[&[2, 0]]), End::Open, PROTOCOL),
        ("SETUP", words::setup(b""), End::Open, PROTOCOL),
        ("a body that ends too soon", message(0x03, &[&vi(0), &own()]), End::Open, PROTOCOL),
        ("a body that goes on", message(0x03, &[&vi(0), &own(), &sized(b"audio"), &[0], b"more"]), End::Open, PROTOCOL),
        ("a request of the server's", words::subscribe_plainly(1, &own()), End::Open, CloseCode::InvalidRequestId),
        ("an unknown parameter", with(&[&[1], &vi(0x70), &vi(1)]), End::Open, PROTOCOL),
        ("a parameter of another message", with(&[&[1], &vi(0x08), &vi(1)]), End::Open, PROTOCOL),
        ("a parameter twice", with(&[&[2], &vi(0x20), &[7], &vi(0), &[7]]), End::Open, PROTOCOL),
        ("more parameters than there are", with(&[&[9], &vi(0x20), &[7]]), End::Open, PROTOCOL),
        ("a forward state of 2", with(&[&[1], &vi(0x10), &[2]]), End::Open, PROTOCOL),
        ("a group order of 3", with(&[&[1], &vi(0x22), &[3]]), End::Open, PROTOCOL),
        ("a filter of type 9", with(&[&[1], &vi(0x21), &sized(&vi(9))]), End::Open, PROTOCOL),
        ("33 fields", words::subscribe_plainly(0, &fields(&many)), End::Open, PROTOCOL),
        ("an empty field", words::subscribe_plainly(0, &fields(&[b"voice", b""])), End::Open, PROTOCOL),
        ("a name of more than 4096 bytes", words::subscribe_plainly(0, &fields(&[&long, b"x"])), End::Open, PROTOCOL),
        ("REQUEST_UPDATE of nothing", words::request_update(0), End::Open, PROTOCOL),
        (
            "two requests on one stream",
            [subscribe.clone(), words::subscribe_plainly(2, &own())].concat(),
            End::Open,
            PROTOCOL,
        ),
        ("an end within a message", subscribe[..5].to_vec(), End::Finish, PROTOCOL),
        ("65535 bytes of nothing", message(0x03, &[&[0xff; 65_535]]), End::Open, PROTOCOL),
    ];
    each(cases, on_bidi);
}

#[test]
fn a_request_id_counts_once() {
    let relay = Relay::start();
    let raw = stranger(&relay);
    assert!(raw.ask(&words::subscribe_plainly(0, &own())).is_some());
    on_bidi(&raw, &words::subscribe_plainly(0, &own()), End::Open);
    assert_eq!(raw.closed("a request id twice").0, CloseCode::InvalidRequestId as u64);
}

/// Streams of a track that the stranger publishes by right; alias 7.
#[test]
fn data_streams() {
    let head = |kind: u64| [vi(kind), vi(7), vi(1), vec![64]].concat();
    let object = |length: u64, payload: &[u8]| [vi(0), vi(length), payload.to_vec()].concat();
    let cases = vec![
        ("an unknown kind of stream", vi(0x7777), End::Open, PROTOCOL),
        ("subgroup mode 3", [vi(0x56), vi(7), vi(1), vec![64]].concat(), End::Open, PROTOCOL),
        ("an end within the header", head(0x50)[..2].to_vec(), End::Finish, PROTOCOL),
        ("an end within an object", [head(0x50), object(80, b"short")].concat(), End::Finish, PROTOCOL),
        ("an unknown status", [head(0x50), object(0, &vi(9))].concat(), End::Open, PROTOCOL),
        (
            "an object id beyond all numbers",
            [head(0x50), object(1, b"x"), vi(u64::MAX), vi(1), b"x".to_vec()].concat(),
            End::Open,
            PROTOCOL,
        ),
    ];
    each(cases, |raw, bytes, end| {
        let answer = raw.ask_and_keep(&words::publish(0, &own(), 7));
        assert_eq!(answer.map(|(kind, _)| kind), Some(REQUEST_OK));
        on_uni(raw, bytes, end);
    });
}

#[test]
fn datagrams() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown type", [vi(0x7777), vi(7), vi(1)].concat()),
        ("nothing at all", Vec::new()),
        ("a status that is an end of group", [vi(0x26), vi(7), vi(1), vec![64, 3]].concat()),
        ("an end within the header", [vi(0x00), vi(7)].concat()),
        ("an unknown status", [vi(0x24), vi(7), vi(1), vec![64, 9]].concat()),
    ];
    let cases = cases.into_iter().map(|(what, bytes)| (what, bytes, End::Open, PROTOCOL)).collect();
    each(cases, |raw, bytes, _| {
        let answer = raw.ask_and_keep(&words::publish(0, &own(), 7));
        assert_eq!(answer.map(|(kind, _)| kind), Some(REQUEST_OK));
        raw.connection.send_datagram(bytes.to_vec().into()).expect("it fits");
    });
}

/// Bytes in any order, and good messages with some of them changed: the session lives on or ends with a code of the draft.
#[test]
fn noise_on_every_kind_of_stream() {
    const SESSIONS: u64 = 120;
    let (relay, client) = (patient_relay(), Client::start());
    let mut call = Call::begin(&relay, &client);
    let mut noise = Noise(7);
    for session in 0..SESSIONS {
        let mut raw = stranger(&relay);
        let good = [
            words::subscribe_patiently(2, &own()),
            words::publish(4, &own(), 7),
            words::publish_namespace(6, &own()),
            words::subscribe_namespace(8, &namespace("voice")),
            words::fetch(10, &own()),
            words::track_status(12, &own()),
            words::subgroup(7, 1, b"frame"),
            words::datagram(7, 1, b"frame"),
        ];
        for _ in 0..8 {
            let chosen = noise.below(good.len());
            let spoiled = noise.spoil(&good[chosen]);
            match noise.below(4) {
                0 => drop(raw.run("a request", raw.open_request(&spoiled)).map(|streams| raw.keep(streams))),
                1 => drop(raw.try_uni(&spoiled).map(|stream| raw.keep(stream))),
                2 => drop(raw.connection.send_datagram(spoiled.into())),
                _ => drop(raw.try_uni(&noise.bytes()).map(|stream| raw.keep(stream))),
            }
        }
        if session % 4 == 0 && raw.connection.close_reason().is_none() {
            on_control(&mut raw, &noise.bytes(), End::Open);
        }
        call.goes_on();
        if let Some(quinn::ConnectionError::ApplicationClosed(close)) = raw.connection.close_reason() {
            let code = close.error_code.into_inner();
            assert!(matches!(code, 1..=6 | 0x10..=0x18), "{code:#x} is no code for it: {close}");
        }
    }
    relay.wait("only the call is left", |counters| counters.sessions == 2);
}
