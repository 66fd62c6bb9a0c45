//! Requests that nobody honest sends: ambiguous framing, bodies without an end, connections that say nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::common::{Answer, Bench, KEY};

/// What came before the engine closed the connection.
fn all_answers(bench: &Bench, request: &str) -> String {
    let mut stream = bench.connect();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A reset is an end too: the engine need not read what it refuses.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let bench = Bench::new();
    let hidden = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    for framing in [
        "content-length: 2\r\ncontent-length: 40",
        "content-length: 2, 40",
        "content-length: +2",
        "content-length : 2",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: gzip",
        "content-length: 2\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 2",
        "Transfer-Encoding: chunked\r\nx: y\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        // obs-fold (RFC 9112 §5.2)
        "content-length: 2\r\nx: a\r\n b",
        "content-length: 2\r\nx: a\r\n\ttransfer-encoding: chunked",
    ] {
        let request = format!(
            "POST /api/trpc/voice.calls.hangup HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{framing}\r\n\r\n\
             {{}}{hidden}"
        );
        let answers = all_answers(&bench, &request);
        assert!(answers.starts_with("HTTP/1.1 400"), "{framing}: {answers}");
        assert!(!answers.contains("clutchcall_"), "{framing}: the hidden request was answered: {answers}");
    }
}

#[test]
fn a_body_said_twice_is_a_failure_like_ours_and_counted() {
    let bench = Bench::new();
    let request = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n\
         POST /api/trpc/voice.calls.hangup HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    );
    let answers = all_answers(&bench, &request);
    // Both heads came at once, so the doubt is there before the first is answered.
    assert!(!answers.contains("clutchcall_"), "{answers}");
    let refused = Answer::parse(&answers[answers.find("HTTP/1.1 400").unwrap_or_else(|| panic!("{answers}"))..]);
    assert!(refused.error(400, "BAD_REQUEST").contains("Content-Length and Transfer-Encoding"));
    assert!(refused.head.contains("connection: close"), "{refused:?}");
    assert!(bench.metrics().contains("clutchcall_api_ambiguous_total 1\n"));
}

#[test]
fn a_connection_ends_behind_a_coded_body() {
    let bench = Bench::new();
    let request = format!(
        "POST /api/trpc/voice.calls.hangup HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    );
    let answer = Answer::parse(&all_answers(&bench, &request));
    assert!(answer.error(400, "BAD_REQUEST").contains("sid is missing"), "the body was read");
    assert!(answer.head.contains("connection: close") && !answer.body.contains("clutchcall_"), "{answer:?}");
}

#[test]
fn a_chunked_body_has_the_same_bound() {
    let bench = Bench::new();
    let mut request = format!(
        "POST /api/trpc/voice.calls.hangup HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    for _ in 0..17 {
        request += &format!("1000\r\n{}\r\n", " ".repeat(4096));
    }
    Answer::parse(&all_answers(&bench, &request)).error(413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn slow_and_silent_connections_hold_up_nobody() {
    let bench = Bench::new();
    let begun = |i: usize| -> TcpStream {
        let mut stream = bench.connect();
        if i.is_multiple_of(2) {
            stream.write_all(b"POST /api/trpc/voice.calls.originate HTTP/1.1\r\nauthoriz").unwrap();
        }
        stream
    };
    let slow: Vec<TcpStream> = (0..400).map(begun).collect();
    let sid = bench.originate("+15550001111");
    bench.wait(&sid, &["in_progress"]);
    bench.hangup(&sid).data();
    assert_eq!(slow.len(), 400);
}

#[test]
fn a_refused_key_is_not_repeated() {
    let bench = Bench::new();
    let secret = "tqs_live_somebody_elses_secret";
    let answer = bench.get_as(secret, "voice.calls.get", &serde_json::json!({"sid": "CA1"}));
    answer.error(401, "UNAUTHORIZED");
    assert!(!format!("{answer:?}").contains(secret));
    assert!(!bench.metrics().contains("tqs_live_"));
}
