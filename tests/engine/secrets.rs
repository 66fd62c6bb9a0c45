//! No secret stands in a log: everything that is said at DEBUG and above while keys, tokens, certificates and calls come and go, well and badly.
//!
//! Who listens to a log is the process's, so this happens in a process of its own: this test program again.

use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use clutchcall::audio::Params;
use clutchcall::call::wire::BridgeRole;
use clutchcall::client::{Arguments, BridgeSpec, Client, Clock, Options, Originate, Unclaimed};
use clutchcall::engine::Config;
use clutchcall::engine::config::keyfile::{self, Wanted};
use clutchcall::tracks::Delivery;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::common::{Answer, Bench, KEY, NARROW_KEY, OTHER_KEY, call, wait_for};

/// Everything that was said, one line each.
static SAID: Mutex<String> = Mutex::new(String::new());

struct Listener;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

fn keep(place: &Metadata<'_>, line: Line) {
    let mut said = SAID.lock().unwrap();
    let _ = writeln!(said, "{} {}{}", place.level(), place.target(), line.0);
}

impl Subscriber for Listener {
    fn enabled(&self, place: &Metadata<'_>) -> bool {
        *place.level() <= Level::DEBUG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(String::new());
        span.record(&mut line);
        keep(span.metadata(), line);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        let _ = writeln!(SAID.lock().unwrap(), "{}", line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        keep(event.metadata(), line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn said(part: &str) -> bool {
    SAID.lock().unwrap().contains(part)
}

const NOTE: &str = "a note of the caller's, whose business it is";

fn client(bench: &Bench, key: &str) -> Client {
    let arguments = Arguments {
        base_url: Some(bench.engine.base_url().to_owned()),
        api_key: Some(key.to_owned()),
        org_id: Some("org_a".to_owned()),
        ..Arguments::default()
    };
    Client::new(Options::find(arguments).unwrap()).unwrap()
}

/// A call with a bridge, from its beginning to its end; what the bridge was lent.
fn talk(bench: &Bench) -> Vec<String> {
    let client = client(bench, KEY);
    let mut asked =
        Originate { to: "+15550001111".to_owned(), from: "+15558675309".to_owned(), ..Originate::default() };
    asked.trunk_id = "trunk_main".to_owned();
    asked.metadata.insert("note".to_owned(), NOTE.to_owned());
    let sid = client.originate(asked, &mut || false).unwrap().claim().sid;
    bench.wait(&sid, &["in_progress"]);
    let clock = Clock { at: Instant::now(), us: 0 };
    let spec = BridgeSpec {
        sid: sid.clone(),
        role: BridgeRole::Server,
        params: Params::CALL,
        delivery: Delivery::Stream,
        clock,
    };
    let (ring, _heard) = client.runtime().delivery().ring(1);
    let bridge = client.attach(spec, ring, &mut || false).map(Unclaimed::claim).unwrap();
    wait_for(|| (bridge.stats().frames_in > 5).then_some(()));
    let lent = bench.post("voice.audioBridge.token", &json!({"sid": sid, "holder": "h", "codec": "g711_ulaw"})).data();
    bridge.close(&mut || false).unwrap();
    client.hangup(&sid, &mut || false).unwrap();
    bench.ended(&sid);
    assert!(said(&sid), "the call is spoken of: {}", SAID.lock().unwrap());
    vec![lent["token"].as_str().unwrap().to_owned()]
}

/// Requests with a secret in every wrong place, and keys that are none; their ids stand in the log.
fn refusals(bench: &Bench) {
    let unknown = bench.get_as("tqs_live_of_nobody_at_all", "voice.calls.get", &json!({"sid": "CA1"}));
    unknown.error(401, "UNAUTHORIZED");
    let narrow = bench.post_as(NARROW_KEY, "voice.calls.hangup", "{\"sid\":\"CA1\"}", "");
    narrow.error(403, "FORBIDDEN");
    let misplaced = bench.post("voice.calls.originate", &json!({"to": KEY, "from": KEY, "trunkId": KEY, "orgId": KEY}));
    misplaced.error(403, "FORBIDDEN");
    let mut wrong = call("+15550001111");
    wrong["trunkId"] = json!(OTHER_KEY);
    bench.post("voice.calls.originate", &wrong).error(404, "NOT_FOUND");
    let path = bench.raw(&format!(
        "GET /api/trpc/{OTHER_KEY} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    ));
    path.error(404, "NOT_FOUND");
    for answer in [&unknown, &narrow, &misplaced, &path] {
        let id = answer.json()["error"]["data"]["requestId"].as_str().unwrap().to_owned();
        assert!(said(&id), "{id} is not in the log");
    }
    let right: Answer = bench.get("voice.agents.list", &json!({}));
    let id = right.head.split("x-request-id: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert!(said(&id), "{id} is not in the log");
    // The SDK's own complaints.
    let stranger = client(bench, "tqs_live_of_nobody_at_all");
    let error = stranger.hangup("CA1", &mut || false).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("tqs_live_"), "{error:?}");
}

/// Keys are made, broken and revoked beside the engine.
fn keys(bench: &Bench) -> Vec<String> {
    let file = bench.state.path().join(keyfile::NAME);
    let wanted = Wanted {
        org: "org_dev".to_owned(),
        scopes: Vec::new(),
        name: None,
        created: "2026-01-01T00:00:00.000Z".to_owned(),
    };
    let (entry, text) = keyfile::create(&file, wanted).unwrap();
    bench.engine.reload();
    wait_for(|| (bench.get_as(&text, "voice.agents.list", &json!({})).status == 200).then_some(()));
    assert!(said(&entry.key.id()), "a key is spoken of by its id");
    let right = std::fs::read_to_string(&file).unwrap();
    // The mistake stands in the very line of the hash; a key in plain text stands where a hash should.
    for (wrong, part) in [
        (right.replace(&format!("{}\"", entry.key.hash()), &entry.key.hash()), "line "),
        (right.replace(&entry.key.hash(), &text), "no hash of a key"),
    ] {
        std::fs::write(&file, wrong).unwrap();
        bench.engine.reload();
        wait_for(|| said(part).then_some(()));
    }
    let hash = entry.key.hash();
    let parts = hash.split('$').skip(1).map(str::to_owned);
    std::iter::once(text).chain(parts).collect()
}

/// The body of a PEM file: each of its lines is a secret.
fn pem(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.starts_with("---") && line.len() > 8).map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "in a process of its own: no_secret_stands_in_a_log"]
fn alone() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    let bench = Bench::new();
    let minted = bench.engine.api_key().unwrap().to_owned();
    let mut secrets: Vec<String> = [KEY, OTHER_KEY, NARROW_KEY, "tqs_live_", &minted, NOTE].map(str::to_owned).into();
    secrets.extend(talk(&bench));
    refusals(&bench);
    secrets.extend(keys(&bench));
    let state = bench.state.path();
    secrets.extend(pem(&state.join("key.pem")));
    let signing = std::fs::read(state.join("token.key")).unwrap();
    secrets.extend([hex(&signing[16..48]), format!("{:?}", &signing[16..20])]);
    let config: Config = crate::common::config(state);
    assert!(!format!("{config:?}").contains("tqs_live_"));
    drop(bench);
    let said = SAID.lock().unwrap();
    let lines = said.lines().count();
    assert!(lines > 20, "{lines} lines: {said}");
    for secret in &secrets {
        let line = said.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "a secret is in the log");
    }
    println!("{lines} lines, {} secrets", secrets.len());
}

#[test]
fn no_secret_stands_in_a_log() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let done = command.args(["secrets::alone", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}{errors}");
    assert!(!errors.contains("tqs_live_"), "{errors}");
}
