//! The client of the interop runner's contract: short conversations with anybody's relay, each with a verdict.
//!
//! | File | Holds |
//! |---|---|
//! | `cases` | the cases by name: each a list of steps, with the limit of the whole |
//! | `play` | one case being played: a brain that is told events and the time, and speaks through a [`play::Stage`] |
//! | `speech` | what a publisher of a case says once somebody listens |
//! | `hearing` | what a session of a case heard, and what is wrong with it |
//! | `app` | the worker's app: a [`play::Stage`] over real links |
//!
//! It speaks to sessions, not to tracks: no reconnect, no retry, no patience with what the draft forbids. A case runs on the
//! caller's thread with a socket of its own, dials each of its sessions anew and leaves nothing behind on the relay.
//! How the verdicts are written down is the command's affair (`clutchcall interop`).

mod app;
mod cases;
mod hearing;
mod play;
mod speech;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::relay::{Relay, token};
use super::runtime::{Cancel, Runtime, bind};
use crate::error::{Error, Kind, Result};
use crate::moqt::message::Token;
use crate::moqt::{Draft, Drafts, TrackNamespace};

pub use play::End;

/// Whose relay, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    pub url: String,
    /// Sent in SETUP and with every request.
    pub token: Option<String>,
    /// Stands before every namespace of a case.
    pub prefix: Vec<Vec<u8>>,
    /// Numbers of the drafts to offer, the preferred first; empty: all that are advertised.
    pub drafts: Vec<String>,
    /// Any certificate will do.
    pub insecure: bool,
}

/// One session of a case, as its peer made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Its part: `publisher`, `subscriber`, ….
    pub role: &'static str,
    pub transport: &'static str,
    pub version: &'static str,
    /// The Destination Connection ID of its first packet, hexadecimal: by that a log of the relay is found.
    pub connection_id: String,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub end: End,
    pub took: Duration,
    pub met: Vec<Met>,
}

/// The names of the cases, in the order in which they are run.
pub fn names() -> impl Iterator<Item = &'static str> {
    cases::ALL.iter().map(|case| case.name)
}

/// Plays one case to its end. The error is one of the arguments, of this machine or of the cancel check; whatever the relay
/// does is in the report.
pub fn run(name: &str, connect: &Connect, cancel: Cancel<'_>) -> Result<Report> {
    let case = cases::ALL.iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| Error::value(format!("{name:?} is no case of ours")))?;
    let relay = Relay::new(&connect.url, &[], connect.insecure).map_err(|why| Error::value(format!("url: {why}")))?;
    let drafts = Drafts::from_numbers(&connect.drafts).map_err(|why| Error::value(format!("drafts: {why}")))?;
    let relay = relay.with_drafts(drafts);
    let tokens: Vec<Token> = connect.token.iter().map(|text| token(text)).collect();
    let prefix = TrackNamespace::new(connect.prefix.iter().cloned());
    let prefix = prefix.map_err(|error| Error::value(format!("the namespace prefix: {error}")))?;
    let run_id = format!("{:032x}", u128::from_le_bytes(super::http::random()));
    let names = play::Names::new(&prefix, case.name, &run_id);
    let names = names.map_err(|error| Error::value(format!("the namespace prefix: {error}")))?;
    let started = Instant::now();
    let dialled = tokens.clone();
    let dial =
        Runtime::shared().control()?.run(async move { Ok(relay.dial(dialled, &AtomicUsize::new(0)).await) }, cancel)?;
    let dial = match dial {
        Ok(dial) => dial,
        Err(reason) => return Ok(Report { end: End::Unreachable(reason), took: started.elapsed(), met: Vec::new() }),
    };
    let (worker, _) = bind().map_err(|why| Error::new(Kind::RelayUnreachable, format!("no socket: {why}")))?;
    let play = play::Play::new(case, names, tokens, started);
    app::run(worker, play, dial, cancel)
}

/// As the peer's ALPN or WebTransport protocol has it.
fn version(draft: Draft) -> &'static str {
    draft.alpn()
}
