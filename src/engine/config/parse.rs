//! TOML into [`Config`], table by table.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::relay::KeySources;
use crate::token::PublicKey;

use super::key::{MOST_KEY_BYTES, unhex};
use super::table::{Table, nearest};
use super::trunks::trunks;
use super::{
    Agent, AgentKind, ApiKey, Config, Dns, Host, Limits, Org, POOL, Phone, Relay, Relaying, Then, Trust, Webhooks,
};
use crate::engine::webhooks::Pace;
use crate::moqt::Drafts;
use crate::net::shown::{is_doubtful, shown};

/// Fields of an id that the API shows and accepts.
const ID: &str = "letters, digits, - and _, at most 64";
/// What one session may ask of the engine's own relay (`moqt::relay::Limits::engine`), and each audio thread has one.
const CALLS_PER_AUDIO_THREAD: usize = 4096;
/// A token's times are whole seconds, so a shorter one may be over before it is used; a longer one is a password.
const TOKEN_TTL_S: RangeInclusive<u64> = 2..=86_400;
/// Shorter ones cut off honest clients, longer ones are none.
const TIME_MS: RangeInclusive<u64> = 100..=600_000;
/// A body is part of what has to be answered within 24 s.
const BODY_MS: RangeInclusive<u64> = 100..=20_000;
/// The smallest still holds an originate with its metadata.
const BODY_BYTES: RangeInclusive<u64> = 8192..=16_777_216;
/// RFC 1035 §4.2, and as many as the C library asks.
const DNS_PORT: u16 = 53;
const MOST_NAME_SERVERS: usize = 3;
const RELAY_SCHEMES: [&str; 4] = ["moqt", "moq", "quic", "https"];

pub(super) fn config(root: toml::Table, base: &Path) -> Result<Config, String> {
    let mut root = Table::new(String::new(), root);
    let state = root.text("state")?.ok_or("state is missing: name a folder for records, keys and certificate")?;
    let mut config = Config::new(base.join(state));
    if let Some(node) = root.text("node")? {
        if node.len() > 8 || !node.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("node is {node:?}: write letters and digits, at most 8"));
        }
        config.node = node;
    }
    config.audio_threads = root.number("audio_threads", 1, 1..=64)? as usize;
    let mut api = root.table("api")?;
    config.api.listen = listen(&mut api, config.api.listen)?;
    if let Some(file) = path(&mut api, "keys_file", base)? {
        config.api.keys_file = file;
    }
    config.api.certificate = pem(&mut api, "private_key", base)?;
    api.finish()?;
    relay(root.table("relay")?, base, &mut config.relay)?;
    config.dns = dns(root.table("dns")?)?;
    config.phone = phone(root.table("phone")?, base)?;
    config.limits = limits(root.table("limits")?)?;
    config.orgs = named(root.named("orgs")?, org)?;
    config.webhooks = webhooks(root.table("webhooks")?)?;
    config.trunks = trunks(&mut root, base)?;
    config.agents = named(root.named("agents")?, agent)?;
    config.keys = root.rows("keys")?.into_iter().map(key).collect::<Result<_, _>>()?;
    root.finish()?;
    check_orgs(&config)?;
    check_agents(&config)?;
    check_calls(&config)?;
    Ok(config)
}

/// Towards a relay elsewhere a thread has as many sessions as its calls need.
fn check_calls(config: &Config) -> Result<(), String> {
    let (calls, threads) = (config.limits.calls, config.limits.calls.div_ceil(CALLS_PER_AUDIO_THREAD));
    if config.relay.url.is_some() || threads <= config.audio_threads {
        return Ok(());
    }
    Err(format!(
        "limits.calls is {calls}: one audio thread carries {CALLS_PER_AUDIO_THREAD}, so set audio_threads to {threads} or more"
    ))
}

/// Organisations need no table of their own; where some have one, a name outside of it is a slip.
fn check_orgs(config: &Config) -> Result<(), String> {
    if config.orgs.is_empty() {
        return Ok(());
    }
    let of_keys = config.keys.iter().enumerate().map(|(i, key)| (format!("keys[{i}].org"), &key.org));
    let of_trunks =
        config.trunks.iter().filter_map(|(id, trunk)| Some((format!("trunks.{id}.org"), trunk.org.as_ref()?)));
    let of_rules = config.trunks.iter().flat_map(|(id, trunk)| {
        let rules = trunk.inbound.rules.iter().enumerate();
        rules.map(move |(i, rule)| (format!("trunks.{id}.inbound[{i}].org"), &rule.org))
    });
    match of_keys.chain(of_trunks).chain(of_rules).find(|(_, org)| !config.orgs.contains_key(*org)) {
        None => Ok(()),
        Some((path, org)) => Err(format!("{path} is {org:?}: there is no [orgs.{org}]")),
    }
}

