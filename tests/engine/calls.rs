//! Calls over the simulated phone: every status and end reason that it can cause, and what users do meanwhile.

use clutchcall::token::{Claims, KeySet, LEEWAY_S};
use serde_json::{Value, json};

use crate::common::{Bench, KEY, OTHER_KEY, call, wait_for};

/// Status, end reason, SIP code and cause of an ended call.
fn ending(row: &Value) -> (&str, &str, Option<u64>) {
    (row["status"].as_str().unwrap(), row["endReason"].as_str().unwrap(), row["sipCode"].as_u64())
}

#[test]
fn calls_that_fail() {
    let bench = Bench::new();
    let table = [
        ("9486", ("failed", "busy", Some(486))),
        ("9603", ("failed", "declined", Some(603))),
        ("9404", ("failed", "not_found", Some(404))),
        ("9484", ("failed", "invalid_number", Some(484))),
        ("9480", ("failed", "unavailable", Some(480))),
        ("9401", ("failed", "auth_failed", Some(401))),
        ("9403", ("failed", "forbidden", Some(403))),
        ("9488", ("failed", "codec_mismatch", Some(488))),
        ("9302", ("failed", "redirected", Some(302))),
        ("9503", ("failed", "carrier_error", Some(503))),
        ("9408", ("no_answer", "remote_timeout", Some(408))),
        ("9003", ("failed", "network_error", None)),
    ];
    let calls = table.map(|(number, want)| (bench.originate(&format!("+1555000{number}")), want));
    for (sid, want) in calls {
        let row = bench.ended(&sid);
        assert_eq!(ending(&row), want);
        assert!(row["startedAt"].as_str() <= row["endedAt"].as_str(), "{row}");
    }
}

#[test]
fn calls_that_nobody_answers() {
    let bench = Bench::new();
    // Below the limits of the server: 5 s are the least.
    let ring = |to: &str| {
        let mut input = call(to);
        input["ringTimeoutSec"] = json!(1);
        bench.post("voice.calls.originate", &input).data()["sid"].as_str().unwrap().to_owned()
    };
    let (rings, silent) = (ring("+15550009000"), ring("+15550009001"));
    bench.wait(&rings, &["ringing"]);
    assert_eq!(ending(&bench.ended(&rings)), ("no_answer", "ring_timeout", None));
    assert_eq!(ending(&bench.ended(&silent)), ("failed", "no_response", None));
}

#[test]
fn hung_up_in_every_state() {
    let bench = Bench::new();
    let silent = bench.originate("+15550009001");
    bench.hangup(&silent).data();
    assert_eq!(ending(&bench.row(&silent)), ("failed", "canceled", None));
    let rings = bench.originate("+15550009000");
    bench.wait(&rings, &["ringing"]);
    bench.hangup(&rings).data();
    assert_eq!(ending(&bench.row(&rings)), ("failed", "canceled", None));
    let answered = bench.originate("+15550009011");
    let row = bench.wait(&answered, &["in_progress"]);
    assert!(row["answeredAt"].is_string() && row["endedAt"].is_null(), "{row}");
    bench.hangup(&answered).data();
    let row = bench.row(&answered);
    assert_eq!((ending(&row), &row["endedBy"]), (("completed", "normal", None), &json!("local")));
    bench.hangup(&answered).data();
}

