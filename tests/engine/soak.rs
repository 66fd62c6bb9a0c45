//! What calls leave behind when they are over: nothing. `make soak` asks the same of the wheel, ten thousand times.
//!
//! Threads, files and memory are the process's, so the calls are placed in a process of their own: this test program again.

use std::process::Command;
use std::time::{Duration, Instant};

use clutchcall::client::{Arguments, Client, Options, Originate};

use crate::bridges::get;
use crate::common::{Bench, KEY};

const WARM_UP: usize = 1000;
const CALLS: usize = 1000;
/// By how much the memory may grow behind the warm-up: the calls of two seconds that are as fast as can be are in it, and not all
/// that is bounded is full yet. It finds what grows without end and fast.
const GROWTH: f64 = 0.5;
/// Users who call at the same time.
const USERS: usize = 4;

/// Looks in a row that must agree.
const STEADY: usize = 20;

/// What a process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    threads: u64,
    files: usize,
    /// Of the engine's control thread, the connection that asks included.
    tasks: u64,
}

fn held(bench: &Bench) -> Held {
    Held {
        threads: status("Threads:"),
        files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        tasks: figure(bench, "clutchcall_tasks"),
    }
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn figure(bench: &Bench, name: &str) -> u64 {
    let text = get(bench.engine.base_url(), "/metrics");
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Originate and hang up, so many times; what the phone does meanwhile is chance. The client's connections go with it.
fn calls(bench: &Bench, count: usize) {
    let arguments = Arguments {
        base_url: Some(bench.engine.base_url().to_owned()),
        api_key: Some(KEY.to_owned()),
        org_id: Some("org_a".to_owned()),
        ..Arguments::default()
    };
    let client = &Client::new(Options::find(arguments).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for user in 0..USERS {
            scope.spawn(move || {
                for n in 0..count / USERS {
                    let to = if (n + user) % 2 == 0 { "+15550009011" } else { "+15550009000" };
                    let call = Originate {
                        to: to.to_owned(),
                        from: "+15558675309".to_owned(),
                        trunk_id: "trunk_main".to_owned(),
                        ..Originate::default()
                    };
                    let row = client.originate(call, &mut || false).unwrap().claim();
                    client.hangup(&row.sid, &mut || false).unwrap();
                }
            });
        }
    });
}

/// Waits until no call lives and what each of them started has gone.
fn settled(bench: &Bench, tasks: u64, like: Option<&Held>) -> Held {
    let begun = Instant::now();
    // The client's own ends of its connections close a moment later: what is seen for so long stays.
    let (mut last, mut looks) = (None, 0);
    loop {
        let held = held(bench);
        looks = if last.as_ref() == Some(&held) { looks + 1 } else { 0 };
        let is_over = figure(bench, "clutchcall_calls_active") == 0 && figure(bench, "clutchcall_store_waiting") == 0;
        if is_over && held.tasks == tasks && looks >= STEADY && like.is_none_or(|like| *like == held) {
            return held;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{held:?} instead of {like:?} and {tasks} tasks");
        last = Some(held);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "in a process of its own: calls_leave_nothing_behind"]
fn alone() {
    let bench = Bench::new();
    let tasks = figure(&bench, "clutchcall_tasks");
    calls(&bench, WARM_UP);
    let before = settled(&bench, tasks, None);
    let rss_kib = status("VmRSS:");
    let begun = Instant::now();
    calls(&bench, CALLS);
    let took = begun.elapsed();
    settled(&bench, tasks, Some(&before));
    let after_kib = status("VmRSS:");
    let growth = (after_kib as f64 - rss_kib as f64) / rss_kib as f64;
    println!(
        "{CALLS} calls in {took:.1?}: {before:?} before and after, {rss_kib} KiB then {after_kib} KiB ({:+.2} %)",
        100.0 * growth
    );
    assert!(growth <= GROWTH, "memory grew by {growth}");
    assert_eq!(figure(&bench, "clutchcall_originates_total"), (WARM_UP + CALLS) as u64);
}

#[test]
fn calls_leave_nothing_behind() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["soak::alone", "--exact", "--ignored", "--nocapture"]);
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&done.stderr));
}
