//! Asterisk 22 as the carrier: what it asks of us and what we make of it, by the records of a whole engine.
//!
//! `make asterisk` installs it into a folder of its own (`tests/asterisk/`) and runs these; nobody else does. What it plays is the dial plan
//! of `tests/asterisk/conf/extensions.conf`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clutchcall::call::TransferMode;
use clutchcall::engine::config::{Credentials, Host, Inbound, InboundRule, Secret, SipTrunk, Then, Trunk, TrunkKind};
use clutchcall::sip::Codec;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::rig::LIMIT;

const FOLDER: &str = "CLUTCHCALL_ASTERISK";
const PORT: u16 = 25_060;
/// Packets, each way.
const ENOUGH: u64 = 25;
const WHY: &str = "needs Asterisk: make asterisk";

/// One Asterisk for one test; they run one after the other.
struct Asterisk {
    child: Child,
    root: PathBuf,
}

impl Asterisk {
    fn start() -> Self {
        let root = PathBuf::from(std::env::var(FOLDER).expect(WHY));
        let folder = format!("{}/tests/asterisk", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(format!("{folder}/run.sh"));
        command.arg(&root).arg(format!("{folder}/conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let asterisk = Self { child: command.spawn().unwrap(), root };
        wait_for(|| asterisk.asked("core waitfullybooted").contains("fully booted").then_some(()));
        asterisk
    }

    fn asked(&self, command: &str) -> String {
        let script = format!("{}/tests/asterisk/run.sh", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(script).arg(&self.root).args(["-rx", command]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it has received and sent, while there is one call.
    fn packets_of_the_call(&self) -> Option<[u64; 2]> {
        let shown = self.asked("pjsip show channelstats");
        let line = shown.lines().find(|line| line.contains("trunk-0") || line.contains("insists-0"))?;
        // Bridge and channel, time, codec; then count, lost, percent and jitter of each way.
        let counts: Vec<&str> = line.split_whitespace().skip_while(|word| !word.contains(':')).skip(2).collect();
        Some([counts.first()?.parse().ok()?, counts.get(4)?.parse().ok()?])
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        self.asked("core stop now");
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > LIMIT {
                // It does not end as it is told.
                let _ = self.child.kill();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn trunk() -> SipTrunk {
    let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
    SipTrunk {
        credentials: Some(credentials),
        source_pbx_port: 0,
        internal_sip_ip: "127.0.0.1".parse().unwrap(),
        rtp_ports: 28_000..=28_199,
        options_interval: None,
        ..SipTrunk::to(Host { name: "127.0.0.1".to_owned(), port: Some(PORT) })
    }
}

fn bench(sip: SipTrunk) -> Bench {
    let kind = TrunkKind::Sip(Box::new(sip));
    let trunk = Trunk { kind, channel_limit: 20, inbound: answering(), ..Trunk::default() };
    Bench::with(|config| drop(config.trunks.insert("carrier".to_owned(), trunk)))
}

/// Every number is answered by an agent that gives back what it hears.
fn answering() -> Inbound {
    let then = Then::Answer { agent: "echo".to_owned() };
    let rule = InboundRule { number: "*".parse().unwrap(), org: "org_a".to_owned(), then, max_duration: None };
    Inbound { rules: vec![rule], ..Inbound::default() }
}

fn dial(bench: &Bench, number: &str) -> String {
    let body = json!({"orgId": "org_a", "to": number, "from": "+15558675309", "trunkId": "carrier"});
    bench.post("voice.calls.originate", &body).data()["sid"].as_str().unwrap().to_owned()
}

/// The row of an ended call, once the audio thread has said what its line was like.
fn with_rtp(bench: &Bench, sid: &str) -> Value {
    wait_for(|| Some(bench.row(sid)).filter(|row| row["rtp"].is_object()))
}

/// Up and heard both ways, as Asterisk counts it, and then hung up.
fn talk(asterisk: &Asterisk, bench: &Bench, sid: &str) -> Value {
    bench.wait(sid, &["in_progress"]);
    wait_for(|| asterisk.packets_of_the_call().filter(|ways| ways.iter().all(|count| *count >= ENOUGH)));
    bench.hangup(sid).data();
    bench.ended(sid);
    with_rtp(bench, sid)
}

fn is(row: &Value, names: [&str; 4], wanted: [Value; 4]) {
    assert_eq!(names.map(|name| row[name].clone()), wanted, "{row}");
}

const ENDING: [&str; 4] = ["status", "endReason", "sipCode", "q850"];

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn digest_and_audio_both_ways() {
    let asterisk = Asterisk::start();
    let bench = bench(trunk());
    let row = talk(&asterisk, &bench, &dial(&bench, "+15550000600"));
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("completed"), json!("normal"), json!("local"), json!(16)],
    );
    assert!(row["ringingAt"].is_string() || row["answeredAt"].is_string(), "{row}");
    let rtp = |name: &str| row["rtp"][name].as_u64().unwrap();
    assert_eq!((&row["rtp"]["codec"], rtp("packetsLost")), (&json!("PCMU"), 0), "{row}");
    assert!(rtp("packetsReceived") >= ENOUGH - 5 && rtp("packetsSent") >= ENOUGH, "{row}");
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn a_wrong_password() {
    let _asterisk = Asterisk::start();
    let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("wrong") };
    let bench = bench(SipTrunk { credentials: Some(credentials), ..trunk() });
    let row = bench.ended(&dial(&bench, "+15550000600"));
    is(&row, ENDING, [json!("failed"), json!("auth_failed"), json!(401), json!(21)]);
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn cause_codes() {
    let _asterisk = Asterisk::start();
    let bench = bench(trunk());
    for (number, reason, code, q850) in [
        ("+15550000617", "busy", 486, 17),
        ("+15550000618", "not_found", 404, 1),
        ("+15550000634", "carrier_error", 503, 34),
    ] {
        let row = bench.ended(&dial(&bench, number));
        is(&row, ENDING, [json!("failed"), json!(reason), json!(code), json!(q850)]);
    }
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn it_rings_until_we_have_enough() {
    let _asterisk = Asterisk::start();
    let bench = bench(trunk());
    let sid = dial(&bench, "+15550000602");
    bench.wait(&sid, &["ringing"]);
    bench.hangup(&sid).data();
    let row = bench.ended(&sid);
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("failed"), json!("canceled"), json!("local"), json!(31)],
    );
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn it_hangs_up() {
    let _asterisk = Asterisk::start();
    let bench = bench(trunk());
    let sid = dial(&bench, "+15550000640");
    bench.ended(&sid);
    let row = with_rtp(&bench, &sid);
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("completed"), json!("normal"), json!("remote"), json!(16)],
    );
}

/// 183 with a description, audio before the answer, then 200: it counts as ringing, and the call is heard from its answer on.
#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn early_media() {
    let _asterisk = Asterisk::start();
    let bench = bench(trunk());
    let sid = dial(&bench, "+15550000601");
    bench.wait(&sid, &["ringing"]);
    let row = bench.ended(&sid);
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("completed"), json!("normal"), json!("remote"), json!(16)],
    );
    assert!(row["answeredAt"].is_string(), "{row}");
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn opus() {
    let asterisk = Asterisk::start();
    let bench = bench(SipTrunk { codec_preferences: vec![Codec::Opus], ..trunk() });
    let row = talk(&asterisk, &bench, &dial(&bench, "+15550000600"));
    let rtp = |name: &str| row["rtp"][name].as_u64().unwrap();
    assert!(row["rtp"]["codec"].as_str().unwrap().eq_ignore_ascii_case("opus"), "{row}");
    assert!(rtp("packetsReceived") >= ENOUGH - 5 && rtp("packetsLost") == 0, "{row}");
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn refer() {
    let _asterisk = Asterisk::start();
    let bench = bench(SipTrunk { transfer_mode: TransferMode::Refer, ..trunk() });
    let sid = dial(&bench, "+15550000700");
    bench.wait(&sid, &["in_progress"]);
    let body = json!({"orgId": "org_a", "sid": sid, "to": "+15550000701"});
    bench.post("voice.calls.transfer", &body).data();
    let row = bench.ended(&sid);
    is(
        &row,
        ["status", "endReason", "transferredTo", "q850"],
        [json!("completed"), json!("transferred"), json!("+15550000701"), json!(16)],
    );
}

/// A call that it gives back itself it can't refer: it accepts, and then notifies of a failure. The call goes on.
#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn a_refer_that_comes_to_nothing() {
    let asterisk = Asterisk::start();
    let bench = bench(trunk());
    let sid = dial(&bench, "+15550000600");
    bench.wait(&sid, &["in_progress"]);
    let body = json!({"orgId": "org_a", "sid": sid, "to": "+15550000600"});
    bench.post("voice.calls.transfer", &body).data();
    let row = wait_for(|| Some(bench.row(&sid)).filter(|row| row["transfer"]["state"] == "failed"));
    assert_eq!((&row["status"], &row["transfer"]["sipCode"]), (&json!("in_progress"), &json!(400)), "{row}");
    let row = talk(&asterisk, &bench, &sid);
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("completed"), json!("normal"), json!("local"), json!(16)],
    );
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn a_second_leg() {
    let asterisk = Asterisk::start();
    let bench = bench(SipTrunk { transfer_mode: TransferMode::Bridge, ..trunk() });
    let sid = dial(&bench, "+15550000600");
    bench.wait(&sid, &["in_progress"]);
    let body = json!({"orgId": "org_a", "sid": sid, "to": "+15550000602"});
    bench.post("voice.calls.transfer", &body).data();
    wait_for(|| asterisk.asked("core show channels count").contains("2 active channels").then_some(()));
    bench.hangup(&sid).data();
    bench.ended(&sid);
    // The one that talks is hung up, the one that rings taken back.
    wait_for(|| asterisk.asked("core show channels count").contains("0 active channels").then_some(()));
}

#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn registers() {
    let asterisk = Asterisk::start();
    let bench = bench(SipTrunk { require_registration: true, ..trunk() });
    let contacts =
        wait_for(|| Some(asterisk.asked("pjsip show contacts")).filter(|text| text.contains("sip:trunk@127.0.0.1")));
    assert!(contacts.contains("trunk/sip:trunk@127.0.0.1:"), "{contacts}");
    drop(bench);
}

/// Where we are registered it calls us, and is answered.
#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn it_calls_where_we_are_registered() {
    is_called_by("trunk");
}

/// The same, with `Require: 100rel` in its INVITE.
#[test]
#[ignore = "needs Asterisk: make asterisk"]
fn it_calls_and_demands_that_our_180_arrives() {
    is_called_by("insists");
}

fn is_called_by(endpoint: &str) {
    let asterisk = Asterisk::start();
    let bench = bench(SipTrunk { require_registration: true, ..trunk() });
    wait_for(|| asterisk.asked("pjsip show contacts").contains("sip:trunk@127.0.0.1").then_some(()));
    asterisk.asked(&format!("channel originate PJSIP/+15550001234@{endpoint} extension talks@parties"));
    let calls =
        || bench.get("voice.calls.list", &json!({"orgId": "org_a"})).data()["calls"].as_array().unwrap().clone();
    let called = wait_for(|| calls().into_iter().next());
    is(
        &called,
        ["direction", "to", "agent", "trunkId"],
        ["inbound", "+15550001234", "echo", "carrier"].map(Value::from),
    );
    let row = talk(&asterisk, &bench, called["sid"].as_str().unwrap());
    is(
        &row,
        ["status", "endReason", "endedBy", "q850"],
        [json!("completed"), json!("normal"), json!("local"), json!(16)],
    );
    assert!(row["rtp"]["packetsReceived"].as_u64() >= Some(ENOUGH - 5) && row["rtp"]["packetsLost"] == 0, "{row}");
}