#[test]
fn transfers() {
    let bench = Bench::new();
    let (accepts, refuses) = (bench.originate("+15550009011"), bench.originate("+15550009021"));
    let to = |sid: &str| json!({"sid": sid, "to": "+15557654321"});
    let early = bench.originate("+15550009000");
    assert!(bench.post("voice.calls.transfer", &to(&early)).error(409, "CONFLICT").contains("in_progress"));
    bench.wait(&refuses, &["in_progress"]);
    let refused = bench.post("voice.calls.transfer", &to(&refuses));
    assert!(refused.error(409, "CONFLICT").contains("SIP"));
    assert!(refused.json()["error"]["data"]["sipCode"].is_u64(), "{refused:?}");
    assert_eq!(bench.row(&refuses)["status"], "in_progress");
    bench.wait(&accepts, &["in_progress"]);
    assert_eq!(bench.post("voice.calls.transfer", &to(&accepts)).data(), json!({"ok": true, "state": "accepted"}));
    let row = bench.ended(&accepts);
    assert_eq!((ending(&row), &row["transferredTo"]), (("completed", "transferred", None), &json!("+15557654321")));
    let over = bench.post("voice.calls.transfer", &to(&accepts));
    assert!(over.error(409, "CONFLICT").contains("transferred"));
    assert_eq!(over.json()["error"]["data"]["endReason"], "transferred");
}

#[test]
fn a_bridge_gets_the_right_to_exactly_its_tracks() {
    let bench = Bench::new();
    let sid = bench.originate("+15550009000");
    let ask = |holder: &str, more: Value| {
        let mut input = json!({"orgId": "org_a", "sid": sid, "role": "server", "codec": "opus", "sampleRate": 48000,
            "channels": 1, "frameMs": 20, "holder": holder});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bench.post("voice.audioBridge.token", &input)
    };
    let answer = ask("one", json!({})).data();
    assert_eq!(answer["publish"], json!({"namespace": ["voice", sid, "downlink"], "name": "audio"}));
    assert_eq!(answer["subscribe"], json!({"namespace": ["voice", sid, "uplink"], "name": "audio"}));
    assert_eq!(answer["relay"]["url"], bench.engine.relay_url());
    assert_eq!(answer["relay"]["certificateHashes"][0].as_str().unwrap().len(), 64);
    assert!(answer["relay"]["webTransportUrl"].as_str().unwrap().starts_with("https://"));
    let keys = KeySet::from_iter([bench.engine.public_key()]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims::decode(answer["token"].as_str().unwrap().as_bytes(), &keys, now, LEEWAY_S).unwrap();
    assert!(claims.may_publish(&["voice", &sid, "downlink"]) && !claims.may_publish(&["voice", &sid, "uplink"]));
    assert_eq!(claims.lease.unwrap().holder, "one");

    assert!(ask("two", json!({})).error(409, "CONFLICT").contains("another bridge"));
    let other = ask("two", json!({"codec": "pcm16", "sampleRate": 16000})).data();
    assert_eq!(other["publish"]["name"], "audio.pcm16.16000");
    ask("one", json!({"release": true})).data();
    ask("two", json!({})).data();
    assert!(ask("one", json!({"role": "caller"})).error(409, "CONFLICT").contains("attach_caller"));
    assert!(ask("one", json!({"codec": "flac"})).error(400, "BAD_REQUEST").contains("g711_ulaw"));
    assert!(ask("one", json!({"sampleRate": 44100})).error(400, "BAD_REQUEST").contains("sample_rate"));
    assert!(ask("one", json!({"role": "spy"})).error(400, "BAD_REQUEST").contains("role"));
    assert!(ask("", json!({})).error(400, "BAD_REQUEST").contains("holder"));
    bench.hangup(&sid).data();
    let over = ask("one", json!({}));
    assert!(over.error(409, "CONFLICT").contains("canceled"));
    ask("one", json!({"release": true})).data();
}

#[test]
fn an_empty_far_end_is_spoken_for_by_a_bridge() {
    let bench = Bench::new();
    let sid = bench.originate("+15550009030");
    bench.wait(&sid, &["in_progress"]);
    let answer = bench.post("voice.audioBridge.token", &json!({"sid": sid, "role": "caller", "holder": "c"})).data();
    assert_eq!(answer["publish"]["namespace"][2], "uplink");
    bench.post("voice.audioBridge.token", &json!({"sid": sid, "role": "server", "holder": "s"})).data();
}

#[test]
fn agents_come_and_bridges_wait() {
    let bench = Bench::new();
    let mut input = call("+15550001111");
    input["agent"] = json!("echo");
    let sid = bench.post("voice.calls.originate", &input).data()["sid"].as_str().unwrap().to_owned();
    bench.wait(&sid, &["in_progress"]);
    assert_eq!(bench.row(&sid)["agent"], "echo");
    let token = bench.post("voice.audioBridge.token", &json!({"sid": sid, "holder": "b"}));
    assert!(token.error(409, "CONFLICT").contains("agent \"echo\""));
    let attach = |agent: &str| bench.post("voice.agents.attach", &json!({"sid": sid, "agent": agent}));
    assert_eq!(attach("echo").data(), json!({"ok": true}));
    assert!(attach("nope").error(404, "NOT_FOUND").contains("echo"));
    bench.hangup(&sid).data();
    assert!(attach("echo").error(409, "CONFLICT").contains("normal"));
}

#[test]
fn a_key_dials_once() {
    let bench = Bench::new();
    let post = |input: &Value, key: &str| {
        bench.post_as(KEY, "voice.calls.originate", &input.to_string(), &format!("idempotency-key: {key}\r\n"))
    };
    let mut input = call("+15550009000");
    // At the same time: whoever comes second waits for the first.
    let sids: Vec<Value> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..4).map(|_| scope.spawn(|| post(&input, "k1").data()["sid"].clone())).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(sids.iter().all(|sid| *sid == sids[0]), "{sids:?}");
    assert_ne!(post(&input, "k2").data()["sid"], sids[0]);
    // Spelled otherwise it is the same request; another number is another one.
    input["agent"] = Value::Null;
    assert_eq!(post(&input, "k1").data()["sid"], sids[0]);
    input["to"] = json!("+15550001112");
    assert!(post(&input, "k1").error(409, "CONFLICT").contains("Idempotency-Key"));
    input["to"] = json!("+15550009000");
    input["metadata"] = json!({"order": "7"});
    assert!(post(&input, "k1").error(409, "CONFLICT").contains("Idempotency-Key"));
    assert_eq!(bench.get("voice.calls.list", &json!({})).data()["calls"].as_array().unwrap().len(), 2);
}

