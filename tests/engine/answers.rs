//! What every answer looks like, and what is refused how.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::common::{Answer, Bench, KEY, NARROW_KEY, OTHER_KEY, call};

#[test]
fn a_row_is_what_the_vendors_clients_read() {
    let bench = Bench::new();
    let row = bench.post("voice.calls.originate", &call("+15550009000")).data();
    for field in ["sid", "status", "to", "from", "startedAt", "trunkId"] {
        assert!(row[field].is_string(), "{field} of {row}");
    }
    assert_eq!(row["agent"], Value::Null);
    let sid = row["sid"].as_str().unwrap();
    assert!(sid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{sid}");
    // A space travels as `+`, the shorter path answers too, and a GET needs no content type.
    let raw = format!(
        "GET /trpc/voice.calls.get?input=%7B%22orgId%22%3A+%22org_a%22%2C+%22sid%22%3A+%22{sid}%22%7D HTTP/1.1\r\n\
         host: x\r\nauthorization: bearer {KEY}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(bench.raw(&raw).data()["sid"], sid);
    assert_eq!(bench.hangup(sid).data(), json!({"ok": true}));
    assert_eq!(bench.hangup(sid).data(), json!({"ok": true}), "of an ended call");
    assert_eq!(bench.row(sid)["endReason"], "canceled");
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let bench = Bench::new();
    for agent in [Value::Null, json!("")] {
        let mut input = call("+15550009000");
        input["agent"] = agent;
        input["ringTimeoutSec"] = Value::Null;
        input["orgId"] = json!("");
        let row = bench.post("voice.calls.originate", &input).data();
        assert_eq!((&row["agent"], &row["status"]), (&Value::Null, &json!("dialing")));
    }
    let sid = bench.originate("+15550001111");
    bench.wait(&sid, &["in_progress"]);
    let input = json!({"orgId": "org_a", "sid": sid, "to": null, "agent": "echo"});
    assert_eq!(bench.post("voice.calls.transfer", &input).data(), json!({"ok": true}));
    assert_eq!(bench.row(&sid)["agent"], "echo");
}

#[test]
fn wrong_fields_are_named() {
    let bench = Bench::new();
    let originate = |field: &str, value: Value| {
        let mut input = call("+15550001111");
        input[field] = value;
        bench.post("voice.calls.originate", &input)
    };
    let table = [
        ("to", json!(null)),
        ("to", json!("5551234")),
        ("to", json!("+1555x")),
        ("to", json!("+05551234567")),
        ("to", json!("+1234567890123456")),
        ("to", json!(15_551_234_567_u64)),
        ("from", json!("")),
        ("from", json!("anonymous")),
        ("trunkId", json!(null)),
        ("trunkId", json!(["trunk_main"])),
        ("agent", json!({"mode": "speech_to_speech"})),
        ("agent", json!("x".repeat(600))),
        ("ringTimeoutSec", json!("30")),
        ("ringTimeoutSec", json!(true)),
        ("maxDurationSec", json!(0)),
    ];
    for (field, value) in table {
        let message = originate(field, value.clone()).error(400, "BAD_REQUEST");
        assert!(message.starts_with(field), "{field} = {value}: {message}");
    }
    assert!(originate("trunkId", json!("nope")).error(404, "NOT_FOUND").contains("trunkId \"nope\""));
    assert!(originate("agent", json!("nope")).error(404, "NOT_FOUND").contains("agent \"nope\""));
    let sid = bench.originate("+15550009000");
    for input in [json!({"sid": sid}), json!({"sid": sid, "to": "+15551234567", "agent": "echo"})] {
        let message = bench.post("voice.calls.transfer", &input).error(400, "BAD_REQUEST");
        assert!(message.contains("to or agent"), "{message}");
    }
    for (input, part) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": "many"}), "limit"),
        (json!({"status": "busy"}), "in_progress"),
        (json!({"cursor": "x"}), "cursor"),
    ] {
        assert!(bench.get("voice.calls.list", &input).error(400, "BAD_REQUEST").contains(part));
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let bench = Bench::new();
    let post = |body: &str| bench.post_as(KEY, "voice.calls.hangup", body, "");
    assert!(post("{").error(400, "PARSE_ERROR").contains("JSON"));
    assert!(post("[1]").error(400, "BAD_REQUEST").contains("object"));
    assert!(post("").error(400, "BAD_REQUEST").contains("sid is missing"));
    let deep = "[".repeat(20_000);
    post(&deep).error(400, "PARSE_ERROR");
    let large = format!("{{\"sid\":\"{}\"}}", "x".repeat(70_000));
    assert!(post(&large).error(413, "PAYLOAD_TOO_LARGE").contains("65536 bytes"));
    bench.post("voice.calls.list", &json!({})).error(405, "METHOD_NOT_SUPPORTED");
    bench.get("voice.calls.hangup", &json!({})).error(405, "METHOD_NOT_SUPPORTED");
    bench.get("voice.calls.get,voice.calls.get", &json!({})).error(404, "NOT_FOUND");
    let raw = format!("GET /nowhere HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n");
    bench.raw(&raw).error(404, "NOT_FOUND");
}

#[test]
fn keys_scopes_and_organisations() {
    let bench = Bench::new();
    let sid = bench.originate("+15550009000");
    let input = json!({"orgId": "org_a", "sid": sid});
    assert!(bench.get_as("wrong", "voice.calls.get", &input).error(401, "UNAUTHORIZED").contains("key"));
    let none = "GET /api/trpc/voice.calls.get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = bench.raw(none);
    assert!(answer.error(401, "UNAUTHORIZED").contains("Authorization: Bearer"));
    assert!(answer.head.contains("www-authenticate: bearer"));
    assert_eq!(bench.get_as(NARROW_KEY, "voice.calls.get", &input).data()["sid"], *sid);
    let narrow = bench.post_as(NARROW_KEY, "voice.calls.hangup", &input.to_string(), "");
    assert!(narrow.error(403, "FORBIDDEN").contains("voice:calls.hangup"));
    let foreign = json!({"orgId": "org_b", "sid": sid});
    assert!(bench.get("voice.calls.get", &foreign).error(403, "FORBIDDEN").contains("org_b"));

    // Another organisation's call and no call at all answer with the same bytes but for the request's own id.
    let unknown = |answer: &Answer, sid: &str| answer.error(404, "NOT_FOUND").replace(sid, "SID");
    let absent = "CA1NOSUCHCALL";
    for (procedure, more) in [
        ("voice.calls.hangup", json!({})),
        ("voice.calls.transfer", json!({"to": "+15551234567"})),
        ("voice.agents.attach", json!({"agent": "echo"})),
        ("voice.audioBridge.token", json!({"holder": "h"})),
        ("voice.audioBridge.token", json!({"holder": "h", "release": true})),
    ] {
        let body = |sid: &str| {
            let mut input = more.clone();
            input["sid"] = json!(sid);
            input.to_string()
        };
        let foreign = unknown(&bench.post_as(OTHER_KEY, procedure, &body(&sid), ""), &sid);
        assert_eq!(foreign, unknown(&bench.post_as(OTHER_KEY, procedure, &body(absent), ""), absent), "{procedure}");
    }
    let get = |sid: &str| unknown(&bench.get_as(OTHER_KEY, "voice.calls.get", &json!({"sid": sid})), sid);
    assert_eq!(get(&sid), get(absent));
    assert_eq!(bench.get_as(OTHER_KEY, "voice.calls.list", &json!({})).data()["calls"], json!([]));
}

#[test]
fn a_wrong_key_is_refused_before_its_body_is_read() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    let head = "POST /api/trpc/voice.calls.originate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\
                content-length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let bench = Bench::with(|config| (config.limits.requests_per_s, config.limits.request_burst) = (1, 2));
    let answers: Vec<Answer> = (0..4).map(|_| bench.get("voice.agents.list", &json!({}))).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("four requests pass a burst of two");
    assert!(refused.error(429, "TOO_MANY_REQUESTS").contains("1 requests per second"));
    assert!(refused.head.contains("retry-after: 1"));
    assert_eq!(bench.get_as(OTHER_KEY, "voice.agents.list", &json!({})).status, 200, "each key has its own");
}

#[test]
fn what_the_engine_has() {
    let bench = Bench::with(|config| config.trunks.get_mut("trunk_main").unwrap().channel_limit = 7);
    assert_eq!(bench.get("voice.agents.list", &json!({})).data(), json!({"agents": [{"id": "echo", "kind": "echo"}]}));
    let trunk = &bench.get("voice.trunks.list", &json!({})).data()["trunks"][0];
    assert_eq!((&trunk["trunkId"], &trunk["channelLimit"]), (&json!("trunk_main"), &json!(7)));
    let plain = |path: &str| bench.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    assert_eq!(plain("/healthz").json()["ok"], true);
    assert_eq!(plain("/readyz").json()["ok"], true);
    bench.originate("+15550009000");
    let metrics = plain("/metrics").body;
    assert!(metrics.contains("clutchcall_calls_active 1\n"), "{metrics}");
    assert!(metrics.contains("clutchcall_store_failing 0\n"), "{metrics}");
}

#[test]
fn one_connection_serves_many_requests() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    for _ in 0..3 {
        let request =
            format!("GET /api/trpc/voice.agents.list HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        while !text.ends_with("]}}}") {
            let mut bytes = [0; 4096];
            let n = stream.read(&mut bytes).unwrap();
            assert!(n > 0, "closed after {text:?}");
            text += std::str::from_utf8(&bytes[..n]).unwrap();
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[test]
fn beyond_the_limit_a_connection_waits_for_another_to_go() {
    let bench = Bench::with(|config| config.limits.connections = 1);
    let mut first = bench.connect();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = [0; 1024];
    assert!(first.read(&mut bytes).unwrap() > 0);
    let mut second = bench.connect();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    assert!(second.read(&mut bytes).is_err(), "it was served beside the first");
    drop(first);
    second.set_read_timeout(Some(crate::common::LIMIT)).unwrap();
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(Answer::parse(&text).status, 200);
}

