//! The procedures against a real HTTP server of the test's own, which answers what it is told and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::call::Status;
use crate::error::{Error, Kind};

/// One request as it came.
#[derive(Clone, Debug, Default)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
    connection: usize,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Answers in turn; the last one is repeated.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: &'static str,
    body: String,
}

fn ok(data: Value) -> Answer {
    Answer { status: 200, headers: "", body: json!({ "result": { "data": data } }).to_string() }
}

fn refusal(status: u16, code: &str) -> Answer {
    let data = json!({ "httpStatus": status, "code": code, "requestId": "req_7", "retryable": status == 503 });
    let body = json!({ "error": { "message": format!("it is {code}"), "code": -32000, "data": data } });
    Answer { status, headers: "", body: body.to_string() }
}

fn row(status: &str) -> Value {
    json!({
        "sid": "CA1", "status": status, "to": "+15550001", "from": "+15550002", "startedAt": "2026-01-01T00:00:00.000Z",
        "trunkId": "trunk_main", "agent": null, "endReason": "busy", "sipCode": 486, "new": {"of": "a newer engine"}
    })
}

impl Server {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let turn = Arc::new(Mutex::new(answers));
        // Ends with the test's process; connections end with the clients that made them.
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (kept, turn) = (kept.clone(), turn.clone());
                std::thread::spawn(move || serve(stream.unwrap(), connection, &kept, &turn));
            }
        });
        Self { address, asked }
    }

    fn client(&self) -> Client {
        client(&format!("http://{}", self.address))
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn client(base_url: &str) -> Client {
    let text = |text: &str| Some(text.to_owned());
    let arguments = Arguments {
        base_url: text(base_url),
        api_key: text("key_1"),
        org_id: text("org_1"),
        timeout_s: Some(20.0),
        ..Arguments::default()
    };
    Client::new(Options::find(arguments).unwrap()).unwrap()
}

fn serve(stream: TcpStream, connection: usize, kept: &Mutex<Vec<Asked>>, turn: &Mutex<Vec<Answer>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut asked = Asked { connection, ..Asked::default() };
        if reader.read_line(&mut asked.line).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((key, value)) = line.trim().split_once(": ") else { break };
            asked.headers.push((key.to_lowercase(), value.to_owned()));
        }
        let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        asked.body = String::from_utf8(body).unwrap();
        kept.lock().unwrap().push(asked);
        let answer = {
            let mut turn = turn.lock().unwrap();
            if turn.len() > 1 { turn.remove(0) } else { turn[0].clone() }
        };
        let Answer { status, headers, body } = answer;
        let length = body.len();
        write!(&stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}").unwrap();
    }
}

fn never() -> impl FnMut() -> bool {
    || false
}

fn call() -> Originate {
    Originate {
        to: "+15550001".into(),
        from: "+15550002".into(),
        trunk_id: "trunk_main".into(),
        ..Originate::default()
    }
}

#[test]
fn originate_speaks_the_vendors_wire() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    let row = client.originate(call(), &mut never()).unwrap();
    assert_eq!((row.sid.as_str(), row.status, row.agent), ("CA1", Status::Dialing, None));
    let asked = &server.asked()[0];
    assert_eq!(asked.line.trim(), "POST /api/trpc/voice.calls.originate HTTP/1.1");
    assert_eq!(asked.header("authorization"), Some("Bearer key_1"));
    assert_eq!(asked.header("idempotency-key").map(str::len), Some(32));
    let expected = json!({"orgId": "org_1", "to": "+15550001", "from": "+15550002", "trunkId": "trunk_main",
        "agent": null, "ringTimeoutSec": 30});
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
}

#[test]
fn get_is_a_query_and_connections_are_kept() {
    let server = Server::start(vec![ok(row("ringing"))]);
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.call("CA 1", &mut never()).unwrap().status, Status::Ringing);
    }
    let asked = server.asked();
    let expected =
        "GET /api/trpc/voice.calls.get?input=%7B%22orgId%22%3A%22org_1%22%2C%22sid%22%3A%22CA+1%22%7D HTTP/1.1";
    assert_eq!(asked[0].line.trim(), expected);
    assert!(asked.iter().all(|asked| asked.connection == 0), "one connection for all");
}

