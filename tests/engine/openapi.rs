//! `/openapi.json` held to the handlers: every route, method, field and status, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::time::Duration;

use clutchcall::call::{
    CallRecord, Hundredths, LegRecord, LegState, RtpStats, TransferMode, TransferRecord, TransferState,
};
use clutchcall::engine::api::procedures;
use clutchcall::engine::config::ApiKey;
use serde_json::{Value, json};

use crate::common::{Answer, Bench, KEY, call, wait_for};
use crate::schema::Spec;

const PREFIX: &str = "/api/trpc/";
/// May do nothing.
const NO_KEY: &str = "tqs_live_of_org_a_without_scopes";
const PLAIN: [&str; 4] = ["/healthz", "/metrics", "/openapi.json", "/readyz"];

/// A bench, what it says of itself, and what it answered.
struct Described {
    bench: Bench,
    spec: Spec,
    answered: BTreeSet<(String, String)>,
}

impl Described {
    fn new(change: impl FnOnce(&mut clutchcall::engine::Config)) -> Self {
        let bench = Bench::with(|config| {
            config.limits.body_bytes = 16_000;
            config.limits.body = Duration::from_millis(300);
            config.trunks.get_mut("trunk_main").unwrap().display_name = Some("Main".to_owned());
            config.keys.push(ApiKey::from_text("org_a", vec!["admin:*".to_owned()], NO_KEY));
            change(config);
        });
        let spec = Spec::new(&plain(&bench, "/openapi.json").body);
        Self { bench, spec, answered: BTreeSet::new() }
    }

    fn procedures(&self) -> Vec<String> {
        let paths = self.spec.doc["paths"].as_object().unwrap();
        paths.keys().filter_map(|path| path.strip_prefix(PREFIX)).map(str::to_owned).collect()
    }

    fn method(&self, name: &str) -> &str {
        self.spec.doc["paths"][format!("{PREFIX}{name}")].as_object().unwrap().keys().next().unwrap()
    }

    /// Where the operation stands.
    fn operation(&self, name: &str) -> String {
        format!("/paths/{}/{}", format!("{PREFIX}{name}").replace('/', "~1"), self.method(name))
    }

    fn input_schema(&self, name: &str) -> String {
        let operation = self.operation(name);
        if self.method(name) == "get" {
            return format!("{operation}/parameters/0/content/application~1json/schema");
        }
        format!("{operation}/requestBody/content/application~1json/schema")
    }

