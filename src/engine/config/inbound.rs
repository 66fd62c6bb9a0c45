//! What becomes of calls that come in over a trunk: [`Inbound`], its rules in the order in which they are tried, and how they are read.
//!
//! ```toml
//! [[trunks.carrier.inbound]]
//! number = "+1555*"
//! rule = "HANDLE_AI"
//! agent = "echo"
//! ```
//!
//! The four rules have the vendor's names. The first whose number fits is taken; a call that none fits is refused.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::table::{Table, nearest};
use super::trunk::Secret;
use crate::call::{DEFAULT_RING_TIMEOUT_S, Reject};
use crate::engine::sip::Network;
use crate::sip::digest::Algorithm;

/// What a call may ring before somebody answers it by the API; what one may last.
const RING_S: std::ops::RangeInclusive<u64> = 5..=120;
const DURATION_S: std::ops::RangeInclusive<u64> = 1..=86_400;
const MOST_PATTERN: usize = 64;
/// A metadata service that has no link-local address.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Everything about calls to us over one trunk.
#[derive(Clone, Debug, Default)]
pub struct Inbound {
    /// The first that fits.
    pub rules: Vec<InboundRule>,
    /// Told of every call that comes in, and of what becomes of it.
    pub webhook_url: Option<Url>,
    /// Addresses that calls may come from, beside the trunk's hosts.
    pub acl: Vec<Network>,
    /// Every caller has to prove that she knows the password.
    pub challenge: Option<Challenge>,
}

/// What callers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub username: String,
    pub password: Secret,
    /// The preferred first.
    pub algorithms: Vec<Algorithm>,
}

/// What becomes of calls to some numbers.
#[derive(Clone, Debug)]
pub struct InboundRule {
    pub number: NumberPattern,
    /// Whose calls they are.
    pub org: String,
    pub then: Then,
    pub max_duration: Option<Duration>,
}

/// The vendor's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// `HANDLE_AI`: answered at once, and this agent speaks.
    Answer { agent: String },
    /// `NOTIFY_AND_HANGUP`: it rings, whoever wants to is told, and it is hung up unless somebody answers it by the API.
    Notify { ring_timeout_s: u32 },
    /// `REJECT`.
    Reject(Reject),
    /// `PLAY_AND_HANGUP`: answered, this WAV is played, and it is hung up.
    Play { audio_file: PathBuf },
}

/// A number, or letters with `*` for any and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberPattern(String);

impl NumberPattern {
    pub fn fits(&self, number: &str) -> bool {
        glob(self.0.as_bytes(), number.as_bytes())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for NumberPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.*?#".contains(&byte);
        let right = (1..=MOST_PATTERN).contains(&text.len()) && text.bytes().all(fits);
        if right { Ok(Self(text.to_owned())) } else { Err("no number and no pattern of one") }
    }
}

/// Without going back further than the last `*`, so that no pattern is slow.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

impl Inbound {
    /// The rule of a number.
    pub fn rule(&self, number: &str) -> Option<&InboundRule> {
        self.rules.iter().find(|rule| rule.number.fits(number))
    }
}

/// Of a trunk's table. `org`: the trunk's own.
pub(super) fn read(table: &mut Table, org: Option<&str>, base: &Path) -> Result<Inbound, String> {
    let audio_file = table.text("reject_audio_file")?.map(|file| base.join(file));
    let webhook_url = webhook_url(table, "inbound_webhook_url")?;
    let (acl, challenge) = (acl(table)?, challenge(table)?);
    let mut rules = Vec::new();
    for row in table.rows("inbound")? {
        rules.push(rule(row, org, audio_file.as_deref())?);
    }
    let useless = [
        ("inbound_webhook_url", webhook_url.is_some()),
        ("reject_audio_file", audio_file.is_some()),
        ("inbound_acl", !acl.is_empty()),
        ("inbound_username", challenge.is_some()),
    ];
    if let Some((key, _)) = useless.into_iter().find(|(_, is_written)| *is_written && rules.is_empty()) {
        let [at, rules] = [key, "inbound"].map(|key| table.at(key));
        return Err(format!("{at} is of no use: no rule says what becomes of a call, write [[{rules}]]"));
    }
    Ok(Inbound { rules, webhook_url, acl, challenge })
}

fn acl(table: &mut Table) -> Result<Vec<Network>, String> {
    let texts = table.texts("inbound_acl")?;
    let read = |(i, text): (usize, String)| {
        let at = format!("{}[{i}] is {text:?}", table.at("inbound_acl"));
        text.parse().map_err(|why| format!("{at} ({why}): write an address, or a network such as \"203.0.113.0/24\""))
    };
    texts.into_iter().enumerate().map(read).collect()
}

fn challenge(table: &mut Table) -> Result<Option<Challenge>, String> {
    let (name, password) = (table.text("inbound_username")?, table.secret("inbound_password")?);
    let names = table.texts("inbound_digest")?;
    let [at_name, at_password, at_digest] =
        ["inbound_username", "inbound_password", "inbound_digest"].map(|key| table.at(key));
    let mut algorithms = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        let found = found.filter(|algorithm| !algorithms.contains(algorithm));
        algorithms.push(found.ok_or_else(|| format!("{at_digest}[{i}] is {name:?}: write SHA-256, MD5 or both"))?);
    }
    let algorithms = if algorithms.is_empty() { Algorithm::ALL.to_vec() } else { algorithms };
    match (name, password) {
        (None, None) if names.is_empty() => Ok(None),
        (None, None) => Err(format!("{at_digest} is of no use: nobody is challenged without inbound_username")),
        (Some(username), Some(password)) => {
            Ok(Some(Challenge { username, password: Secret::new(password), algorithms }))
        }
        (Some(_), None) => Err(format!("{at_password} is missing: inbound_username needs it")),
        (None, Some(_)) => Err(format!("{at_name} is missing: inbound_password needs it")),
    }
}