/// Prometheus, version 0.0.4 of its text: the lines of a figure stand together, behind what sort of figure it is.
#[test]
fn figures_are_what_prometheus_reads() {
    let bench = Bench::new();
    let plain = bench.raw("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(plain.head.contains("content-type: text/plain; version=0.0.4") && plain.body.ends_with('\n'), "{plain:?}");
    let (mut seen, mut now) = (std::collections::BTreeSet::new(), "");
    for line in plain.body.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').unwrap();
            assert_eq!(kind, if name.ends_with("_total") { "counter" } else { "gauge" }, "{line}");
            assert!(seen.insert(name), "{name} stands in two places");
            now = name;
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let labels = name.strip_prefix(now).unwrap_or_else(|| panic!("{line} stands under {now}"));
            assert!(labels.is_empty() || (labels.starts_with('{') && labels.ends_with("\"}")), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(seen.len() > 100, "{seen:?}");
}

#[test]
fn every_figure_of_the_engine_is_in_the_docs() {
    let bench = Bench::new();
    let docs = include_str!("../../docs/api.md");
    let metrics = bench.metrics();
    let names = metrics.lines().filter_map(|line| line.split(['{', ' ']).next());
    let ours: Vec<&str> = names.filter(|name| name.starts_with("clutchcall_") && !name.contains("_relay_")).collect();
    assert!(ours.len() > 20, "{metrics}");
    for name in ours {
        assert!(docs.contains(&format!("`{name}`")) || docs.contains(&format!("`{name}{{")), "{name}");
    }
}
