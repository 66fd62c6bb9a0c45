//! What a relay is told wherever it runs, in an engine (`[relay]`) or by itself ([`Alone`](super::Alone)): shards, bounds, and the
//! relay that it is an edge of.

use std::path::Path;
use std::time::Duration;

use super::Trust;
use super::parse;
use super::table::Table;
use crate::moqt::relay::{CacheLimits, Limits};
use crate::relay::{Admission, MOST_SHARDS, UpstreamToken};
use url::Url;

/// The part of a relay's settings that does not depend on who runs it.
#[derive(Clone, Debug)]
pub struct Relaying {
    /// Threads with a UDP port each.
    pub shards: usize,
    /// Of one stranger's session, and of his token over all his sessions.
    pub limits: Limits,
    /// What a shard keeps for FETCH.
    pub cache: CacheLimits,
    /// Of all who come.
    pub admission: Admission,
    /// The relay that this one is an edge of.
    pub upstream: Option<Upstream>,
}

/// Where the other relay is, whom to trust there, and as whom to come.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub url: Url,
    pub trust: Trust,
    pub token: Option<UpstreamToken>,
}

impl Default for Relaying {
    fn default() -> Self {
        let (limits, cache, admission) = (Limits::default(), CacheLimits::default(), Admission::default());
        Self { shards: 1, limits, cache, admission, upstream: None }
    }
}

impl Relaying {
    /// Takes `shards`, `[limits]` and `[upstream]` out of a relay's table.
    pub(super) fn read(table: &mut Table, base: &Path) -> Result<Self, String> {
        let shards = table.number("shards", 1, 1..=MOST_SHARDS as u64)? as usize;
        let mut bounds = table.table("limits")?;
        let cache = cache(&mut bounds)?;
        let (limits, admission) = self::bounds(bounds)?;
        let upstream = upstream(table.table("upstream")?, base)?;
        Ok(Self { shards, limits, cache, admission, upstream })
    }
}

/// Any of them 0: nothing is kept.
fn cache(table: &mut Table) -> Result<CacheLimits, String> {
    let cache = CacheLimits::default();
    let mut number = |key, default: usize, most: usize| table.number(key, default as u64, 0..=most as u64);
    Ok(CacheLimits {
        age: Duration::from_millis(number("cache_ms", cache.age.as_millis() as usize, 600_000)?),
        track_bytes: number("cache_track_bytes", cache.track_bytes, CacheLimits::MOST_TRACK_BYTES)? as usize,
        bytes: number("cache_bytes", cache.bytes, CacheLimits::MOST_BYTES)? as usize,
    })
}

fn bounds(mut table: Table) -> Result<(Limits, Admission), String> {
    let (limits, admission) = (Limits::default(), Admission::default());
    let mut count =
        |key, default: usize, most: u64| Ok::<_, String>(table.number(key, default as u64, 1..=most)? as usize);
    let limits = Limits {
        subscriptions: count("subscriptions", limits.subscriptions, 1 << 20)?,
        held: count("held", limits.held, 1 << 20)?,
        publications: count("publications", limits.publications, 1 << 20)?,
        name_bytes: count("name_bytes", limits.name_bytes, 1 << 30)?,
        listed: count("listed", limits.listed, 1 << 20)?,
        requests_per_s: count("requests_per_s", limits.requests_per_s as usize, 1 << 20)? as u32,
        requests_burst: count("requests_burst", limits.requests_burst as usize, 1 << 24)? as u32,
        backlog_bytes: count("backlog_bytes", limits.backlog_bytes, 1 << 30)?,
        session_backlog_bytes: count("session_backlog_bytes", limits.session_backlog_bytes, 1 << 32)?,
        ..limits
    };
    let admission = Admission {
        sessions: count("sessions", admission.sessions, 1 << 20)?,
        sessions_per_address: count("sessions_per_address", admission.sessions_per_address, 1 << 20)?,
        sessions_per_token: count("sessions_per_token", admission.sessions_per_token, 1 << 20)?,
        retry_from: count("handshakes_retry", admission.retry_from, 1 << 20)?,
        refuse_from: count("handshakes_refuse", admission.refuse_from, 1 << 20)?,
        ..admission
    };
    let mut time = |key, default: Duration, most_ms| {
        Ok::<_, String>(Duration::from_millis(table.number(key, default.as_millis() as u64, 0..=most_ms)?))
    };
    let rendezvous = time("rendezvous_ms", limits.rendezvous, 600_000)?;
    let backlog_age = time("backlog_ms", limits.backlog_age, 60_000)?;
    let grace = time("expiry_grace_ms", limits.expiry_grace.unwrap_or_default(), 3_600_000)?;
    let setup_timeout = time("setup_timeout_ms", admission.setup_timeout, 60_000)?;
    table.finish()?;
    let limits = Limits { rendezvous, backlog_age, expiry_grace: Some(grace), ..limits };
    Ok((limits, Admission { setup_timeout, ..admission }))
}

/// An absent table is none; one without `url` is a mistake.
fn upstream(mut table: Table, base: &Path) -> Result<Option<Upstream>, String> {
    if table.is_empty() {
        return Ok(None);
    }
    let url = parse::relay_url(&mut table, "url")?;
    let url =
        url.ok_or_else(|| format!("{} is missing: name the relay that this one is an edge of", table.at("url")))?;
    let trust = parse::trust(&mut table, base)?;
    let token = table.secret("token")?.map(|text| {
        let file = base.join(&text);
        if file.is_file() { UpstreamToken::File(file) } else { UpstreamToken::Text(text) }
    });
    if let Some(UpstreamToken::Text(text)) = &token
        && crate::token::peek(text).is_err()
    {
        return Err(format!(
            "{} is neither a token nor a file: `clutchcall tokens mint` prints one",
            table.at("token")
        ));
    }
    table.finish()?;
    Ok(Some(Upstream { url, trust, token }))
}