/// Who answers calls has to be there.
fn check_agents(config: &Config) -> Result<(), String> {
    for (id, trunk) in &config.trunks {
        for (i, rule) in trunk.inbound.rules.iter().enumerate() {
            let Then::Answer { agent } = &rule.then else { continue };
            if config.agents.contains_key(agent) {
                continue;
            }
            let near = nearest(agent, config.agents.keys().map(String::as_str));
            let remedy =
                near.map_or_else(|| format!("there is no [agents.{agent}]"), |near| format!("did you mean {near:?}?"));
            return Err(format!("trunks.{id}.inbound[{i}].agent is {agent:?}: {remedy}"));
        }
    }
    Ok(())
}

fn named<T>(tables: Vec<(String, Table)>, read: fn(Table) -> Result<T, String>) -> Result<BTreeMap<String, T>, String> {
    let mut all = BTreeMap::new();
    for (name, table) in tables {
        check_id(&table.at(&name), &name)?;
        all.insert(name, read(table)?);
    }
    Ok(all)
}

pub(super) fn check_id(path: &str, id: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let right = (1..=64).contains(&id.len()) && id.bytes().all(fits);
    if right { Ok(()) } else { Err(format!("{path}: {id:?} is no id: write {ID}")) }
}

pub(super) fn listen(table: &mut Table, default: SocketAddr) -> Result<SocketAddr, String> {
    Ok(table.parsed("listen", "an address with a port, such as \"127.0.0.1:8080\"")?.unwrap_or(default))
}

fn relay(mut table: Table, base: &Path, relay: &mut Relay) -> Result<(), String> {
    relay.listen = listen(&mut table, relay.listen)?;
    relay.certificate = certificate(&mut table, base)?;
    relay.keys = key_sources(&mut table, base)?;
    relay.relaying = Relaying::read(&mut table, base)?;
    relay.url = relay_url(&mut table, "url")?;
    relay.public_url = relay_url(&mut table, "public_url")?;
    relay.web_transport_url = relay_url(&mut table, "web_transport_url")?;
    relay.trust = trust(&mut table, base)?;
    relay.drafts = drafts(&mut table)?;
    let pool = table.number("pool", 0, 1..=POOL as u64)? as usize;
    relay.pool = (pool > 0).then_some(pool);
    table.finish()
}

/// Drafts of MoQT, the preferred first.
pub(super) fn drafts(table: &mut Table) -> Result<Drafts, String> {
    Drafts::from_numbers(&table.texts("drafts")?).map_err(|error| format!("{}: {error}", table.at("drafts")))
}

/// A relay's certificate.
pub(super) fn certificate(table: &mut Table, base: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    pem(table, "key", base)
}

/// PEM files of a chain, `certificate`, and its key: both or none.
fn pem(table: &mut Table, key: &'static str, base: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    match (path(table, "certificate", base)?, path(table, key, base)?) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => Ok(Some((chain, key))),
        (Some(_), None) => Err(format!("{} is missing: name the PEM file of the certificate's key", table.at(key))),
        (None, Some(_)) => Err(format!("{} is missing: name the PEM file of the chain", table.at("certificate"))),
    }
}

/// `public_keys`, each a key or a file of keys, and `revoked`, a file.
pub(super) fn key_sources(table: &mut Table, base: &Path) -> Result<KeySources, String> {
    let mut sources = KeySources::default();
    let mut fixed = Vec::new();
    for (at, text) in table.texts("public_keys")?.into_iter().enumerate() {
        let file = base.join(&text);
        match text.parse::<PublicKey>() {
            Ok(key) => fixed.push(key),
            Err(_) if file.is_file() => sources.files.push(file),
            Err(error) => {
                return Err(format!(
                    "{}[{at}] is {text:?}: there is no such file, and {error}",
                    table.at("public_keys")
                ));
            }
        }
    }
    sources.fixed = fixed.into_iter().collect();
    sources.revoked = path(table, "revoked", base)?;
    Ok(sources)
}

