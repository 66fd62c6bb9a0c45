//! The wall clock is set in mid-call, an hour on or back: nothing of a call goes by it but where its record begins.
//!
//! It is the clock of one process: this test program again, with `tests/data/clock.c` before its C library.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::common::wait_for;
use crate::engine::{bench_with, beside, originate};
use crate::phones::Phones;
use crate::rig::{Caller, Far, LIMIT, Wishes, case, towards};

/// Seconds as eight bytes, which the C library's stand-in reads.
const FILE: &str = "CLUTCHCALL_TEST_CLOCK";
const HOUR_S: i64 = 3600;
/// Both ways.
const STEPS_S: [i64; 2] = [HOUR_S, -HOUR_S];
/// A session's 90 s are 3.6.
const T1: Duration = Duration::from_millis(20);

/// From now on the wall clock of this process goes by so much. Whoever has read it before sees the step.
fn step(by_s: i64) {
    let (wall, clock) = (SystemTime::now(), Instant::now());
    let file = std::env::var(FILE).expect("the process has a clock of its own");
    // In place: it is mapped.
    let before = i64::from_ne_bytes(std::fs::read(&file).unwrap().try_into().unwrap());
    let mut file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::io::Write::write_all(&mut file, &(before + by_s).to_ne_bytes()).unwrap();
    let expected = (wall + clock.elapsed()).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 + by_s;
    assert!((unix_s() - expected).abs() < 60, "the clock was set");
}

fn unix_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn built(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/clock.c"), folder.join("clock.so"));
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(cc.expect("a C compiler, as libopus needs one").success());
    library
}

#[test]
fn the_wall_clock_is_set_in_mid_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("step");
    std::fs::write(&file, 0i64.to_ne_bytes()).unwrap();
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["clock::alone", "--ignored", "--nocapture", "--test-threads", "1"]);
    alone.env("LD_PRELOAD", built(folder.path())).env(FILE, &file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("3 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Between two stamps of a row, of one day.
fn apart_s(row: &Value, from: &str, to: &str) -> f64 {
    let seconds = |name: &str| {
        let stamp = row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row}"));
        let time = stamp.split_once('T').unwrap().1.trim_end_matches('Z');
        time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
    };
    (seconds(to) - seconds(from)).rem_euclid(86_400.0)
}

/// Audio and record of a whole engine's call; and the next call begins by the new clock.
#[test]
#[ignore = "in a process with a clock of its own: the_wall_clock_is_set_in_mid_call"]
fn alone_a_call_is_heard_as_before() {
    case(async || {
        for (nth, by_s) in [80, 81].into_iter().zip(STEPS_S) {
            let mut phones = Phones::new();
            let keys = [("calls", "2"), ("far_port", &*phones.port()), ("ptime", "20")];
            let far = Far::start("phone", &keys).await;
            let bench = bench_with(&far, nth, |_| {});
            let (row, next) = beside(move || {
                let sid = originate(&bench);
                bench.wait(&sid, &["in_progress"]);
                phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() >= 25);
                step(by_s);
                phones.talk_until(|lines| lines[0].heard.len() >= 100);
                bench.hangup(&sid).data();
                let row = wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()));
                let sid = originate(&bench);
                bench.wait(&sid, &["in_progress"]);
                bench.hangup(&sid).data();
                (row, bench.ended(&sid))
            })
            .await;
            assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
            assert_eq!(row["rtp"]["packetsLost"], 0, "{row}");
            // As long as it was, and not an hour longer or less.
            let lasted_s = apart_s(&row, "answeredAt", "endedAt");
            assert!((1.0..60.0).contains(&lasted_s), "{row}");
            let begun = [&row, &next].map(|row| row["startedAt"].as_str().unwrap());
            assert_eq!(begun[0] < begun[1], by_s > 0, "the next one is by the new clock: {begun:?}");
            far.played().await;
        }
    });
}

/// Sessions are refreshed in their time, and end in it where nobody refreshes them.
#[test]
#[ignore = "in a process with a clock of its own: the_wall_clock_is_set_in_mid_call"]
fn alone_sessions_keep_their_time() {
    case(async || {
        for by_s in STEPS_S {
            for (scenario, end) in [("takes_updates", EndReason::Normal), ("refreshes_once", EndReason::SessionExpired)]
            {
                let far = Far::start(scenario, &[]).await;
                let mut caller = Caller::at(T1, towards(Transport::Udp, far.port)).await;
                caller.place(20);
                caller.until(Status::InProgress).await;
                step(by_s);
                caller.settled().await;
                let record = caller.record();
                assert_eq!((record.status, record.end_reason), (Status::Completed, Some(end)), "{scenario}");
                let lasted_ms = record.ended_ms.unwrap() - record.answered_ms.unwrap();
                assert!(lasted_ms < LIMIT.as_millis() as u64, "{record:?}");
                far.played().await;
            }
        }
    });
}

/// What a call may last, and how long it may ring.
#[test]
#[ignore = "in a process with a clock of its own: the_wall_clock_is_set_in_mid_call"]
fn alone_limits_keep_their_time() {
    case(async || {
        for by_s in STEPS_S {
            let far = Far::start("our_bye", &[]).await;
            let wishes = Wishes { max_duration: Some(Duration::from_secs(1)), ..Wishes::default() };
            let mut caller = Caller::with(&far, wishes).await;
            caller.until(Status::InProgress).await;
            step(by_s);
            caller.settled().await;
            assert_eq!(caller.record().end_reason, Some(EndReason::MaxDuration));
            far.played().await;

            let far = Far::start("rings", &[]).await;
            let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
            caller.until(Status::Ringing).await;
            step(by_s);
            caller.settled().await;
            assert_eq!(caller.record().end_reason, Some(EndReason::RingTimeout));
            far.played().await;
        }
    });
}