/// Whoever never got an answer to an originate has its key alone.
#[test]
fn a_call_is_hung_up_by_the_key_of_its_request() {
    let bench = Bench::new();
    let originate = |key: &str| {
        let body = call("+15550009000").to_string();
        bench.post_as(KEY, "voice.calls.originate", &body, &format!("idempotency-key: {key}\r\n"))
    };
    let hangup = |input: Value| bench.post("voice.calls.hangup", &input);
    let sid = originate("k1").data()["sid"].as_str().unwrap().to_owned();
    let other = json!({"orgId": "org_b", "idempotencyKey": "k1"}).to_string();
    bench.post_as(OTHER_KEY, "voice.calls.hangup", &other, "").data();
    assert!(
        ["dialing", "ringing"].contains(&bench.row(&sid)["status"].as_str().unwrap()),
        "another organisation's key"
    );
    for _ in 0..2 {
        assert_eq!(hangup(json!({"idempotencyKey": "k1"})).data(), json!({"ok": true}));
    }
    assert_eq!(bench.ended(&sid)["endReason"], "canceled");
    assert_eq!(originate("k1").data()["sid"], *sid, "the key's call is the one that was hung up");
    // The request itself comes later: nothing is dialled.
    hangup(json!({"idempotencyKey": "k2"})).data();
    assert!(originate("k2").error(409, "CONFLICT").contains("new key"));
    assert_eq!(bench.get("voice.calls.list", &json!({})).data()["calls"].as_array().unwrap().len(), 1);
    assert!(hangup(json!({"sid": sid, "idempotencyKey": "k1"})).error(400, "BAD_REQUEST").contains("exactly one"));
    assert!(hangup(json!({})).error(400, "BAD_REQUEST").contains("sid"));
}