pub(super) fn relay_url(table: &mut Table, key: &'static str) -> Result<Option<Url>, String> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let wrong = |why: &str| format!("{} is {:?}: {why}", table.at(key), shown(&text));
    let url: Url =
        text.parse().map_err(|e| wrong(&format!("{e}; write a URL such as \"moqt://relay.example.com:4433\"")))?;
    if !RELAY_SCHEMES.contains(&url.scheme()) || url.host_str().is_none() {
        return Err(wrong(&format!("write {}:// and a host", RELAY_SCHEMES.join("://, "))));
    }
    if !url.username().is_empty() || url.password().is_some() || is_doubtful(&url) {
        return Err(wrong("write it without user and password, which no relay is told, and %40 for an @ elsewhere"));
    }
    Ok(Some(url))
}

pub(super) fn trust(table: &mut Table, base: &Path) -> Result<Trust, String> {
    let word = table.text("trust")?;
    let roots = path(table, "roots", base)?;
    let hashes = table.texts("certificate_hashes")?;
    let hashes = hashes.iter().enumerate().map(|(i, text)| {
        let plain: String = text.chars().filter(|c| *c != ':').collect();
        unhex(&plain).ok_or_else(|| {
            format!("{}[{i}] is {text:?}: write 64 hexadecimal digits (SHA-256)", table.at("certificate_hashes"))
        })
    });
    let hashes: Vec<[u8; 32]> = hashes.collect::<Result<_, _>>()?;
    match (word.as_deref(), roots, hashes.is_empty()) {
        (None | Some("system"), None, true) => Ok(Trust::System),
        (None, Some(file), true) => Ok(Trust::Roots(file)),
        (None, None, false) => Ok(Trust::Hashes(hashes)),
        (Some("anything"), None, true) => Ok(Trust::Anything),
        (Some(word), None, true) => Err(format!("{} is {word:?}: write \"system\" or \"anything\"", table.at("trust"))),
        _ => {
            let [one, other, third] = ["trust", "roots", "certificate_hashes"].map(|key| table.at(key));
            Err(format!("{one}, {other} and {third} exclude each other: keep one"))
        }
    }
}

fn path(table: &mut Table, key: &'static str, base: &Path) -> Result<Option<PathBuf>, String> {
    Ok(table.text(key)?.map(|text| base.join(text)))
}

fn dns(mut table: Table) -> Result<Dns, String> {
    let texts = table.texts("servers")?;
    if texts.len() > MOST_NAME_SERVERS {
        let (at, have) = (table.at("servers"), texts.len());
        return Err(format!("{at} has {have} addresses: write {MOST_NAME_SERVERS} at most, the first is asked first"));
    }
    let server = |(i, text): (usize, &String)| {
        let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        let address = address.or_else(|_| text.parse::<SocketAddr>());
        address.ok().filter(|address| address.port() != 0).ok_or_else(|| {
            let at = table.at("servers");
            format!("{at}[{i}] is {text:?}: write the address of a name server, such as \"192.0.2.53\" or \"127.0.0.1:5353\"")
        })
    };
    let servers = texts.iter().enumerate().map(server).collect::<Result<_, _>>()?;
    table.finish()?;
    Ok(Dns { servers })
}

fn phone(mut table: Table, base: &Path) -> Result<Phone, String> {
    const DEFAULT: u64 = u64::MAX;
    let phone = Phone {
        clip: path(&mut table, "clip", base)?,
        record: path(&mut table, "record", base)?,
        record_rate: Some(table.number("record_rate", DEFAULT, 8000..=48_000)?)
            .filter(|rate| *rate != DEFAULT)
            .map(|rate| rate as u32),
        ring: Some(table.number("ring_ms", DEFAULT, 0..=120_000)?)
            .filter(|ms| *ms != DEFAULT)
            .map(Duration::from_millis),
    };
    table.finish()?;
    Ok(phone)
}

