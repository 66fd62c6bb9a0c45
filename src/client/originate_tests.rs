//! Originates that are given up, and what becomes of their calls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::retry::Pace;
use super::server_for_tests::{Answer, Asked, Server, Then, arguments, call, client_with, never, ok, refusal, row};
use super::{Arguments, Client, Originate};
use crate::error::Kind;

const LIMIT: Duration = Duration::from_secs(20);

fn silence() -> Answer {
    Answer { then: Then::Silence, ..ok(Value::Null) }
}

/// Asks for a call, and gives up once the server has the question.
fn give_up(client: &Client, server: &Server, call: Originate) {
    let error = client.originate(call, &mut || !server.asked().is_empty()).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
}

/// The question of this place, once it has come.
fn asked(server: &Server, place: usize) -> Asked {
    let begun = Instant::now();
    loop {
        if let Some(asked) = server.asked().get(place) {
            return asked.clone();
        }
        assert!(begun.elapsed() < LIMIT, "{:?}", server.asked());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn assert_takes_back(asked: &Asked, originate: &Asked) {
    assert!(asked.line.starts_with("POST /api/trpc/voice.calls.hangup "), "{asked:?}");
    let expected = json!({"orgId": "org_1", "idempotencyKey": originate.header("idempotency-key").unwrap()});
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
}

/// Nothing else is asked: this question is the next one.
fn assert_next_is_ours(server: &Server, client: &Client, place: usize) {
    client.call("CA1", &mut never()).unwrap();
    assert!(asked(server, place).line.starts_with("GET "), "{:?}", server.asked());
}

#[test]
fn a_call_whose_asker_gave_up_is_taken_back() {
    let server = Server::start(vec![silence(), refusal(503, "SERVICE_UNAVAILABLE"), ok(json!({"ok": true}))]);
    give_up(&server.client(), &server, call());
    // Nobody waits for it, and it is said again until it is heard.
    let originate = asked(&server, 0);
    assert_takes_back(&asked(&server, 1), &originate);
    assert_takes_back(&asked(&server, 2), &originate);
}

#[test]
fn a_key_of_ones_own_is_ones_own_to_ask_again_with() {
    let server = Server::start(vec![silence(), ok(row("ringing"))]);
    let client = server.client();
    give_up(&client, &server, Originate { idempotency_key: Some("order-7".to_owned()), ..call() });
    assert_next_is_ours(&server, &client, 1);
}

#[test]
fn a_row_that_nobody_claimed_is_a_call_to_hang_up() {
    let server = Server::start(vec![ok(row("dialing"))]);
    let client = server.client();
    drop(client.originate(call(), &mut never()).unwrap());
    assert_takes_back(&asked(&server, 1), &asked(&server, 0));
    let (row, lost) = client.originate(call(), &mut never()).unwrap().claim_unless_lost();
    assert_eq!(row.sid, "CA1");
    lost.hang_up();
    assert_takes_back(&asked(&server, 3), &asked(&server, 2));
    drop(client.originate(call(), &mut never()).unwrap().claim_unless_lost());
    assert_next_is_ours(&server, &client, 5);
}

/// Connections that broke, answers that never came, proxies that gave up: the phone may ring, and nobody has its sid.
#[test]
fn a_call_without_an_answer_is_taken_back() {
    let broken = [Then::Cut, Then::Close].map(|then| Answer { then, ..ok(row("dialing")) });
    let unsure = [Answer::new(502, "bad gateway"), refusal(500, "INTERNAL_SERVER_ERROR"), Answer::new(200, "hello")];
    for answer in broken.into_iter().chain(unsure) {
        let server = Server::start(vec![answer.clone(), ok(json!({"ok": true}))]);
        let arguments = Arguments { max_retries: Some(0), ..arguments(&format!("http://{}", server.address)) };
        client_with(arguments, Pace::of_millis(1, 1)).originate(call(), &mut never()).unwrap_err();
        assert_takes_back(&asked(&server, 1), &asked(&server, 0));
    }
    let server = Server::start(vec![silence(), ok(json!({"ok": true}))]);
    let arguments = Arguments { timeout_s: Some(0.05), ..arguments(&format!("http://{}", server.address)) };
    let error = client_with(arguments, Pace::default()).originate(call(), &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiTimeout && error.in_doubt);
    assert_takes_back(&asked(&server, 1), &asked(&server, 0));
}

/// A first attempt that was cut off is in doubt whatever the second is told.
#[test]
fn a_refusal_says_nothing_of_the_attempt_before_it() {
    let cut = Answer { then: Then::Close, ..ok(row("dialing")) };
    let server = Server::start(vec![cut, refusal(400, "BAD_REQUEST"), ok(json!({"ok": true}))]);
    let error = server.client().originate(call(), &mut never()).unwrap_err();
    assert_eq!((error.kind(), error.in_doubt), (Kind::BadRequest, true));
    assert_takes_back(&asked(&server, 2), &asked(&server, 0));
}

#[test]
fn a_refusal_leaves_nothing_to_take_back() {
    for refused in [(400, "BAD_REQUEST"), (409, "CONFLICT"), (429, "TOO_MANY_REQUESTS"), (503, "SERVICE_UNAVAILABLE")] {
        let server = Server::start(vec![refusal(refused.0, refused.1), ok(row("ringing"))]);
        let arguments = Arguments { max_retries: Some(0), ..arguments(&format!("http://{}", server.address)) };
        let client = client_with(arguments, Pace::of_millis(1, 1));
        let error = client.originate(call(), &mut never()).unwrap_err();
        assert!(!error.in_doubt, "{error}");
        assert_next_is_ours(&server, &client, 1);
    }
    // Nobody was there to hear it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = super::server_for_tests::client(&format!("http://127.0.0.1:{port}"));
    let error = client.originate(call(), &mut never()).unwrap_err();
    assert!(error.kind() == Kind::ApiConnection && !error.in_doubt, "{error}");
}
