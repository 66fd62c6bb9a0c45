//! The proxy as a program: one line of JSON when it listens, then one for each line of its standard input.
//!
//! ```text
//! weather [--listen 127.0.0.1:0] [--seed 1] [--to 127.0.0.1:4443]
//! ```
//!
//! | Line | Does |
//! |---|---|
//! | `to ADDRESS:PORT` | where the server is |
//! | `there WORDS`, `back WORDS`, `both WORDS` | the weather of a direction, as `climate.rs` writes it; no words: a clear day |
//! | `cut [there|back]` | drops all, what is under way included |
//! | `heal` | passes again |
//! | `rebind [ADDRESS]` | the clients' ports (and address) towards the server change |
//! | `count` | nothing |
//!
//! Each answer holds the counters of both directions, or `{"error": "…"}`. It ends with its standard input.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use weather::{Climate, Counts, Direction, Proxy, Tally};

fn main() {
    if let Err(error) = run() {
        eprintln!("weather: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let (mut listen, mut seed, mut server) = (SocketAddr::from(([127, 0, 0, 1], 0)), 1, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--listen" => listen = address(&value)?,
            "--seed" => seed = value.parse().map_err(|_| format!("{value}: not a seed"))?,
            "--to" => server = Some(address(&value)?),
            _ => return Err(format!("{word} is not an option: --listen, --seed, --to")),
        }
    }
    let proxy = Proxy::start(listen, seed).map_err(|error| format!("{listen}: {error}"))?;
    if let Some(server) = server {
        proxy.lead_to(server).map_err(|error| error.to_string())?;
    }
    say(&format!("{{\"address\": \"{}\"}}", proxy.address()));
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        match obey(&proxy, &line) {
            Ok(counts) => say(&json(&counts)),
            Err(error) => say(&format!("{{\"error\": {error:?}}}")),
        }
    }
    Ok(())
}

fn obey(proxy: &Proxy, line: &str) -> Result<Counts, String> {
    let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let done = match verb {
        "to" => proxy.lead_to(address(rest)?),
        "there" => proxy.change(Direction::There, rest.parse()?),
        "back" => proxy.change(Direction::Back, rest.parse()?),
        "both" => {
            let climate: Climate = rest.parse()?;
            proxy.change(Direction::There, climate).and_then(|()| proxy.change(Direction::Back, climate))
        }
        "cut" => proxy.cut(direction(rest)?).map(drop),
        "heal" => proxy.heal().map(drop),
        "rebind" if rest.is_empty() => proxy.rebind(None),
        "rebind" => proxy.rebind(Some(rest.parse().map_err(|_| format!("{rest}: not an address"))?)),
        "count" => Ok(()),
        _ => return Err(format!("{verb}: not a command")),
    };
    done.and_then(|()| proxy.counts()).map_err(|error| error.to_string())
}

fn direction(text: &str) -> Result<Option<Direction>, String> {
    match text {
        "" => Ok(None),
        "there" => Ok(Some(Direction::There)),
        "back" => Ok(Some(Direction::Back)),
        _ => Err(format!("{text}: there or back")),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text}: not ADDRESS:PORT"))
}

fn json(counts: &Counts) -> String {
    let each = |tally: &Tally| {
        format!(
            "{{\"came\": {}, \"passed\": {}, \"lost\": {}, \"cut\": {}, \"overflowed\": {}, \"duplicated\": {}, \
             \"reordered\": {}, \"bytes_passed\": {}}}",
            tally.came,
            tally.passed,
            tally.lost,
            tally.cut,
            tally.overflowed,
            tally.duplicated,
            tally.reordered,
            tally.bytes_passed
        )
    };
    format!("{{\"there\": {}, \"back\": {}}}", each(&counts.there), each(&counts.back))
}

fn say(line: &str) {
    // Nobody listens any more when this fails, and then the standard input ends too.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
