//! What the client makes of servers that are late, broken, strict or not ours.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::retry::Pace;
use super::server_for_tests::{Answer, Server, Then, arguments, call, client_with, never, ok, refusal, row};
use super::{Arguments, Client, List, Originate, Transfer};
use crate::error::{Error, Kind};

fn busy() -> Answer {
    refusal(503, "SERVICE_UNAVAILABLE")
}

fn ending(then: Then) -> Answer {
    Answer { then, ..ok(row("dialing")) }
}

fn transfer(client: &Client) -> Error {
    client.transfer("CA1", Transfer { to: Some("+1555".into()), agent: None }, &mut never()).unwrap_err()
}

#[test]
fn only_what_cant_act_twice_is_repeated() {
    for failure in [busy(), ending(Then::Cut), ending(Then::Close)] {
        let server = Server::start(vec![failure.clone(), failure.clone(), ok(row("dialing"))]);
        server.client().originate(call(), &mut never()).unwrap().claim();
        let asked = server.asked();
        let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect();
        assert!(keys.len() == 3 && keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert!(asked.iter().all(|again| again.body == asked[0].body), "a key stands for one request");

        let server = Server::start(vec![failure.clone(), ok(row("ringing"))]);
        server.client().call("CA1", &mut never()).unwrap();
        assert_eq!(server.asked().len(), 2, "a query");

        let server = Server::start(vec![failure.clone(), ok(row("ringing"))]);
        server.client().hangup("CA1", &mut never()).unwrap();
        assert_eq!(server.asked().len(), 2, "a hang-up of a call that is over is a success");

        let server = Server::start(vec![failure.clone(), ok(json!({ "calls": [] }))]);
        server.client().list(List { limit: 1, ..List::default() }, &mut never()).unwrap();
        assert_eq!(server.asked().len(), 2, "a query");

        let server = Server::start(vec![failure.clone()]);
        server.client().attach_agent("CA1", "echo", &mut never()).unwrap_err();
        assert_eq!(server.asked().len(), 1, "an agent may have spoken meanwhile");

        let server = Server::start(vec![failure]);
        let error = transfer(&server.client());
        assert!([Kind::Server, Kind::ApiConnection].contains(&error.kind()), "{error}");
        assert!(error.retryable, "for the user to decide");
        assert_eq!(server.asked().len(), 1, "a mutation without a key is sent once");
    }
}

/// Each procedure that the client has: whether a failure makes it ask again. What may act twice is sent once.
#[test]
fn every_procedure_is_repeated_or_sent_once() {
    type Ask = fn(&Client) -> Option<Error>;
    let table: [(&str, bool, Ask); 12] = [
        ("voice.calls.originate", true, |client| client.originate(call(), &mut never()).err()),
        ("voice.calls.get", true, |client| client.call("CA1", &mut never()).err()),
        ("voice.calls.list", true, |client| client.list(List { limit: 1, ..List::default() }, &mut never()).err()),
        ("voice.calls.hangup", true, |client| client.hangup("CA1", &mut never()).err()),
        ("voice.agents.list", true, |client| client.agents(&mut never()).err()),
        ("voice.trunks.list", true, |client| client.trunks(&mut never()).err()),
        ("voice.calls.transfer", false, |client| Some(transfer(client))),
        ("voice.calls.answer", false, |client| client.answer("CA1", None, &mut never()).err()),
        ("voice.calls.reject", false, |client| client.reject("CA1", "busy", &mut never()).err()),
        ("voice.calls.sendDtmf", false, |client| client.send_dtmf("CA1", "1", 160, &mut never()).err()),
        ("voice.agents.attach", false, |client| client.attach_agent("CA1", "echo", &mut never()).err()),
        ("voice.trunks.test", false, |client| client.test_trunk("trunk_main", &mut never()).err()),
    ];
    for (procedure, is_repeated, ask) in table {
        let server = Server::start(vec![busy()]);
        let error = ask(&server.client()).unwrap_or_else(|| panic!("{procedure} succeeded"));
        assert!(error.retryable, "{procedure}: {error}");
        let asked = server.asked();
        assert!(asked.iter().all(|asked| asked.line.contains(&format!("/{procedure}"))), "{procedure}: {asked:?}");
        assert_eq!(asked.len(), if is_repeated { 3 } else { 1 }, "{procedure}");
    }
}

/// The engine's own id where there is one, else what the header says, which every proxy passes on.
#[test]
fn a_failure_keeps_the_id_of_its_request() {
    let of = |answer: Answer| {
        let server = Server::start(vec![answer]);
        server.client().call("CA1", &mut never()).unwrap_err().request_id.clone()
    };
    let header = "x-request-id: req_of_the_header\r\n";
    assert_eq!(of(Answer { headers: header, ..refusal(404, "NOT_FOUND") }).as_deref(), Some("req_7"));
    for body in ["<h1>Bad Gateway</h1>", "{\"error\":{\"message\":\"gone\"}}"] {
        let foreign = Answer { headers: header, ..Answer::new(404, body) };
        assert_eq!(of(foreign).as_deref(), Some("req_of_the_header"), "{body}");
        assert_eq!(of(Answer::new(404, body)), None);
    }
    assert_eq!(of(Answer { headers: "x-request-id: \r\n", ..Answer::new(404, "x") }), None);
}

#[test]
fn two_repetitions_are_the_last() {
    let server = Server::start(vec![busy()]);
    let error = server.client().call("CA1", &mut never()).unwrap_err();
    assert_eq!((error.status, server.asked().len()), (Some(503), 3));
    for max_retries in [0, 5] {
        let server = Server::start(vec![busy()]);
        let arguments =
            Arguments { max_retries: Some(max_retries), ..arguments(&format!("http://{}", server.address)) };
        let client = client_with(arguments, Pace::of_millis(1, 1));
        client.call("CA1", &mut never()).unwrap_err();
        assert_eq!(server.asked().len(), 1 + max_retries as usize);
    }
}

#[test]
fn repeating_mends_no_refusal() {
    for (status, code) in [(400, "BAD_REQUEST"), (401, "UNAUTHORIZED"), (404, "NOT_FOUND"), (409, "CONFLICT")] {
        let server = Server::start(vec![refusal(status, code)]);
        server.client().originate(call(), &mut never()).unwrap_err();
        assert_eq!(server.asked().len(), 1, "{code}");
    }
}

#[test]
fn each_call_has_a_key_of_its_own_and_the_users_own_is_kept() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    for key in [None, None, Some("order-7".to_owned())] {
        client.originate(Originate { idempotency_key: key, ..call() }, &mut never()).unwrap().claim();
    }
    let keys: Vec<_> = server.asked().iter().map(|asked| asked.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys[0] != keys[1] && keys[2] == "order-7", "{keys:?}");
    for wrong in ["a b", "ü", &"k".repeat(256)] {
        let wrong = Originate { idempotency_key: Some(wrong.to_owned()), ..call() };
        let error = client.originate(wrong, &mut never()).unwrap_err();
        assert!(error.kind() == Kind::Value && error.message.starts_with("idempotency_key"), "{error}");
    }
}