#[test]
fn what_was_noted_on_a_call_stays_with_it() {
    let bench = Bench::new();
    let mut input = call("+15550009000");
    input["metadata"] = json!({"order": "7", "name": "Zoë"});
    let noted = bench.post("voice.calls.originate", &input).data();
    assert_eq!(noted["metadata"], input["metadata"]);
    let plain = bench.originate("+15550009000");
    let sid = noted["sid"].as_str().unwrap();
    bench.hangup(sid).data();
    for row in [bench.row(sid), bench.get("voice.calls.list", &json!({"status": "failed"})).data()["calls"][0].clone()]
    {
        assert_eq!((&row["sid"], &row["metadata"]), (&noted["sid"], &input["metadata"]));
    }
    assert!(bench.row(&plain).get("metadata").is_none(), "a call without notes has the vendor's row");
    for (wrong, says) in [
        (json!([1]), "object of texts"),
        (json!({"n": 1}), "\"n\" is 1: send a text"),
        (json!({"": "x"}), "the name \"\""),
        (json!({"n": "x".repeat(513)}), "at most 512"),
        ((0..33).map(|n| (n.to_string(), json!(""))).collect::<Value>(), "at most 32"),
    ] {
        input["metadata"] = wrong;
        let message = bench.post("voice.calls.originate", &input).error(400, "BAD_REQUEST");
        assert!(message.starts_with("metadata ") && message.contains(says), "{message}");
    }
}

#[test]
fn what_an_invite_is_to_carry_is_checked() {
    let bench = Bench::new();
    let mut input = call("+15550009000");
    (input["headers"], input["callerName"]) = (json!({"X-Order": "7"}), json!("Zoë"));
    let row = bench.post("voice.calls.originate", &input).data();
    assert!(row.get("headers").is_none() && row.get("callerName").is_none(), "{row}");
    for (field, wrong, says) in [
        ("headers", json!("X-A: 1"), "object of texts"),
        ("headers", json!({"X-A": 1}), "\"X-A\" is 1: send a text"),
        ("headers", json!({"Via": "x"}), "the name \"Via\""),
        ("headers", json!({"X-A\r\nVia": "x"}), "the name"),
        ("headers", json!({"X-A": "1\r\nVia: x"}), "no control characters"),
        ("headers", json!({"X-A": "1", "x-a": "2"}), "twice"),
        ("callerName", json!(7), "send a text"),
        ("callerName", json!("a\nb"), "no control characters"),
        ("callerName", json!("n".repeat(65)), "1 to 64 bytes"),
    ] {
        let mut input = call("+15550009000");
        input[field] = wrong;
        let message = bench.post("voice.calls.originate", &input).error(400, "BAD_REQUEST");
        assert!(message.starts_with(field) && message.contains(says), "{message}");
    }
}

/// Whatever refused it: the key is free for a request that can be carried out, another one too.
#[test]
fn a_refused_request_leaves_no_key_behind() {
    let bench = Bench::with(|config| config.trunks.get_mut("trunk_main").unwrap().channel_limit = 1);
    let post =
        |input: &Value| bench.post_as(KEY, "voice.calls.originate", &input.to_string(), "idempotency-key: k1\r\n");
    let (mut nowhere, mut nobody) = (call("+15550009000"), call("+15550009000"));
    (nowhere["trunkId"], nobody["agent"]) = (json!("nope"), json!("nope"));
    post(&nowhere).error(404, "NOT_FOUND");
    post(&nobody).error(404, "NOT_FOUND");
    post(&call("911")).error(400, "BAD_REQUEST");
    let other = bench.originate("+15550009000");
    post(&call("+15550009001")).error(429, "TOO_MANY_REQUESTS");
    bench.hangup(&other).data();
    let sid = post(&call("+15550009000")).data()["sid"].clone();
    assert_ne!(sid, json!(other));
    assert_eq!(post(&call("+15550009000")).data()["sid"], sid);
    post(&nowhere).error(409, "CONFLICT");
}