    fn fields(&self, name: &str) -> BTreeSet<String> {
        let schema = self.spec.doc.pointer(&self.input_schema(name)).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn raw(&self, key: &str, name: &str, input: &Value, more: &str) -> Answer {
        if self.method(name) == "get" {
            self.bench.get_as(key, name, input)
        } else {
            self.bench.post_as(key, name, &input.to_string(), more)
        }
    }

    /// Asks, and holds question and answer to the description.
    fn ask(&mut self, name: &str, input: &Value) -> Value {
        self.spec.check(&self.input_schema(name), input).unwrap();
        let answer = self.raw(KEY, name, input, "");
        self.check(name, &answer)
    }

    fn check(&mut self, name: &str, answer: &Answer) -> Value {
        let status = answer.status.to_string();
        let at = format!("{}/responses/{status}", self.operation(name));
        let response = self.spec.doc.pointer(&at).unwrap_or_else(|| panic!("{name} answers {status}: {answer:?}"));
        let at = match response.get("$ref") {
            Some(to) => to.as_str().unwrap().strip_prefix('#').unwrap().to_owned(),
            None => at,
        };
        self.spec.check(&format!("{at}/content/application~1json/schema"), &answer.json()).unwrap();
        self.answered.insert((name.to_owned(), status));
        answer.json()["result"]["data"].clone()
    }
}

fn plain(bench: &Bench, path: &str) -> Answer {
    bench.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

/// An input of each procedure that is right, and concerns nothing that is there.
fn inputs() -> BTreeMap<&'static str, Value> {
    let (to, sid) = ("+15550009000", "CA1NONE");
    BTreeMap::from([
        ("voice.calls.originate", json!({"to": to, "from": to, "trunkId": "none"})),
        ("voice.calls.get", json!({"sid": sid})),
        ("voice.calls.list", json!({})),
        ("voice.calls.events", json!({"sid": sid})),
        ("voice.calls.transfer", json!({"sid": sid, "to": to})),
        ("voice.calls.hangup", json!({"sid": sid})),
        ("voice.calls.answer", json!({"sid": sid})),
        ("voice.calls.reject", json!({"sid": sid, "reason": "busy"})),
        ("voice.calls.sendDtmf", json!({"sid": sid, "digits": "1"})),
        ("voice.agents.attach", json!({"sid": sid, "agent": "echo"})),
        ("voice.agents.list", json!({})),
        ("voice.trunks.list", json!({})),
        ("voice.trunks.test", json!({"trunkId": "none"})),
        ("voice.audioBridge.token", json!({"sid": sid, "holder": "h"})),
        ("telephony.originate", json!({"trunk_id": "none", "to": to, "call_from": to})),
        ("telephony.terminate", json!({"call_sid": sid})),
        ("telephony.transfer", json!({"call_sid": sid, "destination": to})),
        ("telephony.mute", json!({})),
        ("telephony.hold", json!({})),
        ("telephony.unhold", json!({})),
        ("telephony.sendDtmf", json!({"call_sid": sid, "digit": "1"})),
        ("admin.listTrunks", json!({})),
    ])
}

#[test]
fn every_route_and_method_is_described() {
    let described = Described::new(|_| {});
    let doc = &described.spec.doc;
    assert_eq!(doc["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(described.spec.unknown(), BTreeSet::new(), "words that the reader of schemas does not know");
    let answered: BTreeSet<(String, String)> =
        procedures().map(|(name, method)| (name.to_owned(), method.as_str().to_lowercase())).collect();
    let named = described.procedures().into_iter().map(|name| (name.clone(), described.method(&name).to_owned()));
    assert_eq!(named.collect::<BTreeSet<_>>(), answered);
    assert_eq!(inputs().len(), answered.len());
    let others: Vec<_> = doc["paths"].as_object().unwrap().keys().filter(|path| !path.starts_with(PREFIX)).collect();
    assert_eq!(others, PLAIN);
    for name in described.procedures() {
        assert_eq!(doc["paths"][format!("{PREFIX}{name}")].as_object().unwrap().len(), 1, "{name} has one method");
        let raw = format!(
            "PUT {PREFIX}{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );
        described.bench.raw(&raw).error(405, "METHOD_NOT_SUPPORTED");
    }
    for path in PLAIN {
        let answer = plain(&described.bench, path);
        assert_eq!(answer.status, 200);
        let content = &doc["paths"][path]["get"]["responses"]["200"]["content"];
        let kind = content.as_object().unwrap().keys().next().unwrap();
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{path}: {answer:?}");
        if path.ends_with('z') {
            let at = format!("/paths/~1{}/get/responses/200/content/application~1json/schema", &path[1..]);
            described.spec.check(&at, &answer.json()).unwrap();
        }
    }
}

/// A list fits no field, so a field is read when a list in it is refused by name.
#[test]
fn the_fields_of_every_input_are_those_that_are_read() {
    let described = Described::new(|_| {});
    let all: BTreeSet<String> = described.procedures().iter().flat_map(|name| described.fields(name)).collect();
    assert_eq!(
        names_in_source().difference(&all).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "read, and described nowhere"
    );
    for (name, input) in inputs() {
        let told = described.fields(name);
        for field in &all {
            let mut input = input.clone();
            input[field] = json!([1]);
            let answer = described.raw(KEY, name, &input, "");
            let is_read = match name {
                "telephony.originate" => {
                    answer.status == 400
                        || matches!(answer.json()["result"]["data"]["error_code"].as_i64(), Some(2 | 6))
                }
                _ => answer.status == 400,
            };
            // The vendor's names stand for ours, which are read under them too.
            let may_differ = !name.starts_with("voice.") && !told.contains(field);
            assert!(may_differ || is_read == told.contains(field), "{name}, {field}: {answer:?}");
            if answer.status == 400 && name.starts_with("voice.") {
                let message = answer.error(400, "BAD_REQUEST");
                assert!(message.contains(field.as_str()), "{name}, {field}: {message}");
            }
        }
    }
}

/// Absent, null and "" are answered with the same bytes, whichever field it is, whether it is needed or not.
#[test]
fn each_field_may_be_unset_in_every_spelling() {
    let described = Described::new(|_| {});
    let mut tried = 0;
    for (name, input) in inputs() {
        for field in described.fields(name) {
            let answers = [None, Some(Value::Null), Some(json!(""))].map(|unset| {
                let mut input = input.clone();
                input.as_object_mut().unwrap().remove(&field);
                if let Some(unset) = unset {
                    input[&field] = unset;
                }
                // Without a sid it is a stream of all calls.
                if (name, field.as_str()) == ("voice.calls.events", "sid") {
                    return (200, begun(&described, &input));
                }
                let answer = described.raw(KEY, name, &input, "");
                let id = answer.head.split("x-request-id: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
                (answer.status, answer.body.replace(id, ""))
            });
            assert!(answers[0] == answers[1] && answers[1] == answers[2], "{name}, {field}: {answers:?}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// The status line of a stream that goes on.
fn begun(described: &Described, input: &Value) -> String {
    let input: String = url::form_urlencoded::byte_serialize(input.to_string().as_bytes()).collect();
    let mut stream = described.bench.connect();
    let path = format!("{PREFIX}voice.calls.events?input={input}");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n").unwrap();
    let mut status = [0; 15];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

/// Why the vendor's command line was refused a dial: the numbers that the source has are those that are described.
#[test]
fn every_number_of_a_refused_dial_is_described() {
    let source = include_str!("../../src/engine/api/telephony.rs");
    let arm = |line: &str| line.trim().strip_suffix(',')?.split_once(" => ")?.1.parse::<u64>().ok();
    let given: BTreeSet<u64> = source.lines().filter_map(arm).collect();
    let spec = Spec::new(include_str!("../../src/engine/api/openapi.json"));
    let told = spec.doc.pointer("/components/schemas/Dialled/properties/error_code/enum").unwrap();
    assert_eq!(told.as_array().unwrap().iter().filter_map(Value::as_u64).collect::<BTreeSet<_>>(), given);
    assert_eq!(given.len(), 6);
}

/// What the handlers ask an input for, as their source says it.
fn names_in_source() -> BTreeSet<String> {
    let source = [
        include_str!("../../src/engine/api/voice.rs"),
        include_str!("../../src/engine/api/mod.rs"),
        include_str!("../../src/engine/api/input.rs"),
        include_str!("../../src/engine/api/keys.rs"),
    ];
    let asked = ["text", "required", "number", "required_number", "seconds", "whole", "flag", "value"]
        .map(|way| format!(".{way}(\""));
    let mut names = BTreeSet::new();
    for text in source {
        for way in &asked {
            names.extend(
                text.match_indices(way)
                    .map(|(at, _)| text[at + way.len()..].split('"').next().expect("a name ends").to_owned()),
            );
        }
    }
    assert!(names.len() > 15, "{names:?}");
    names
}

#[test]
fn every_field_of_an_answer_is_described_and_every_described_one_comes() {
    let mut described = Described::new(|_| {});
    calls(&mut described);
    vendor(&mut described);
    events(&mut described);
    described.spec.check("/components/schemas/Call", &json!(over_sip().row())).unwrap();
    for schema in described.spec.doc["components"]["schemas"].as_object().unwrap().keys().cloned().collect::<Vec<_>>() {
        let mut unseen = described.spec.unseen(&format!("/components/schemas/{schema}"));
        unseen.retain(|place| !of_sip_trunks(place));
        assert_eq!(unseen, Vec::<String>::new());
    }
    let succeeded: BTreeSet<_> =
        described.answered.iter().filter(|(_, status)| status == "200").map(|(name, _)| name.as_str()).collect();
    for name in described.procedures() {
        let can = described.spec.doc.pointer(&format!("{}/responses/200", described.operation(&name))).is_some();
        assert!(!can || elsewhere(&name, "200") || succeeded.contains(name.as_str()), "{name} never succeeded");
    }
}

/// What only a call over SIP has: its record as the engine keeps it.
fn over_sip() -> CallRecord {
    let some = Some(Hundredths::new(4.2));
    let rtp = RtpStats {
        codec: "PCMU".to_owned(),
        remote_packets_lost: Some(1),
        round_trip_ms: some,
        mos: some,
        ..RtpStats::default()
    };
    let leg = LegRecord {
        to: "+15557654321".to_owned(),
        state: LegState::Ended,
        started_ms: 1,
        answered_ms: Some(2),
        ended_ms: Some(3),
        sip_code: Some(200),
        q850: Some(16),
        sip_call_id: Some("b@h".to_owned()),
        rtp: Some(rtp.clone()),
    };
    let transfer = TransferRecord {
        to: "+15557654321".to_owned(),
        mode: TransferMode::Bridge,
        state: TransferState::Failed,
        sip_code: Some(486),
    };
    CallRecord {
        sip_call_id: Some("a@h".to_owned()),
        rtp: Some(rtp),
        legs: vec![leg],
        transfer: Some(transfer),
        ..CallRecord::dialing("CA1".to_owned(), 0)
    }
}

/// What only a SIP trunk has; `engine::api::trunks` holds its row to what was configured.
fn of_sip_trunks(place: &str) -> bool {
    let vendors = place.strip_prefix("/components/schemas/VendorTrunks/items/properties/");
    let phones = ["trunk_id", "display_name", "channel_limit"];
    vendors.is_some_and(|field| !phones.contains(&field))
        || place.starts_with("/components/schemas/SipTrunk/")
        || of_tests(place)
        || place.strip_prefix("/components/schemas/Trunks/properties/trunks/items/properties/").is_some_and(of_rows)
}

fn of_rows(field: &str) -> bool {
    ["sip", "problem"].contains(&field)
}

/// `engine::api::verdict` holds these to what was found.
fn of_tests(place: &str) -> bool {
    let found = place.strip_prefix("/components/schemas/TrunkTest/properties/");
    found.is_some_and(|field| !["trunkId", "ok", "health"].contains(&field))
}

fn calls(described: &mut Described) {
    let mut asked = call("+15550001111");
    asked["metadata"] = json!({"who": "me"});
    (asked["headers"], asked["callerName"]) = (json!({"X-Order": "7"}), json!("Me"));
    let row = described.ask("voice.calls.originate", &asked);
    let sid = row["sid"].as_str().unwrap().to_owned();
    described.bench.wait(&sid, &["in_progress"]);
    described.ask(
        "voice.audioBridge.token",
        &json!({"sid": sid, "holder": "h", "role": "server", "codec": "pcm16", "sampleRate": 16000}),
    );
    described.ask(
        "voice.audioBridge.token",
        &json!({"sid": sid, "holder": "h", "codec": "pcm16", "sampleRate": 16000, "release": true}),
    );
    described.ask("voice.calls.sendDtmf", &json!({"sid": sid, "digits": "1w2", "durationMs": 40}));
    described.ask("voice.agents.attach", &json!({"sid": sid, "agent": "echo"}));
    described.ask("voice.calls.transfer", &json!({"sid": sid, "to": "+15551234567"}));
    described.bench.ended(&sid);
    described.ask("voice.calls.get", &json!({"sid": sid}));
    // Refused with the end of the call, and by the far end.
    described.ask("voice.calls.transfer", &json!({"sid": sid, "agent": "echo"}));
    let refusing = described.bench.originate("+15550009021");
    described.bench.wait(&refusing, &["in_progress"]);
    described.ask("voice.calls.transfer", &json!({"sid": refusing, "to": "+15551234567"}));
    described.ask("voice.calls.hangup", &json!({"sid": refusing}));
    let busy = described.bench.originate("+15550009486");
    described.bench.ended(&busy);
    described.ask("voice.calls.get", &json!({"sid": busy}));
    let page = described.ask("voice.calls.list", &json!({"limit": 1, "status": null}));
    assert!(page["cursor"].is_string());
    described.ask("voice.calls.list", &json!({"cursor": page["cursor"]}));
    described.ask("voice.agents.list", &json!({}));
    described.ask("voice.trunks.list", &json!({}));
    described.ask("voice.trunks.test", &json!({"trunkId": "trunk_main"}));
}

fn vendor(described: &mut Described) {
    let dial =
        |to: &str| json!({"trunk_id": "trunk_main", "to": to, "call_from": "+15558675309", "max_duration_ms": 0});
    let dialled = described.ask("telephony.originate", &dial("+15550001111"));
    let sid = dialled["call_sid"].as_str().unwrap().to_owned();
    described.bench.wait(&sid, &["in_progress"]);
    described.ask("telephony.sendDtmf", &json!({"call_sid": sid, "digit": "5", "mode": "rfc2833"}));
    described.ask("telephony.sendDtmf", &json!({"call_sid": sid, "digit": "5", "mode": "info"}));
    described.ask("telephony.transfer", &json!({"call_sid": sid, "destination": "+15551234567"}));
    described.ask("telephony.terminate", &json!({"call_sid": sid}));
    let refused = described
        .ask("telephony.originate", &json!({"trunk_id": "none", "to": "+15550001111", "call_from": "+15558675309"}));
    assert_eq!(refused["error_code"], 1);
    described.ask("admin.listTrunks", &json!({}));
}

fn events(described: &mut Described) {
    let sid = described.bench.originate("+15550009486");
    described.bench.ended(&sid);
    let input: String = url::form_urlencoded::byte_serialize(json!({"sid": sid}).to_string().as_bytes()).collect();
    let mut stream = described.bench.connect();
    let request = format!(
        "GET {PREFIX}voice.calls.events?input={input} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         last-event-id: nobody.7\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("text/event-stream"), "{text}");
    let data = |kind: &str| {
        let after = text.split(&format!("event: {kind}\n")).nth(1).unwrap_or_else(|| panic!("no {kind}: {text}"));
        let line = after.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str::<Value>(line).unwrap()
    };
    described.spec.check("/components/schemas/Call", &data("call")).unwrap();
    described.spec.check("/components/schemas/Gap", &data("gap")).unwrap();
}

/// What can't be had here, and why.
fn elsewhere(name: &str, status: &str) -> bool {
    match status {
        // A store that fails and an engine that ends: `disks`, `restarts`. An engine that answers nothing for 24 s: nowhere.
        "503" | "504" => true,
        // Not a word of JSON: `events`. Calls that come in: `tests/sip`.
        "200" => matches!(name, "voice.calls.events" | "voice.calls.answer" | "voice.calls.reject"),
        _ => false,
    }
}

#[test]
fn every_described_status_is_answered_and_no_other() {
    let mut described = Described::new(|_| {});
    too_many(&mut described);
    refusals(&mut described);
    conflicts(&mut described);
    calls(&mut described);
    vendor(&mut described);
    for (name, input) in inputs() {
        let answer = described.raw(KEY, name, &input, "");
        described.check(name, &answer);
    }
    let mut missing = Vec::new();
    for name in described.procedures() {
        let responses = described.spec.doc.pointer(&format!("{}/responses", described.operation(&name))).unwrap();
        for status in responses.as_object().unwrap().keys() {
            if !described.answered.contains(&(name.clone(), status.clone())) && !elsewhere(&name, status) {
                missing.push(format!("{name} {status}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "described, and never answered");
}

fn refusals(described: &mut Described) {
    for (name, input) in inputs() {
        let mut wrong = input.clone();
        wrong["orgId"] = json!([1]);
        let large = json!({"x": "y".repeat(20_000)});
        let answers = [
            described.raw(KEY, name, &wrong, ""),
            described.raw("wrong", name, &input, ""),
            described.raw(NO_KEY, name, &input, ""),
            described.raw(KEY, name, &large, ""),
        ];
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400, 401, 403, 413], "{name}");
        answers.iter().for_each(|answer| drop(described.check(name, answer)));
        if described.method(name) == "post" {
            let mut stream = described.bench.connect();
            let head = format!(
                "POST {PREFIX}{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 9\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let late = Answer::parse(&text);
            assert_eq!(late.status, 408, "{name}");
            described.check(name, &late);
        }
    }
}

fn conflicts(described: &mut Described) {
    let key = "idempotency-key: k1\r\n";
    let first = described.raw(KEY, "voice.calls.originate", &call("+15550001111"), key);
    let sid = described.check("voice.calls.originate", &first)["sid"].as_str().unwrap().to_owned();
    let other = described.raw(KEY, "voice.calls.originate", &call("+15550002222"), key);
    assert_eq!(other.status, 409);
    described.check("voice.calls.originate", &other);
    described.bench.wait(&sid, &["in_progress"]);
    described.ask("voice.calls.answer", &json!({"sid": sid, "agent": null}));
    described.ask("voice.calls.reject", &json!({"sid": sid}));
    described.ask("voice.audioBridge.token", &json!({"sid": sid, "holder": "one"}));
    described.ask("voice.audioBridge.token", &json!({"sid": sid, "holder": "two"}));
    described.ask("voice.calls.hangup", &json!({"sid": sid}));
    described.bench.ended(&sid);
    described.ask("voice.agents.attach", &json!({"sid": sid, "agent": "echo"}));
    described.ask("voice.calls.transfer", &json!({"sid": sid, "to": "+15551234567"}));
    described.ask("telephony.transfer", &json!({"call_sid": sid, "destination": "+15551234567"}));
    described.ask("voice.calls.sendDtmf", &json!({"sid": sid, "digits": "1"}));
    described.ask("telephony.sendDtmf", &json!({"call_sid": sid, "digit": "1"}));
}

/// Of an engine of its own, whose keys may ask once a second.
fn too_many(described: &mut Described) {
    let slow = Described::new(|config| (config.limits.requests_per_s, config.limits.request_burst) = (1, 1));
    for (name, input) in inputs() {
        let refused = wait_for(|| Some(slow.raw(KEY, name, &input, "")).filter(|answer| answer.status == 429));
        assert!(refused.head.contains("retry-after: "), "{refused:?}");
        described.check(name, &refused);
    }
}