/// The pace is an hour: without the server's word the test would not end.
#[test]
fn the_servers_retry_after_counts() {
    let hour = Pace::of_millis(3_600_000, 3_600_000);
    let told = |headers| Answer { headers, ..busy() };
    let patient = |server: &Server| {
        client_with(Arguments { timeout_s: Some(80_000.0), ..arguments(&format!("http://{}", server.address)) }, hour)
    };
    let past = "retry-after: Mon, 24 Nov 2025 16:00:00 GMT\r\n";
    let server = Server::start(vec![told("retry-after: 0\r\n"), told(past), ok(row("ringing"))]);
    assert_eq!(patient(&server).call("CA1", &mut never()).unwrap().sid, "CA1");
    assert_eq!(server.asked().len(), 3);
}

/// A wait beyond the timeout is not begun: the refusal itself is told.
#[test]
fn a_retry_after_beyond_the_timeout_is_the_users_to_wait() {
    let later = Answer { headers: "retry-after: 3600\r\n", ..busy() };
    let server = Server::start(vec![later]);
    let error = server.client().call("CA1", &mut never()).unwrap_err();
    assert_eq!(
        (error.status, error.retry_after, server.asked().len()),
        (Some(503), Some(Duration::from_secs(3600)), 1)
    );

    let server = Server::start(vec![busy()]);
    let hour = Pace::of_millis(3_600_000, 3_600_000);
    let client = client_with(arguments(&format!("http://{}", server.address)), hour);
    assert_eq!(client.call("CA1", &mut never()).unwrap_err().kind(), Kind::Server, "not a timeout");
}

#[test]
fn a_server_that_says_nothing_is_a_timeout() {
    let server = Server::start(vec![ending(Then::Silence)]);
    let arguments = Arguments { timeout_s: Some(0.05), ..arguments(&format!("http://{}", server.address)) };
    let client = client_with(arguments, Pace::default());
    let error = client.call("CA1", &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiTimeout && error.message.contains("timeout 0.05 s"), "{error}");
    assert!(error.retryable);
}

/// The other end takes no connection: its queue is full.
#[test]
fn a_connection_that_does_not_come_names_its_own_limit() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // The kernel keeps one more than the queue's length.
    let _queued: Vec<_> = (0..3).map(|_| connecting(address)).collect();
    let arguments =
        Arguments { connect_timeout_s: Some(0.05), max_retries: Some(0), ..arguments(&format!("http://{address}")) };
    let error = client_with(arguments, Pace::default()).call("CA1", &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiTimeout && error.message.contains("connect_timeout (0.05 s)"), "{error}");
    assert!(!error.in_doubt, "nothing was said yet");
}

fn connecting(address: std::net::SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&address.into());
    socket
}