/// As long as it may be, and not longer; an empty one is none.
#[test]
fn what_a_key_may_be() {
    let bench = Bench::new();
    let post = |key: &str| {
        let body = call("+15550009000").to_string();
        bench.post_as(KEY, "voice.calls.originate", &body, &format!("idempotency-key: {key}\r\n"))
    };
    for key in ["k".repeat(255), "!~".to_owned()] {
        assert_eq!(post(&key).data()["sid"], post(&format!(" {key} ")).data()["sid"], "the same key");
    }
    assert_ne!(post("").data()["sid"], post("").data()["sid"], "none at all");
    for wrong in ["k".repeat(256), "ü".to_owned()] {
        assert!(post(&wrong).error(400, "BAD_REQUEST").contains("Idempotency-Key is no text of at most 255"));
    }
    assert_eq!(bench.get("voice.calls.list", &json!({})).data()["calls"].as_array().unwrap().len(), 4);
}

#[test]
fn what_an_invite_carries_is_a_part_of_the_request() {
    let bench = Bench::new();
    let asked = |header: &str| {
        let mut input = call("+15550009000");
        input["headers"] = json!({"X-Order": header});
        bench.post_as(KEY, "voice.calls.originate", &input.to_string(), "idempotency-key: k1\r\n")
    };
    let sid = asked("7").data()["sid"].clone();
    assert_eq!(asked("7").data()["sid"], sid);
    asked("8").error(409, "CONFLICT");
}

#[test]
fn a_trunks_limits() {
    let bench = Bench::with(|config| config.trunks.get_mut("trunk_main").unwrap().channel_limit = 1);
    let sid = bench.originate("+15550009000");
    let full = bench.post("voice.calls.originate", &call("+15550009000"));
    assert!(full.error(429, "TOO_MANY_REQUESTS").contains("channel_limit"));
    assert!(full.head.contains("retry-after"));
    assert_eq!(bench.post("telephony.originate", &dialled()).data()["error_code"], 3, "the vendor's number of a limit");
    bench.hangup(&sid).data();
    bench.originate("+15550009000");
}

/// As the vendor's command line asks for it.
fn dialled() -> Value {
    json!({"trunk_id": "trunk_main", "to": "+15550009000", "call_from": "+15558675309"})
}

#[test]
fn lists_come_in_pages_and_by_status() {
    let bench = Bench::new();
    let sids: Vec<String> = (0..5).map(|_| bench.originate("+15550009000")).collect();
    bench.hangup(&sids[0]).data();
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page = bench.get("voice.calls.list", &json!({"limit": 2, "cursor": cursor})).data();
        seen.extend(page["calls"].as_array().unwrap().iter().map(|row| row["sid"].as_str().unwrap().to_owned()));
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, sids.iter().rev().cloned().collect::<Vec<_>>());
    bench.wait(&sids[0], &["failed"]);
    let failed = bench.get("voice.calls.list", &json!({"status": "failed"})).data();
    assert_eq!(failed["calls"][0]["sid"], *sids[0]);
}

/// Phone, audio thread and agent: what the phone says comes back to it.
#[test]
fn the_echo_agent_gives_back_what_the_phone_says() {
    let heard = tempfile::tempdir().unwrap();
    let bench = Bench::with(|config| config.phone.record = Some(heard.path().to_owned()));
    let mut input = call("+15550009013");
    input["agent"] = json!("echo");
    let sid = bench.post("voice.calls.originate", &input).data()["sid"].as_str().unwrap().to_owned();
    // The phone says its clip and leaves.
    let row = bench.ended(&sid);
    assert_eq!((ending(&row), &row["endedBy"]), (("completed", "normal", None), &json!("remote")));
    let report = bench.engine.phone().report(&sid).unwrap();
    let report: Value = wait_for(|| serde_json::from_slice(&std::fs::read(&report).ok()?).ok());
    let (said, heard) = (report["frames_said"].as_u64().unwrap(), report["frames_heard"].as_u64().unwrap());
    assert!(heard > 0 && heard <= said && heard + 15 >= said, "said {said}, heard {heard}: {report}");
}