fn limits(mut table: Table) -> Result<Limits, String> {
    let default = Limits::default();
    let mut time = |key, default: Duration, range| {
        Ok::<_, String>(Duration::from_millis(table.number(key, default.as_millis() as u64, range)?))
    };
    let head = time("head_ms", default.head, TIME_MS)?;
    let idle = time("idle_ms", default.idle, TIME_MS)?;
    let body = time("body_ms", default.body, BODY_MS)?;
    let limits = Limits {
        head,
        idle,
        body,
        body_bytes: table.number("body_bytes", default.body_bytes as u64, BODY_BYTES)? as usize,
        connections_per_address: table.number("connections_per_address", 0, 0..=100_000)? as usize,
        calls: table.number("calls", default.calls as u64, 1..=100_000)? as usize,
        connections: table.number("connections", default.connections as u64, 1..=100_000)? as usize,
        requests_per_s: table.number("requests_per_s", u64::from(default.requests_per_s), 1..=1_000_000)? as u32,
        request_burst: table.number("request_burst", u64::from(default.request_burst), 1..=1_000_000)? as u32,
        records: table.number("records", default.records, 1..=100_000_000)?,
        record_days: table.number("record_days", default.record_days, 1..=36_500)?,
        store_mb: table.number("store_mb", default.store_mb, 1..=1_000_000)?,
        token_ttl: Duration::from_secs(table.number("token_ttl_s", default.token_ttl.as_secs(), TOKEN_TTL_S)?),
    };
    table.finish()?;
    Ok(limits)
}

fn webhooks(mut table: Table) -> Result<Webhooks, String> {
    let default = Pace::default();
    let attempts = table.number("attempts", u64::from(default.attempts), 1..=20)? as u32;
    let mut time = |key, default: Duration, range| {
        Ok::<_, String>(Duration::from_millis(table.number(key, default.as_millis() as u64, range)?))
    };
    let first_pause = time("first_pause_ms", default.first_pause, 10..=600_000)?;
    let limit = time("limit_ms", default.limit, TIME_MS)?;
    let hosts = table.texts("hosts")?;
    if let Some(i) = hosts.iter().position(|host| !is_host(host.strip_prefix("*.").unwrap_or(host))) {
        let (at, host) = (table.at("hosts"), &hosts[i]);
        return Err(format!(
            "{at}[{i}] is {host:?}: write a host such as \"example.com\", or \"*.example.com\" for all below it"
        ));
    }
    table.finish()?;
    Ok(Webhooks { pace: Pace { attempts, first_pause, limit }, hosts })
}

fn is_host(text: &str) -> bool {
    text.parse::<Host>().is_ok_and(|host| host.port.is_none())
}

fn org(mut table: Table) -> Result<Org, String> {
    let display_name = table.text("display_name")?;
    let secret = table.secret("webhook_secret")?.map(|text| text.parse());
    let at = table.at("webhook_secret");
    let webhook_secret = secret.transpose().map_err(|why| format!("{at}: {why}"))?;
    let org = Org { display_name, webhook_secret };
    table.finish()?;
    Ok(org)
}

fn agent(mut table: Table) -> Result<Agent, String> {
    let kind = match table.text("kind")?.as_deref() {
        Some("echo") => AgentKind::Echo,
        Some(other) => return Err(format!("{} is {other:?}: write \"echo\"", table.at("kind"))),
        None => return Err(format!("{} is missing: write \"echo\"", table.at("kind"))),
    };
    table.finish()?;
    Ok(Agent { kind })
}

fn key(mut table: Table) -> Result<ApiKey, String> {
    let org = table.text("org")?.ok_or_else(|| format!("{} is missing: whose key is it?", table.at("org")))?;
    let mut scopes = table.texts("scopes")?;
    if scopes.is_empty() {
        scopes.push("voice:*".to_owned());
    }
    let key = match (table.secret("hash")?, table.secret("key")?) {
        (Some(hash), None) => ApiKey::from_hash(&org, scopes, &hash).ok_or_else(|| {
            format!(
                "{} is no hash of a key: write hmac-sha256$<salt>$<tag>, both hexadecimal, or the key itself as `key`",
                table.at("hash")
            )
        })?,
        (None, Some(text)) if text.len() > MOST_KEY_BYTES => {
            return Err(format!("{} is longer than any key: at most {MOST_KEY_BYTES} bytes are read", table.at("key")));
        }
        (None, Some(text)) if text.len() >= 16 => ApiKey::from_text(&org, scopes, &text),
        (None, Some(_)) => {
            return Err(format!("{} is too short to be safe: use 16 characters or more", table.at("key")));
        }
        _ => return Err(format!("{} or {} is needed, not both", table.at("hash"), table.at("key"))),
    };
    table.finish()?;
    Ok(key)
}
