//! The procedures against a real HTTP server of the test's own (`server_for_tests`).

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::server_for_tests::{Answer, Server, call, client, never, ok, refusal, row};
use super::*;
use crate::call::{Carried, Status};
use crate::error::{Error, Kind};

#[test]
fn originate_speaks_the_vendors_wire() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    let row = client.originate(call(), &mut never()).unwrap().claim();
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
fn an_answer_about_another_call_is_none() {
    for sid in ["CA2", "", " ", "a\nb"] {
        let mut other = row("ringing");
        other["sid"] = json!(sid);
        let error = Server::start(vec![ok(other)]).client().call("CA1", &mut never()).unwrap_err();
        assert!(error.message.contains("another call") || error.message.contains("nobody can ask with"), "{error}");
    }
}

#[test]
fn get_is_a_query_and_connections_are_kept() {
    let mut spaced = row("ringing");
    spaced["sid"] = json!("CA 1");
    let server = Server::start(vec![ok(spaced)]);
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
    let page = Answer::new(502, "<html>".repeat(2000));
    let error = Server::start(vec![page]).client().hangup("CA1", &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.body.as_ref().map(String::len)), (Kind::Server, Some(4096)));
    assert!(error.message.len() < 400, "{error}");
    let page = Answer::new(200, "hello");
    let error = Server::start(vec![page]).client().call("CA1", &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiStatus && error.message.contains("CLUTCHCALL_BASE_URL"), "{error}");
    let moved = Answer { headers: "location: https://elsewhere/\r\n", ..Answer::new(308, "") };
    let error = Server::start(vec![moved]).client().call("CA1", &mut never()).unwrap_err();
    assert!(error.message.contains("https://elsewhere/"), "{error}");
}

#[test]
fn a_dead_engine_is_a_connection_error_with_a_remedy() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client(&format!("http://127.0.0.1:{port}")).hangup("CA1", &mut never()).unwrap_err();
    assert_eq!(error.kind(), Kind::ApiConnection);
    assert!(error.message.contains("clutchcall dev") && error.message.contains("CLUTCHCALL_BASE_URL"), "{error}");
}

fn carrying(header: &str, caller_name: Option<&str>) -> Originate {
    let headers = [(header.to_owned(), "1".to_owned())].into();
    Originate { carried: Carried { headers, caller_name: caller_name.map(str::to_owned) }, ..call() }
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
        (
            client
                .originate(Originate { metadata: [("".into(), "x".into())].into(), ..call() }, &mut never())
                .unwrap_err(),
            "metadata",
        ),
        (client.originate(carrying("Via", None), &mut never()).unwrap_err(), "headers"),
        (client.originate(carrying("X-A", Some("a\nb")), &mut never()).unwrap_err(), "caller_name"),
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
fn a_wait_for_what_is_past_is_over_at_once() {
    let mut live = row("in_progress");
    live["endReason"] = serde_json::Value::Null;
    let server = Server::start(vec![ok(live)]);
    let client = server.client();
    let past = client.wait("CA1", vec![Status::Dialing, Status::Ringing], None, &mut never()).unwrap_err();
    assert_eq!(
        (past.kind(), past.message.as_str()),
        (Kind::Call, "call CA1 is in_progress and will not be dialing or ringing")
    );
    assert_eq!(server.asked().len(), 1);
    let either = vec![Status::Ringing, Status::Completed];
    assert!(client.wait("CA1", either, Some(Duration::from_millis(1)), &mut never()).unwrap().is_none());
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
