//! The floor: what it costs to carry audio frames over QUIC with nothing of clutchcall in between. Two processes, one core
//! each, `n` channels with one 160-byte frame per 20 ms in each direction, as `docs/performance.md` tells.
//!
//! ```text
//! cargo bench --bench floor                                  # a look, under a minute
//! cargo bench --bench floor -- --full --rounds 5             # the tables of docs/performance.md
//! cargo bench --bench floor -- --options --rounds 5          # and what each option changes
//! cargo bench --bench floor -- --case loop:300:1:segments,lull=1000 --case quinn:300:1 --secs 4
//! ```
//!
//! A case is `mode:channels:channels per connection:options` (`options.rs`). Modes: `quinn` (its tasks on tokio
//! `current_thread`), `loop` (quinn-proto in one loop of our own), `udp` (no QUIC at all). Rounds run A-B-A-B.

mod child;
mod load;
mod options;
mod own_loop;
mod pair;
mod quinn_tasks;
mod raw_udp;
#[path = "../support/mod.rs"]
mod support;
mod table;

use child::Mode;
use options::Options;

#[global_allocator]
static ALLOCATOR: support::alloc::Counting = support::alloc::Counting(std::alloc::System);

const LOOK: &[&str] =
    &["udp:100:1:", "quinn:100:1:", "loop:100:1:segments,arena", "quinn:1024:32:", "loop:1024:32:mmsg,arena"];

/// What is changed one at a time, on top of `quinn` and of the loop; `docs/performance.md` has the outcome.
const OPTIONS: &[&str] = &[
    "quinn:300:1:",
    "quinn:300:1:ack10",
    "quinn:300:1:nomtud",
    "quinn:300:1:wide",
    "quinn:300:1:streams",
    "quinn:600:1:",
    "quinn:600:1:smallbuf",
    "loop:600:1:segments,arena",
    "loop:600:1:segments,arena,smallbuf",
    "loop:300:1:",
    "loop:300:1:mmsg",
    "loop:300:1:mmsg,arena",
    "loop:300:1:mmsg,arena,ack10",
    "loop:300:1:mmsg,arena,nomtud",
    "loop:300:1:mmsg,arena,wide",
    "loop:300:1:mmsg,arena,lull=500",
    "loop:300:1:mmsg,arena,lull=1000",
    "loop:300:1:segments,arena",
    "loop:300:1:segments,arena,lull=1000",
    "loop:300:1:segments,arena,streams",
    "quinn:1024:32:nogso",
    "loop:1024:32:mmsg,arena",
    "loop:1024:32:mmsg,arena,nogso",
    "loop:1024:32:mmsg,arena,ack10",
    "loop:1024:32:mmsg,arena,lull=5000",
    "loop:1024:32:mmsg,arena,streams",
    "loop:1024:32:mmsg,arena,streams,together",
];

/// Every mode at every size: links of one channel, and links of 32.
fn full() -> Vec<String> {
    let mut cases = Vec::new();
    for channels in [1, 100, 300, 600] {
        for case in ["udp:N:1:", "quinn:N:1:", "loop:N:1:mmsg,arena", "loop:N:1:segments,arena"] {
            cases.push(case.replace('N', &channels.to_string()));
        }
    }
    for channels in [320, 1024, 2048] {
        let layouts = ["quinn:N:32:", "loop:N:32:mmsg,arena", "quinn:N:32:together", "loop:N:32:mmsg,arena,together"];
        for case in ["udp:N:1:"].iter().chain(&layouts) {
            cases.push(case.replace('N', &channels.to_string()));
        }
    }
    cases
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    mode: Mode,
    channels: usize,
    per_connection: usize,
    options: String,
}

impl Case {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(4, ':');
        let mode = match parts.next() {
            Some("quinn") => Mode::Quinn,
            Some("loop") => Mode::Loop,
            Some("udp") => Mode::Udp,
            _ => return Err(format!("{text}: a case begins with quinn, loop or udp")),
        };
        let mut number = || {
            let number = parts.next().and_then(|part| part.parse().ok()).filter(|number| *number > 0);
            number.ok_or_else(|| format!("{text}: expected mode:channels:per connection:options"))
        };
        let (channels, per_connection) = (number()?, number()?);
        let options = parts.next().unwrap_or_default().to_owned();
        Options::parse(&options)?;
        Ok(Self { mode, channels, per_connection, options })
    }
}

struct Plan {
    cases: Vec<Case>,
    rounds: usize,
    secs: f64,
}

impl Plan {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self { cases: Vec::new(), rounds: 3, secs: 1.5 };

        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--bench" => {}
                "--full" => (plan.cases, plan.secs) = (all(full().iter().map(String::as_str))?, 3.0),
                "--options" => (plan.cases, plan.secs) = (all(OPTIONS.iter().copied())?, 3.0),
                "--case" => plan.cases.push(Case::parse(&value()?)?),
                "--rounds" => plan.rounds = value()?.parse().map_err(|_| "--rounds wants a number".to_owned())?,
                "--secs" => plan.secs = value()?.parse().map_err(|_| "--secs wants a number".to_owned())?,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        if plan.cases.is_empty() {
            plan.cases = all(LOOK.iter().copied())?;
        }
        Ok(plan)
    }
}

fn all<'a>(cases: impl Iterator<Item = &'a str>) -> Result<Vec<Case>, String> {
    cases.map(Case::parse).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some(pair::END_OF_A_PAIR) {
        let job = child::take_job()?;
        let report = match job.mode {
            Mode::Quinn => quinn_tasks::run(&job),
            Mode::Loop => own_loop::run(&job),
            Mode::Udp => raw_udp::run(&job),
        }?;
        return Ok(child::say(&report)?);
    }
    let plan = Plan::parse(std::env::args().skip(1))?;
    let mut rows: Vec<_> = plan.cases.iter().map(|case| (case.clone(), Vec::new())).collect();
    for _ in 0..plan.rounds {
        for (case, outcomes) in &mut rows {
            let outcome = pair::run(case, plan.secs)?;
            eprintln!("{}", table::line(case, &outcome));
            outcomes.push(outcome);
        }
    }
    table::print(&rows);
    Ok(())
}
