//! Runs one case: two processes, each on its core, and what they have counted together.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Case;
use crate::child::{Job, Report};
use crate::support::process::monotonic_ns;

/// The argument that makes this program an end of a pair.
pub(crate) const END_OF_A_PAIR: &str = "--end-of-a-pair";
const START_IN_NS: u64 = 300_000_000;

/// Both ends of one run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) near: Report,
    pub(crate) far: Report,
    /// Cores that everything else on the machine used meanwhile.
    pub(crate) others: f64,
}

struct End {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl End {
    fn start(job: &Job) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(END_OF_A_PAIR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no pipe")?);
        let mut end = Self { process, lines };
        end.tell(&serde_json::to_string(job)?)?;
        Ok(end)
    }

    fn tell(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let pipe = self.process.stdin.as_mut().ok_or("no pipe")?;
        Ok(writeln!(pipe, "{line}")?)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T, Box<dyn Error>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(format!("an end of the pair is gone: {}", self.process.wait()?).into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It has ended by itself, or there is nothing more to hear from it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn run(case: &Case, secs: f64) -> Result<Outcome, Box<dyn Error>> {
    let minted = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let mut job = Job {
        mode: case.mode,
        channels: case.channels,
        per_connection: case.per_connection,
        secs,
        options: case.options.clone(),
        core: 1,
        certificate: minted.cert.der().to_vec(),
        key: minted.signing_key.serialize_der(),
        peer: None,
    };
    let mut far = End::start(&job)?;
    let listening: Value = far.hear()?;
    (job.core, job.peer) = (0, Some(serde_json::from_value(listening["listening"].clone())?));
    let mut near = End::start(&job)?;
    near.hear::<Value>()?;
    far.hear::<Value>()?;
    let (began, busy) = (Instant::now(), busy_secs()?);
    let start = (monotonic_ns() + START_IN_NS).to_string();
    near.tell(&start)?;
    far.tell(&start)?;
    let (near, far): (Report, Report) = (near.hear()?, far.hear()?);
    let ours = (near.user_us + near.system_us + far.user_us + far.system_us) as f64 / 1e6;
    let others = (busy_secs()? - busy - ours).max(0.0) / began.elapsed().as_secs_f64();
    Ok(Outcome { near, far, others })
}

/// Seconds of all cores that were not idle, since boot (proc(5), `/proc/stat`; in ticks of 10 ms).
fn busy_secs() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> =
        stat.lines().next().unwrap_or("").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, softirq, steal, ..] = ticks[..] else {
        return Err("/proc/stat".into());
    };
    Ok((user + nice + system + irq + softirq + steal) as f64 / 100.0)
}