#[test]
fn a_refusal_keeps_its_numbers() {
    let server = Server::start(vec![refusal(404, "NOT_FOUND")]);
    let error = server.client().call("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.status, error.retryable), (Kind::NotFound, Some(404), false));
    assert_eq!((error.code.as_deref(), error.request_id.as_deref()), (Some("NOT_FOUND"), Some("req_7")));
    assert_eq!(error.to_string(), "it is NOT_FOUND (request req_7)");
    assert!(error.body.as_deref().unwrap().starts_with('{'));
}

#[test]
fn an_error_in_a_success_envelope_is_an_error() {
    let mut answer = refusal(409, "CONFLICT");
    answer.status = 200;
    let error = Server::start(vec![answer]).client().hangup("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.status), (Kind::Conflict, Some(409)));
}

#[test]
fn what_is_no_engine_is_named_so_and_cut() {
    let page = Answer { status: 502, headers: "", body: "<html>".repeat(2000) };
    let error = Server::start(vec![page]).client().hangup("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.body.as_ref().map(String::len)), (Kind::Server, Some(4096)));
    assert!(error.message.len() < 400, "{error}");
    let page = Answer { status: 200, headers: "", body: "hello".into() };
    let error = Server::start(vec![page]).client().call("CA1", &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiStatus && error.message.contains("CLUTCHCALL_BASE_URL"), "{error}");
    let moved = Answer { status: 308, headers: "location: https://elsewhere/\r\n", body: String::new() };
    let error = Server::start(vec![moved]).client().call("CA1", &mut never()).unwrap_err();
    assert!(error.message.contains("https://elsewhere/"), "{error}");
}

#[test]
fn only_what_cant_act_twice_is_repeated() {
    let busy = || Answer { headers: "retry-after: 0\r\n", ..refusal(503, "SERVICE_UNAVAILABLE") };
    let server = Server::start(vec![busy(), busy(), ok(row("dialing"))]);
    server.client().originate(call(), &mut never()).unwrap();
    let keys: Vec<_> = server.asked().iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect();
    assert!(keys.len() == 3 && keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");

    let server = Server::start(vec![busy()]);
    let error = server.client().call("CA1", &mut never()).unwrap_err();
    assert_eq!((error.status, error.retry_after, server.asked().len()), (Some(503), Some(Duration::ZERO), 3));

    let server = Server::start(vec![busy()]);
    server.client().hangup("CA1", &mut never()).unwrap_err();
    assert_eq!(server.asked().len(), 1, "a mutation without a key is sent once");

    let server = Server::start(vec![refusal(400, "BAD_REQUEST")]);
    server.client().originate(call(), &mut never()).unwrap_err();
    assert_eq!(server.asked().len(), 1, "repeating mends nothing");
}

#[test]
fn a_dead_engine_is_a_connection_error_with_a_remedy() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client(&format!("http://127.0.0.1:{port}")).hangup("CA1", &mut never()).unwrap_err();
    assert_eq!(error.kind(), Kind::ApiConnection);
    assert!(error.message.contains("clutchcall dev") && error.message.contains("CLUTCHCALL_BASE_URL"), "{error}");
}

#[test]
fn arguments_are_checked_before_anything_is_sent() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    let both = Transfer { to: Some("+1".into()), agent: Some("echo".into()) };
    let errors: Vec<(Error, &str)> = vec![
        (client.originate(Originate { to: String::new(), ..call() }, &mut never()).unwrap_err(), "to "),
        (client.originate(Originate { from: " ".into(), ..call() }, &mut never()).unwrap_err(), "from_"),
        (client.originate(Originate { trunk_id: "a\nb".into(), ..call() }, &mut never()).unwrap_err(), "trunk_id"),
        (client.originate(Originate { agent: Some(String::new()), ..call() }, &mut never()).unwrap_err(), "agent"),
        (
            client.originate(Originate { ring_timeout_s: Some(f64::NAN), ..call() }, &mut never()).unwrap_err(),
            "ring_timeout_sec",
        ),
        (client.call("", &mut never()).unwrap_err(), "sid"),
        (client.hangup(&"x".repeat(600), &mut never()).unwrap_err(), "sid"),
        (client.transfer("CA1", Transfer::default(), &mut never()).unwrap_err(), "transfer"),
        (client.transfer("CA1", both, &mut never()).unwrap_err(), "transfer"),
        (client.attach_agent("CA1", "", &mut never()).unwrap_err(), "agent"),
        (status("busy").unwrap_err(), "status"),
    ];
    for (error, field) in errors {
        assert!(error.kind() == Kind::Value && error.message.starts_with(field), "{field}: {error}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn waiting_ends_at_the_status_or_at_another_end() {
    let server = Server::start(vec![ok(row("dialing")), ok(row("ringing")), ok(row("failed"))]);
    let client = server.client();
    let row = client.wait("CA1", vec![Status::Ringing], None, &mut never()).unwrap().unwrap();
    assert_eq!(row.status, Status::Ringing);
    let error = client.wait("CA1", vec![Status::InProgress], None, &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.end_reason.as_deref(), error.sip_code), (Kind::Call, Some("busy"), Some(486)));
    assert!(client.wait("CA1", TERMINAL.to_vec(), None, &mut never()).unwrap().is_some());
}

#[test]
fn a_wait_has_a_limit_and_can_be_cancelled() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    let limit = Some(Duration::from_millis(1));
    assert!(client.wait("CA1", vec![Status::Ringing], limit, &mut never()).unwrap().is_none());
    let error = client.wait("CA1", vec![Status::Ringing], None, &mut || true).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
}
