//! A far side that dies before, while and after it rings, and an engine that is killed with a call up.
//!
//! What is killed of ours is a process: this test program again, with an engine in it, which then sees no signal coming.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config::{Config, Credentials, Secret, SipTrunk, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::json;

use crate::around::told;
use crate::common::{Bench, config, wait_for};
use crate::engine::{beside, originate};
use crate::rig::{Caller, Far, LIMIT, Wishes, case, free_port, towards};

const PORT: &str = "CLUTCHCALL_TEST_FAR_PORT";
const OWN_PORT: &str = "CLUTCHCALL_TEST_OWN_PORT";
const FOLDER: &str = "CLUTCHCALL_TEST_FOLDER";
const REGISTERS: &str = "CLUTCHCALL_TEST_REGISTERS";
const SID: &str = "sid";
/// Silence of a far side that is told soon, for a test.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn nobody_listens_on_udp() {
    case(async || {
        let mut caller = Caller::idle(towards(Transport::Udp, free_port())).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::NoResponse, None, Some(18)));
    });
}

#[test]
fn it_dies_while_it_rings() {
    case(async || {
        let far = Far::start("rings", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
        caller.until(Status::Ringing).await;
        drop(far);
        // Its CANCEL is answered by nobody: the wire is followed to 64·T1, the record is not held up by it.
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::NoAnswer, EndReason::RingTimeout, None, Some(19)));
    });
}

#[test]
fn it_dies_while_it_rings_over_tcp() {
    case(async || {
        let far = Far::over(Transport::Tcp, "rings", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
        caller.until(Status::Ringing).await;
        drop(far);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::NoAnswer, EndReason::RingTimeout, None, Some(19)));
    });
}

#[test]
fn it_dies_in_a_call_and_comes_back() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let port = far.port;
        let trunk = SipTrunk {
            media_timeout: Some(SOON),
            media_timeout_initial: Some(SOON),
            rtp_ports: 23_000..=23_099,
            ..towards(Transport::Udp, port)
        };
        let bench = Bench::with(|config| carrier(config, trunk));
        let (bench, sid) = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            (bench, sid)
        })
        .await;
        drop(far);
        // It is there again before its silence is noticed, and knows of no call.
        let far = Far::at(Transport::Udp, port, "forgot", &[]).await;
        let (bench, row) = beside(move || {
            let row = bench.ended(&sid);
            (bench, row)
        })
        .await;
        assert_eq!(
            (&row["status"], &row["endReason"], &row["endedBy"], &row["q850"]),
            (&json!("completed"), &json!("media_timeout"), &json!("system"), &json!(31)),
            "{row}"
        );
        far.played().await.our("BYE");
        let far = Far::at(Transport::Udp, port, "far_bye", &[]).await;
        let row = beside(move || {
            let sid = originate(&bench);
            bench.ended(&sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
        far.played().await;
    });
}

fn carrier(config: &mut Config, sip: SipTrunk) {
    let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 2, ..Trunk::default() };
    config.trunks.insert("carrier".to_owned(), trunk);
}

/// The trunk of the engine that dies and of the one that comes after it: both listen on the same port.
fn own(far: u16, own: u16, registers: bool) -> SipTrunk {
    let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
    SipTrunk {
        source_pbx_port: own,
        rtp_ports: 23_200..=23_299,
        require_registration: registers,
        credentials: registers.then_some(credentials),
        ..towards(Transport::Udp, far)
    }
}

#[test]
#[ignore = "in a process of its own, which is killed: an_engine_is_killed_in_a_call"]
fn alone() {
    let number = |name: &str| std::env::var(name).unwrap().parse().unwrap();
    let folder = std::env::var(FOLDER).unwrap();
    let registers = std::env::var_os(REGISTERS).is_some();
    let mut config = config(&Path::new(&folder).join("state"));
    carrier(&mut config, own(number(PORT), number(OWN_PORT), registers));
    let engine = clutchcall::engine::Engine::start(config).unwrap();
    // The bench's folder is not the one that is looked at: state outlives this process.
    let bench = Bench { engine, state: tempfile::tempdir().unwrap() };
    if !registers {
        let sid = originate(&bench);
        bench.wait(&sid, &["in_progress"]);
        std::fs::write(Path::new(&folder).join("written"), &sid).unwrap();
        std::fs::rename(Path::new(&folder).join("written"), Path::new(&folder).join(SID)).unwrap();
    }
    std::thread::sleep(10 * LIMIT);
}

