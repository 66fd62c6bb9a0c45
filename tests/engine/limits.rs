//! The limits of the API, each until it is reached: heads, pauses, bodies, connections, open files.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Answer, Bench, KEY, ask, call, wait_for};

const POST: &str = "POST /api/trpc/voice.calls.hangup HTTP/1.1\r\nhost: x\r\n";

/// Short enough for a test, and only as long as the one that is looked at has to be.
fn bench(change: impl FnOnce(&mut clutchcall::engine::config::Limits)) -> Bench {
    Bench::with(|config| change(&mut config.limits))
}

fn count(bench: &Bench, limit: &str) -> u64 {
    figure(bench, &format!("clutchcall_api_limit_total{{limit=\"{limit}\"}}"))
}

fn figure(bench: &Bench, name: &str) -> u64 {
    let text = bench.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.trim().parse().unwrap()
}

/// What comes until the engine closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answered(stream: &mut TcpStream) {
    assert_eq!(ask(stream, "/healthz").status, 200);
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let bench = bench(|limits| limits.head = Duration::from_millis(200));
    let mut silent = bench.connect();
    assert_eq!(rest(&mut silent), "", "not a byte");
    let mut slow = bench.connect();
    slow.write_all(POST.as_bytes()).unwrap();
    let mut reader = slow.try_clone().unwrap();
    let ended = std::thread::spawn(move || rest(&mut reader));
    // A header now and then: the time does not begin anew. Writing into a connection that is closed fails in the end.
    wait_for(|| slow.write_all(b"x-slow: loris\r\n").is_err().then_some(()));
    assert_eq!(ended.join().unwrap(), "");
    assert_eq!(count(&bench, "head_ms"), 2);
    // A kept connection has as long from the first byte on.
    let mut kept = bench.connect();
    answered(&mut kept);
    kept.write_all(POST.as_bytes()).unwrap();
    assert_eq!(rest(&mut kept), "");
    assert_eq!((count(&bench, "head_ms"), count(&bench, "idle_ms")), (3, 0));
}

#[test]
fn a_pause_that_is_too_long_ends_a_connection() {
    let bench = bench(|limits| limits.idle = Duration::from_millis(200));
    let mut kept = bench.connect();
    answered(&mut kept);
    answered(&mut kept);
    assert_eq!(rest(&mut kept), "");
    assert_eq!((count(&bench, "idle_ms"), count(&bench, "head_ms")), (1, 0));
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let bench = bench(|limits| limits.idle = Duration::from_millis(200));
    let stalled = |metrics: &str| !metrics.contains("clutchcall_api_limit_total{limit=\"stalled\"} 0\n");
    let _unread = bench.unread(KEY, stalled);
    wait_for(|| bench.metrics().contains("clutchcall_event_streams 0\n").then_some(()));
    assert_eq!((count(&bench, "stalled"), count(&bench, "idle_ms")), (1, 0));
}

#[test]
fn a_body_that_does_not_come_is_told_so() {
    let bench = bench(|limits| limits.body = Duration::from_millis(200));
    let mut slow = bench.connect();
    let head = format!("{POST}authorization: Bearer {KEY}\r\ncontent-length: 100\r\n\r\n{{\"sid\":");
    slow.write_all(head.as_bytes()).unwrap();
    let message = Answer::parse(&rest(&mut slow)).error(408, "TIMEOUT");
    assert!(message.contains("200 ms"), "{message}");
    assert_eq!(count(&bench, "body_ms"), 1);
}

#[test]
fn an_input_that_is_too_large_is_refused_before_it_is_read() {
    let bench = bench(|limits| limits.body_bytes = 10_000);
    let fits = format!("{{\"sid\":\"CA1\",\"x\":\"{}\"}}", "y".repeat(9_000));
    bench.post_as(KEY, "voice.calls.hangup", &fits, "").error(404, "NOT_FOUND");
    // Its length alone says so: the body never comes.
    let mut told = bench.connect();
    let head = format!("{POST}authorization: Bearer {KEY}\r\ncontent-length: 10001\r\n\r\n");
    told.write_all(head.as_bytes()).unwrap();
    assert!(Answer::parse(&rest(&mut told)).error(413, "PAYLOAD_TOO_LARGE").contains("10000 bytes"));
    let large = serde_json::json!({"sid": "x".repeat(10_000)});
    bench.get("voice.calls.get", &large).error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(count(&bench, "body_bytes"), 2);
}

/// Of the engine, of a trunk, of a trunk in a second; that of a key is `answers`', that of event streams `events`'.
#[test]
fn each_limit_on_calls_is_named() {
    type Change = fn(&mut clutchcall::engine::Config);
    let table: [(&str, Change); 3] = [
        ("limits.calls", |config| config.limits.calls = 1),
        ("channel_limit", |config| config.trunks.get_mut("trunk_main").unwrap().channel_limit = 1),
        ("max_cps", |config| config.trunks.get_mut("trunk_main").unwrap().max_cps = 1),
    ];
    for (limit, change) in table {
        let bench = Bench::with(change);
        bench.originate("+15550009000");
        // A second may pass between two requests on a busy machine.
        let refused = wait_for(|| {
            Some(bench.post("voice.calls.originate", &call("+15550009000"))).filter(|answer| answer.status != 200)
        });
        assert!(refused.error(429, "TOO_MANY_REQUESTS").contains(limit), "{refused:?}");
        assert!(refused.head.contains("retry-after: "), "{refused:?}");
    }
}