/// A server closes what is idle when it likes. Nobody notices, also where a request is sent once only.
#[test]
fn a_connection_that_was_closed_while_idle_is_replaced() {
    let server = Server::start(vec![ending(Then::Leave), ok(row("ringing"))]);
    let client = server.client();
    client.call("CA1", &mut never()).unwrap();
    let begun = std::time::Instant::now();
    while server.left() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the client holds on to what is closed");
        std::thread::sleep(Duration::from_millis(5));
    }
    client.transfer("CA1", Transfer { to: Some("+1555".into()), agent: None }, &mut never()).unwrap();
    let connections: Vec<_> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 1]);
}

/// Requests at the same time have connections of their own, and the next ones find these again.
#[test]
fn requests_at_the_same_time_share_a_pool() {
    let server = Server::start(vec![ok(row("ringing"))]);
    let client = server.client();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| client.call("CA1", &mut never()).unwrap());
            }
        });
    }
    let connections = server.asked().iter().map(|asked| asked.connection).max().unwrap() + 1;
    assert!(server.asked().len() == 24 && connections <= 8, "{connections} connections");
    client.clone().call("CA1", &mut never()).unwrap();
    assert!(server.asked().last().unwrap().connection < connections, "a clone is the same client");
}

#[test]
fn an_answer_without_end_is_not_read_to_it() {
    let server = Server::start(vec![Answer::new(200, "x".repeat(17 << 20))]);
    let error = server.client().call("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.body.as_ref().map(String::len)), (Kind::ApiStatus, Some(4096)));
}

/// Each call has all the notes that it may have, of what JSON writes at the greatest length.
#[test]
fn the_longest_page_is_read() {
    let notes: Value = (0..8).map(|n| (format!("{n}"), json!("\u{1}".repeat(511)))).collect();
    let mut row = row("ringing");
    row["metadata"] = notes;
    let page = ok(json!({ "calls": vec![row; 500], "cursor": null }));
    assert!(page.body.len() > 11 << 20);
    let server = Server::start(vec![page]);
    let page = server.client().list(List { limit: 500, ..List::default() }, &mut never()).unwrap();
    assert_eq!(page.calls.len(), 500);
}

#[test]
fn a_private_authority_is_trusted_by_its_file_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let server = Server::over(Some(Arc::new(config)), vec![ok(row("ringing"))]);
    let base_url = format!("https://localhost:{}", server.address.port());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Some(path.to_str().unwrap().to_owned())
    };
    let with = |ca_file| client_with(Arguments { ca_file, ..arguments(&base_url) }, Pace::of_millis(1, 1));
    let ca_file = file("ca.pem", &made.cert.pem());
    assert_eq!(with(ca_file).call("CA1", &mut never()).unwrap().sid, "CA1");
    let error = with(None).call("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.retryable), (Kind::ApiConnection, false), "{error}");
    assert!(error.message.contains("CLUTCHCALL_CA_FILE") && error.message.contains("SSL_CERT_FILE"), "{error}");
    assert_eq!(server.asked().len(), 1, "nothing was said to whom nobody trusts");
    for wrong in [file("empty.pem", ""), Some("/no/such/file".to_owned())] {
        let arguments = Arguments { ca_file: wrong, ..arguments(&base_url) };
        let error = super::Options::find(arguments).unwrap_err();
        assert!(error.kind() == Kind::Config && error.message.starts_with("ca_file"), "{error}");
    }
}

/// `tests/data/http/recorded.toml`: what engines of this wire have answered, and what our client makes of it.
#[test]
fn recorded_answers() {
    let text = include_str!("../../tests/data/http/recorded.toml");
    let cases: toml::Table = text.parse().unwrap();
    assert!(cases.len() >= 15);
    for (name, case) in cases {
        let text = |field: &str| case.get(field).and_then(toml::Value::as_str);
        let status = case.get("status").and_then(toml::Value::as_integer).unwrap_or(200) as u16;
        let server = Server::start(vec![Answer::new(status, text("body").unwrap())]);
        let client = server.client();
        let outcome = match text("asked").unwrap() {
            "originate" => {
                client.originate(call(), &mut never()).map(|placed| serde_json::to_value(placed.claim()).unwrap())
            }
            "get" => client.call("CA1", &mut never()).map(|row| serde_json::to_value(row).unwrap()),
            "hangup" => client.hangup("CA1", &mut never()).map(|()| Value::Null),
            other => panic!("{name} asks {other}"),
        };
        match (outcome, text("row"), text("error")) {
            (Ok(row), wanted, None) => {
                let wanted: Value = serde_json::from_str(wanted.unwrap_or("null")).unwrap();
                for (field, value) in wanted.as_object().into_iter().flatten() {
                    assert_eq!(row[field], *value, "{name}: {field}");
                }
            }
            (Err(error), None, Some(class)) => {
                assert_eq!(error.kind().class(), class, "{name}: {error}");
                assert_eq!(error.code.as_deref(), text("code"), "{name}");
                assert!(error.message.contains(text("says").unwrap_or_default()), "{name}: {error}");
            }
            (outcome, ..) => panic!("{name}: {outcome:?}"),
        }
    }
}