/// Killed when this is dropped, at the latest.
struct Doomed(Child);

impl Doomed {
    fn start(folder: &Path, far: u16, own: u16, registers: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["faults::alone", "--exact", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder).env(PORT, far.to_string()).env(OWN_PORT, own.to_string());
        if registers {
            command.env(REGISTERS, "1");
        }
        Self(command.stdout(std::process::Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // SIGKILL; it may have died by itself, which the test then notices.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_engine_is_killed_in_a_call() {
    case(async || {
        let (far, own_port, folder) = (Far::start("is_left", &[]).await, free_port(), tempfile::tempdir().unwrap());
        let doomed = Doomed::start(folder.path(), far.port, own_port, false);
        let file = folder.path().join(SID);
        let sid = beside(move || wait_for(|| std::fs::read_to_string(&file).ok())).await;
        drop(doomed);
        let mut config = config(&folder.path().join("state"));
        carrier(&mut config, own(far.port, own_port, false));
        let engine = clutchcall::engine::Engine::start(config).unwrap();
        let bench = Bench { engine, state: tempfile::tempdir().unwrap() };
        let (row, bench) = beside(move || (bench.row(&sid), bench)).await;
        assert_eq!(
            (&row["status"], &row["endReason"], &row["endedBy"]),
            (&json!("failed"), &json!("node_lost"), &json!("system")),
            "{row}"
        );
        // Nobody told the far end, and nobody can: what it was to be told died with the engine. Whatever it says of the call
        // is answered so that it lets go of it.
        let us = format!("127.0.0.1:{own_port}").parse().unwrap();
        assert_eq!(told(us, "BYE", ";tag=ours").await, "SIP/2.0 481 Call/Transaction Does Not Exist");
        far.played().await;
        beside(move || drop(bench)).await;
    });
}

#[test]
fn a_killed_engine_registers_again() {
    case(async || {
        let (far, own_port, folder) = (Far::start("registers", &[]).await, free_port(), tempfile::tempdir().unwrap());
        let port = far.port;
        let doomed = Doomed::start(folder.path(), port, own_port, true);
        far.played().await;
        drop(doomed);
        let far = Far::at(Transport::Udp, port, "registers", &[]).await;
        let mut config = config(&folder.path().join("state"));
        carrier(&mut config, own(port, own_port, true));
        let engine = clutchcall::engine::Engine::start(config).unwrap();
        let traffic = far.played().await;
        let contact = traffic.ours("REGISTER")[0].header("Contact");
        assert_eq!(contact, format!("<sip:trunk@127.0.0.1:{own_port}>"));
        beside(move || drop(engine)).await;
    });
}

/// Every call of an engine that ends by itself is hung up, those that ring included, and the record is complete.
#[test]
fn an_engine_ends_under_calls() {
    case(async || {
        let (answers, rings) = (Far::start("our_bye", &[]).await, Far::start("rings", &[]).await);
        let (trunk, second) = (towards(Transport::Udp, answers.port), towards(Transport::Udp, rings.port));
        let bench = Bench::with(|config| {
            carrier(config, SipTrunk { rtp_ports: 23_400..=23_499, ..trunk });
            let sip = TrunkKind::Sip(Box::new(SipTrunk { rtp_ports: 23_500..=23_599, ..second }));
            config.trunks.insert("other".to_owned(), Trunk { kind: sip, channel_limit: 2, ..Trunk::default() });
        });
        let rows = beside(move || {
            let body = json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "other"});
            let ringing = bench.post("voice.calls.originate", &body).data()["sid"].as_str().unwrap().to_owned();
            let answered = originate(&bench);
            bench.wait(&answered, &["in_progress"]);
            bench.wait(&ringing, &["ringing"]);
            let Bench { engine, state } = bench;
            engine.shutdown();
            // Their records are read by another one.
            let bench = Bench::at(state, |_| {});
            (bench.row(&answered), bench.row(&ringing))
        })
        .await;
        let text = |row: &serde_json::Value| {
            ["status", "endReason", "endedBy"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(text(&rows.0), ["completed", "server_shutdown", "system"].map(str::to_owned), "{rows:?}");
        assert_eq!(text(&rows.1), ["failed", "server_shutdown", "system"].map(str::to_owned), "{rows:?}");
        // What its line was like is said last, and is there, too.
        assert_eq!(rows.0["rtp"]["codec"], "PCMU", "{rows:?}");
        answers.played().await.our("BYE");
        rings.played().await.our("CANCEL");
    });
}