#[test]
fn connections_are_bounded_together_and_by_address() {
    let full = bench(|limits| limits.connections = 2);
    let mut kept = [full.connect(), full.connect()];
    kept.iter_mut().for_each(answered);
    let mut waiting = full.connect();
    waiting.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    drop(kept);
    let metrics = rest(&mut waiting);
    // Twice where the second of the two is still open when the third one comes in.
    let counted = |times: u32| metrics.contains(&format!("limit=\"connections\"}} {times}\n"));
    assert!(counted(1) || counted(2), "{metrics}");

    let bench = bench(|limits| limits.connections_per_address = 2);
    let mut kept = [bench.connect(), bench.connect()];
    kept.iter_mut().for_each(answered);
    assert_eq!(rest(&mut bench.connect()), "", "a third one is closed");
    drop(kept);
    wait_for(|| {
        let mut stream = bench.connect();
        let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        (asked.is_ok() && rest(&mut stream).contains("200 OK")).then_some(())
    });
    assert!(count(&bench, "connections_per_address") >= 1);
}

/// This test program again, in a process whose open files are bounded.
fn child(test: &str, files: &str) -> String {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" {test} --exact --ignored --nocapture"));
    command.arg(std::env::current_exe().unwrap());
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}{errors}");
    text
}

#[test]
#[ignore = "in a process of its own: when_open_files_run_out_the_engine_goes_on"]
fn without_files() {
    let bench = Bench::new();
    let sid = bench.originate("+15550009000");
    let address = bench.engine.base_url().strip_prefix("http://").unwrap().to_owned();
    let mut watcher = bench.connect();
    answered(&mut watcher);
    // Client and engine share the limit. What is kept back until nothing is left gives a connection that nobody can accept.
    let spare = std::fs::File::open("/dev/null").unwrap();
    let mut open = Vec::new();
    while let Ok(stream) = TcpStream::connect(&address) {
        open.push(stream);
    }
    assert!(open.len() > 10, "{}", open.len());
    drop(spare);
    open.extend(TcpStream::connect(&address));
    wait_for(|| {
        let text = ask(&mut watcher, "/metrics").body;
        let failed = text.lines().find_map(|line| line.strip_prefix("clutchcall_api_accept_failed_total "))?;
        (failed != "0").then_some(())
    });
    drop(open);
    assert_eq!(bench.row(&sid)["status"], "ringing", "the call of before goes on");
    let another = bench.originate("+15550009000");
    bench.hangup(&another).data();
}

#[test]
fn when_open_files_run_out_the_engine_goes_on() {
    child("limits::without_files", "160");
}

/// The far ends of [`idle`], until its input ends: a process may open fewer files than both ends take.
#[test]
#[ignore = "in a process of its own: idle"]
fn far_ends() {
    let address = std::env::var("CLUTCHCALL_IDLE_ADDRESS").unwrap();
    let connected = |i: usize| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(crate::common::LIMIT)).unwrap();
        // Half of them have asked something, the others never say a word.
        if i.is_multiple_of(2) {
            answered(&mut stream);
        }
        stream
    };
    let open: Vec<TcpStream> = (0..IDLE).map(connected).collect();
    println!("open: {}", open.len());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

const IDLE: usize = 10_000;

#[test]
#[ignore = "in a process of its own: idle_connections_cost_little"]
fn idle() {
    let bench = bench(|limits| {
        limits.connections = IDLE + 100;
        (limits.head, limits.idle) = (Duration::from_secs(600), Duration::from_secs(600));
    });
    let (threads, before_kib) = (status("Threads:"), status("VmRSS:"));
    let mut far = Command::new(std::env::current_exe().unwrap())
        .args(["limits::far_ends", "--exact", "--ignored", "--nocapture"])
        .env("CLUTCHCALL_IDLE_ADDRESS", bench.engine.base_url().strip_prefix("http://").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its output stays open until its end: libtest has a last word.
    let mut said = std::io::BufReader::new(far.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(said.find(|line| line.starts_with("open: ")), Some(format!("open: {IDLE}")));
    let connections = || figure(&bench, "clutchcall_api_connections ");
    wait_for(|| (connections() > IDLE as u64).then_some(()));
    let sid = bench.originate("+15550001111");
    bench.wait(&sid, &["in_progress"]);
    bench.hangup(&sid).data();
    let each_kib = (status("VmRSS:") - before_kib) as f64 / IDLE as f64;
    println!("{IDLE} idle connections: {each_kib:.1} KiB each");
    assert_eq!(status("Threads:"), threads);
    assert!(each_kib < 32.0, "{each_kib} KiB each");
    drop(far.stdin.take());
    assert!(far.wait().unwrap().success());
    wait_for(|| (connections() == 1).then_some(()));
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn idle_connections_cost_little() {
    child("limits::idle", "16384");
}