/// Where something is told: http or https, a host, and nothing that would be shown to others.
pub fn callback_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("it is no URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("it is no URL of http or https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password, which is sent to nobody".to_owned());
    }
    if url.fragment().is_some() {
        return Err("it has a fragment (#), which is sent to nobody".to_owned());
    }
    Ok(url)
}

/// Whether something may be told there; `hosts`: the only ones, none meaning any. Never the metadata services of clouds, most of which live
/// at link-local addresses.
pub fn may_be_told(url: &Url, hosts: &[String]) -> bool {
    let is_local = match url.host() {
        Some(url::Host::Ipv4(address)) => is_of_the_cloud(address.into()),
        Some(url::Host::Ipv6(address)) => is_of_the_cloud(address.into()),
        _ => false,
    };
    let host = url.host_str().unwrap_or_default();
    let fits = |allowed: &String| match allowed.strip_prefix('*') {
        Some(below) => host.ends_with(&below.to_ascii_lowercase()),
        None => host.eq_ignore_ascii_case(allowed),
    };
    !is_local && (hosts.is_empty() || hosts.iter().any(fits))
}

/// An IPv4 address in the clothes of an IPv6 one is what it is.
fn is_of_the_cloud(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

fn webhook_url(table: &mut Table, key: &'static str) -> Result<Option<Url>, String> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let url = callback_url(&text);
    url.map(Some).map_err(|why| {
        format!(
            "{} is {:?}: {why}; write one such as \"https://example.com/calls\"",
            table.at(key),
            crate::net::shown::shown(&text)
        )
    })
}

fn rule(mut table: Table, org: Option<&str>, audio_file: Option<&Path>) -> Result<InboundRule, String> {
    const NUMBER: &str = "a number such as \"+15550001234\", or a pattern such as \"+1555*\"";
    let number = table.parsed("number", NUMBER)?.unwrap_or(NumberPattern("*".to_owned()));
    let at_org = table.at("org");
    let org = table
        .text("org")?
        .or_else(|| org.map(str::to_owned))
        .ok_or_else(|| format!("{at_org} is missing: whose calls are they? Write it here, or org at the trunk"))?;
    let max_duration = table.number("max_duration_sec", 0, DURATION_S)?;
    let then = then(&mut table, audio_file)?;
    table.finish()?;
    let max_duration = (max_duration > 0).then(|| Duration::from_secs(max_duration));
    Ok(InboundRule { number, org, then, max_duration })
}

const RULES: [&str; 4] = ["REJECT", "PLAY_AND_HANGUP", "NOTIFY_AND_HANGUP", "HANDLE_AI"];

fn then(table: &mut Table, audio_file: Option<&Path>) -> Result<Then, String> {
    let at = table.at("rule");
    let all = RULES.join(", ");
    let Some(name) = table.text("rule")? else { return Err(format!("{at} is missing: write one of {all}")) };
    let [agent, ring, reason] =
        ["agent", "ring_timeout_sec", "reason"].map(|key| table.has(key).then(|| table.at(key)));
    let alien = |keys: &[&Option<String>]| match keys.iter().find_map(|key| key.as_ref()) {
        Some(key) => Err(format!("{key} is of no use with {name}: leave it out, or write another rule")),
        None => Ok(()),
    };
    match name.to_ascii_uppercase().as_str() {
        "HANDLE_AI" => {
            alien(&[&ring, &reason])?;
            let at = table.at("agent");
            let agent = table.text("agent")?;
            let agent = agent.ok_or_else(|| format!("{at} is missing: HANDLE_AI needs to know who speaks"))?;
            Ok(Then::Answer { agent })
        }
        "NOTIFY_AND_HANGUP" => {
            alien(&[&agent, &reason])?;
            let ring_timeout_s = table.number("ring_timeout_sec", u64::from(DEFAULT_RING_TIMEOUT_S), RING_S)?;
            Ok(Then::Notify { ring_timeout_s: ring_timeout_s as u32 })
        }
        "REJECT" => {
            alien(&[&agent, &ring])?;
            Ok(Then::Reject(reject(table)?))
        }
        "PLAY_AND_HANGUP" => {
            alien(&[&agent, &ring, &reason])?;
            let audio_file = audio_file
                .map(Path::to_owned)
                .ok_or_else(|| format!("{at} is PLAY_AND_HANGUP: the trunk lacks reject_audio_file, a WAV to play"))?;
            Ok(Then::Play { audio_file })
        }
        _ => {
            let near =
                nearest(&name.to_ascii_uppercase(), RULES.into_iter()).map(|near| format!("did you mean {near}?"));
            Err(format!("{at} is {name:?}: {}", near.unwrap_or_else(|| format!("write one of {all}"))))
        }
    }
}

fn reject(table: &mut Table) -> Result<Reject, String> {
    let at = table.at("reason");
    let Some(name) = table.text("reason")? else { return Ok(Reject::Declined) };
    let names = Reject::ALL.map(Reject::as_str);
    let found = Reject::ALL.into_iter().find(|reject| reject.as_str() == name);
    found.ok_or_else(|| {
        let near = nearest(&name, names.into_iter()).map(|near| format!("did you mean {near:?}?"));
        format!("{at} is {name:?}: {}", near.unwrap_or_else(|| format!("write one of {}", names.join(", "))))
    })
}
