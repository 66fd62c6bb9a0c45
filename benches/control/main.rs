//! What a call costs the control plane: originates through HTTP, each with its record durable before the answer, beside a bare axum handler that
//! writes the same row with the same `synchronous` into the same tables.
//!
//! ```text
//! cargo bench --bench control                                   # the table of docs/performance.md, about a minute
//! cargo bench --bench control -- --users 1 16 --secs 1 --rounds 1
//! ```
//!
//! Users are threads of this process with a connection of their own each, who ask again as soon as they are answered. Rounds run
//! A-B-A-B. The engine's call goes on behind the answer: it is dialled, refused as busy and its record written again, which is in the
//! figure. The handler commits each row by itself, as one writes it first; the engine's writer commits what waits together.

mod bare;
mod user;

use std::path::Path;
use std::time::Duration;

use clutchcall::engine::config::ApiKey;
use clutchcall::engine::{Config, Engine};

const KEY: &str = "tqs_live_of_the_bench_and_of_nobody_else";

struct Plan {
    users: Vec<usize>,
    rounds: usize,
    secs: f64,
}

impl Plan {
    /// `cargo bench` adds `--bench`.
    fn of(arguments: impl Iterator<Item = String>) -> Self {
        let mut plan = Self { users: vec![1, 16, 64], rounds: 3, secs: 2.0 };
        let mut option = String::new();
        for word in arguments {
            if word.starts_with("--") {
                if word == "--users" {
                    plan.users.clear();
                }
                option = word;
                continue;
            }
            let number: f64 = word.parse().unwrap_or_else(|_| panic!("{option} {word}: write a number"));
            match option.as_str() {
                "--users" => plan.users.push(number as usize),
                "--rounds" => plan.rounds = number as usize,
                "--secs" => plan.secs = number,
                _ => panic!("{option} is no option: --users, --rounds, --secs"),
            }
        }
        plan
    }
}

fn engine(state: &Path) -> Engine {
    let mut config = Config::dev(state);
    config.keys.push(ApiKey::from_text("org_dev", vec!["voice:*".to_owned()], KEY));
    let trunk = config.trunks.get_mut("trunk_main").expect("the development engine has it");
    (trunk.channel_limit, trunk.max_cps) = (100_000, 10_000_000);
    let limits = &mut config.limits;
    (limits.calls, limits.requests_per_s, limits.request_burst) = (100_000, 10_000_000, 10_000_000);
    Engine::start(config).expect("an engine starts in a fresh folder")
}

/// The best round, and the middle one in brackets.
fn row(what: &str, users: usize, mut rounds: Vec<user::Round>) {
    rounds.sort_by(|a, b| b.per_s.total_cmp(&a.per_s));
    let (best, middle) = (&rounds[0], &rounds[rounds.len() / 2]);
    println!(
        "| {what} | {users} | {:.0} ({:.0}) | {:.2} ({:.2}) | {:.2} ({:.2}) |",
        best.per_s,
        middle.per_s,
        best.p50.as_secs_f64() * 1e3,
        middle.p50.as_secs_f64() * 1e3,
        best.p99.as_secs_f64() * 1e3,
        middle.p99.as_secs_f64() * 1e3
    );
}

fn main() {
    let plan = Plan::of(std::env::args().skip(1));
    // Beside the build: a folder in memory would make a sync cost nothing.
    let place = env!("CARGO_TARGET_TMPDIR");
    let folder = tempfile::tempdir_in(place).expect("the build's folder is writable");
    let (engine, bare) = (engine(&folder.path().join("engine")), bare::Server::start(folder.path()));
    let engine_at = engine.base_url().trim_start_matches("http://").to_owned();
    let secs = Duration::from_secs_f64(plan.secs);
    println!("records in {place}; {} rounds of {:.1} s each\n", plan.rounds, plan.secs);
    println!("| what | users | originates per s, best (median) | p50 ms | p99 ms |\n|---|---|---|---|---|");
    for users in plan.users {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            ours.push(user::round(&engine_at, users, secs));
            theirs.push(user::round(bare.address(), users, secs));
        }
        row("clutchcall", users, ours);
        row("axum, a commit each", users, theirs);
    }
}
