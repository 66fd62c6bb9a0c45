//! Per-frame figures of both ends together, as lines while it runs and as a table at the end.

use crate::Case;
use crate::pair::Outcome;

/// What one run cost per delivered frame.
#[derive(Clone, Copy, Debug)]
struct Figures {
    cpu_us: f64,
    packets: f64,
    syscalls: f64,
    sleeps: f64,
    allocations: f64,
    lost_percent: f64,
    p50_us: f64,
    p99_us: f64,
    others: f64,
}

/// A column: its heading, and where its figure stands.
type Field = (&'static str, fn(&Figures) -> f64);

const FIELDS: [Field; 8] = [
    ("packets", |figures| figures.packets),
    ("syscalls", |figures| figures.syscalls),
    ("wake-ups", |figures| figures.sleeps),
    ("allocations", |figures| figures.allocations),
    ("lost %", |figures| figures.lost_percent),
    ("p50 µs", |figures| figures.p50_us),
    ("p99 µs", |figures| figures.p99_us),
    ("others, cores", |figures| figures.others),
];

impl Figures {
    fn of(outcome: &Outcome) -> Self {
        let Outcome { near, far, others } = outcome;
        let (sent, heard) = ((near.sent + far.sent) as f64, (near.heard + far.heard) as f64);
        let each = |count: u64| count as f64 / heard.max(1.0);
        Self {
            cpu_us: each(near.user_us + near.system_us + far.user_us + far.system_us),
            packets: each(near.packets + far.packets),
            syscalls: each(near.syscalls + far.syscalls),
            sleeps: each(near.sleeps + far.sleeps),
            allocations: each(near.allocations + far.allocations),
            lost_percent: 100.0 * (1.0 - heard / sent.max(1.0)),
            p50_us: near.p50_us,
            p99_us: near.p99_us,
            others: *others,
        }
    }
}

fn name(case: &Case) -> String {
    format!("{:?} | {} | {} | {}", case.mode, case.channels, case.per_connection, case.options).to_lowercase()
}

pub(crate) fn line(case: &Case, outcome: &Outcome) -> String {
    let figures = Figures::of(outcome);
    let rest: Vec<_> = FIELDS.iter().map(|(label, of)| format!("{label} {:.2}", of(&figures))).collect();
    format!("{:<40} {:6.2} µs/frame, {}", name(case), figures.cpu_us, rest.join(", "))
}

/// The least CPU of all rounds (other work on the machine only adds), and the median of everything, loss at its worst.
pub(crate) fn print(rows: &[(Case, Vec<Outcome>)]) {
    println!(
        "| mode | channels | per connection | options | CPU µs/frame, least (median) | {} |",
        FIELDS.map(|(label, _)| label).join(" | ")
    );
    println!("|{}", "---|".repeat(5 + FIELDS.len()));
    for (case, outcomes) in rows {
        let rounds: Vec<_> = outcomes.iter().map(Figures::of).collect();
        let cpu = sorted(&rounds, |figures| figures.cpu_us);
        print!("| {} | {:.2} ({:.2})", name(case), cpu[0], cpu[cpu.len() / 2]);
        for (label, of) in FIELDS {
            let values = sorted(&rounds, of);
            let shown = if label == "lost %" { values[values.len() - 1] } else { values[values.len() / 2] };
            print!(" | {shown:.2}");
        }
        println!(" |");
    }
}

fn sorted(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> Vec<f64> {
    let mut values: Vec<_> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}
