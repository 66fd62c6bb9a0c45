//! `[[trunks]]` and `[trunks.<id>]` into [`Trunk`]s. Both forms may stand in a file, though not in the same one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::inbound;
use super::parse::check_id;
use super::table::{Table, nearest};
use super::trunk::{CallerId, Credentials, DtmfMode, Host, RTP_PORTS, Secret, SipTrunk, Transport, Trunk, TrunkKind};
use crate::call::TransferMode;
use crate::sip::Codec;

/// A shorter registration keeps the registrar busy, a longer one outlives what it describes.
const REGISTER_S: RangeInclusive<u64> = 60..=86_400;
/// RFC 4028 §4: nobody need take less than 90 s.
const SESSION_S: RangeInclusive<u64> = 90..=86_400;
/// Over TLS, without a certificate of ours, our far side speaks over our connection alone, and the stack closes one that was silent for 300 s.
const MOST_SILENCE: Duration = Duration::from_secs(240);
/// Keys by which a table without `kind` is a SIP trunk's.
const PEERS: [&str; 4] = ["sbc_ip", "gateway_ip", "domain", "proxy"];

/// All trunks of a file, in either form.
pub(super) fn trunks(root: &mut Table, base: &Path) -> Result<BTreeMap<String, Trunk>, String> {
    let mut trunks = BTreeMap::new();
    for (named, mut table) in root.rows_or_named("trunks")? {
        let written = table.text("trunk_id")?;
        let at = table.at("trunk_id");
        let id = match (named, written) {
            (Some(id), None) => id,
            (Some(id), Some(written)) if id == written => id,
            (Some(id), Some(written)) => {
                return Err(format!("{at} is {written:?}: the table's name says {id:?}, keep one"));
            }
            (None, Some(id)) => id,
            (None, None) => return Err(format!("{at} is missing: name the trunk as calls will name it")),
        };
        check_id(&at, &id)?;
        let trunk = trunk(table, base)?;
        if trunks.insert(id.clone(), trunk).is_some() {
            return Err(format!("{at} is {id:?}: another trunk has this name"));
        }
    }
    Ok(trunks)
}

fn trunk(mut table: Table, base: &Path) -> Result<Trunk, String> {
    let default = Trunk::default();
    let is_sip = match table.text("kind")?.as_deref() {
        Some("sip") => true,
        Some("phone") => false,
        Some(other) => return Err(format!("{} is {other:?}: write \"sip\" or \"phone\"", table.at("kind"))),
        None if PEERS.iter().any(|key| table.has(key)) => true,
        None => {
            let at = table.at("kind");
            return Err(format!("{at} is missing: write \"sip\" for a carrier, \"phone\" for the simulated phone"));
        }
    };
    let mut trunk = Trunk {
        display_name: table.text("display_name")?,
        org: org(&mut table)?,
        channel_limit: table.number("channel_limit", default.channel_limit as u64, 1..=100_000)? as usize,
        max_cps: table.number("max_cps", default.max_cps as u64, 1..=10_000)? as usize,
        caller_ids: caller_ids(&mut table)?,
        ..default
    };
    if is_sip {
        let sip = sip(&mut table, base)?;
        if sip.most_calls() < trunk.channel_limit {
            let (at, calls) = (table.at("rtp_end_port"), sip.most_calls());
            let limit = trunk.channel_limit;
            return Err(format!(
                "{at}: the RTP ports are enough for {calls} calls, and channel_limit is {limit}: widen the range, or lower channel_limit"
            ));
        }
        trunk.kind = TrunkKind::Sip(Box::new(sip));
        trunk.inbound = inbound::read(&mut table, trunk.org.as_deref(), base)?;
    }
    table.finish()?;
    Ok(trunk)
}

/// By our name, or by the vendor's.
fn org(table: &mut Table) -> Result<Option<String>, String> {
    match (table.text("org")?, table.text("tenant_id")?) {
        (Some(_), Some(_)) => Err(format!("{} is written beside tenant_id: keep one of both", table.at("org"))),
        (org, tenant_id) => Ok(org.or(tenant_id)),
    }
}

fn sip(table: &mut Table, base: &Path) -> Result<SipTrunk, String> {
    let default = SipTrunk::default();
    let mut trunk = SipTrunk {
        transport: choice(table, "transport", Transport::ALL, Transport::as_str)?.unwrap_or(default.transport),
        tls_roots: table.text("tls_roots")?.map(|path| base.join(path)),
        tls_certificate: certificate(table, base)?,
        sbc_ip: host(table, "sbc_ip")?,
        gateway_ip: host(table, "gateway_ip")?,
        proxy: host(table, "proxy")?,
        domain: host(table, "domain")?.map(|host| host.to_string()),
        destination_sbc_port: port(table, "destination_sbc_port", 0, 1)?.filter(|port| *port != 0),
        source_pbx_port: port(table, "source_pbx_port", default.source_pbx_port, 0)?.unwrap_or_default(),
        credentials: credentials(table)?,
        require_registration: table.truth("require_registration")?,
        register_expires: seconds(table, "register_expires_sec", default.register_expires, REGISTER_S)?,
        codec_preferences: codecs(table)?.unwrap_or(default.codec_preferences),
        ptime_ms: table.number("ptime_ms", u64::from(default.ptime_ms), 10..=60)? as u8,
        ..default
    };
    addresses(table, &mut trunk)?;
    rules(table, &mut trunk)?;
    times(table, &mut trunk)?;
    check(table, &trunk)?;
    Ok(trunk)
}

fn addresses(table: &mut Table, trunk: &mut SipTrunk) -> Result<(), String> {
    const ADDRESS: &str = "an IP address of this machine, such as \"192.0.2.10\"";
    trunk.internal_sip_ip = table.parsed("internal_sip_ip", ADDRESS)?.unwrap_or(trunk.internal_sip_ip);
    trunk.external_sip_ip = table.parsed("external_sip_ip", "the IP address that the carrier sees")?;
    // Where SIP is at home RTP is too, unless told otherwise.
    trunk.internal_rtp_ip = table.parsed("internal_rtp_ip", ADDRESS)?.unwrap_or(trunk.internal_sip_ip);
    trunk.external_rtp_ip = table.parsed("external_rtp_ip", "the IP address that the carrier sees")?;
    trunk.external_rtp_ip = trunk.external_rtp_ip.or(trunk.external_sip_ip);
    let from = port(table, "rtp_start_port", *RTP_PORTS.start(), 1024)?.unwrap_or_default();
    let to = port(table, "rtp_end_port", *RTP_PORTS.end(), 1024)?.unwrap_or_default();
    if to <= from {
        let [start, end] = ["rtp_start_port", "rtp_end_port"].map(|key| table.at(key));
        return Err(format!("{end} is {to}, and {start} is {from}: write a range, such as 10000 and 20000"));
    }
    trunk.rtp_ports = from..=to;
    Ok(())
}

fn rules(table: &mut Table, trunk: &mut SipTrunk) -> Result<(), String> {
    const URI: &str = "a URI such as \"sip:{to}@{trunk_host}\"";
    trunk.transfer_mode = choice(table, "transfer_mode", TransferMode::ALL, TransferMode::as_str)?.unwrap_or_default();
    if let Some(template) = table.parsed("number_template", URI)? {
        trunk.number_template = template;
    }
    if trunk.number_template.as_str().to_ascii_lowercase().starts_with("tel:") {
        let at = table.at("number_template");
        return Err(format!("{at} begins with tel:, and a request needs a host: write {URI}"));
    }
    if let Some(template) = table.parsed("refer_to", "a URI such as \"tel:{to}\"")? {
        trunk.refer_to = template;
    }
    trunk.dtmf_mode = choice(table, "dtmf_mode", DtmfMode::ALL, DtmfMode::as_str)?.unwrap_or_default();
    trunk.early_media = table.truth("early_media")?;
    trunk.breaker_failures = table.number("breaker_failures", u64::from(trunk.breaker_failures), 0..=1000)? as u32;
    trunk.breaker = seconds(table, "breaker_sec", trunk.breaker, 1..=3600)?;
    Ok(())
}

fn times(table: &mut Table, trunk: &mut SipTrunk) -> Result<(), String> {
    trunk.options_interval = limit(table, "options_interval_sec", trunk.options_interval, 5..=3600)?;
    trunk.session_expires = limit(table, "session_expires_sec", trunk.session_expires, SESSION_S)?;
    trunk.min_se = seconds(table, "min_se_sec", trunk.min_se, SESSION_S)?;
    trunk.media_timeout_initial = limit(table, "media_timeout_initial_sec", trunk.media_timeout_initial, 5..=3600)?;
    trunk.media_timeout = limit(table, "media_timeout_sec", trunk.media_timeout, 5..=3600)?;
    if trunk.session_expires.is_some_and(|expires| expires < trunk.min_se) {
        let [expires, least] = ["session_expires_sec", "min_se_sec"].map(|key| table.at(key));
        return Err(format!("{expires} is less than {least}: raise it, or write 0 for no session timer"));
    }
    Ok(())
}

fn check(table: &Table, trunk: &SipTrunk) -> Result<(), String> {
    if trunk.hosts().is_empty() {
        let at = table.at("sbc_ip");
        return Err(format!("{at} is missing: name where calls go, as sbc_ip, gateway_ip, proxy or domain"));
    }
    if trunk.require_registration && trunk.credentials.is_none() {
        let at = table.at("sip_username");
        return Err(format!("{at} is missing: require_registration needs sip_username and sip_password"));
    }
    if trunk.transport != Transport::Tls && trunk.tls_certificate.is_some() {
        let (at, transport) = (table.at("tls_certificate"), trunk.transport.as_str());
        return Err(format!(
            "{at} is shown over TLS alone: write transport = \"tls\" for it (it is {transport:?}), or leave it out"
        ));
    }
    let is_asked_in_time = trunk.options_interval.is_some_and(|interval| interval <= MOST_SILENCE);
    if trunk.transport == Transport::Tls && trunk.tls_certificate.is_none() && !is_asked_in_time {
        let (at, most) = (table.at("options_interval_sec"), MOST_SILENCE.as_secs());
        return Err(format!(
            "{at} leaves a TLS connection silent until it is closed: write 5 to {most}, or tls_certificate so that the far side can open one"
        ));
    }
    Ok(())
}

fn certificate(table: &mut Table, base: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let [chain, key] = [table.text("tls_certificate")?, table.text("tls_private_key")?];
    match (chain, key) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => Ok(Some((base.join(chain), base.join(key)))),
        (Some(_), None) => Err(format!("{} is missing: tls_certificate needs it", table.at("tls_private_key"))),
        (None, Some(_)) => Err(format!("{} is missing: tls_private_key needs it", table.at("tls_certificate"))),
    }
}

fn credentials(table: &mut Table) -> Result<Option<Credentials>, String> {
    let (name, password) = (table.text("sip_username")?, table.secret("sip_password")?);
    match (name, password) {
        (None, None) => Ok(None),
        (Some(sip_username), Some(password)) => {
            Ok(Some(Credentials { sip_username, sip_password: Secret::new(password) }))
        }
        (Some(_), None) => Err(format!("{} is missing: sip_username needs it", table.at("sip_password"))),
        (None, Some(_)) => Err(format!("{} is missing: sip_password needs it", table.at("sip_username"))),
    }
}

fn caller_ids(table: &mut Table) -> Result<Vec<CallerId>, String> {
    let texts = table.texts("caller_ids")?;
    let read = |(i, text): (usize, String)| {
        let digits = text.strip_suffix('*').unwrap_or(&text).strip_prefix('+');
        let right = digits.is_some_and(|digits| digits.len() <= 15 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        let at = || format!("{}[{i}] is {text:?}", table.at("caller_ids"));
        if right {
            Ok(CallerId(text))
        } else {
            Err(format!("{}: write +15551234567, or +1555* for all that begin so", at()))
        }
    };
    texts.into_iter().enumerate().map(read).collect()
}

/// `None`: nothing is written.
fn codecs(table: &mut Table) -> Result<Option<Vec<Codec>>, String> {
    let texts = table.texts("codec_preferences")?;
    let mut codecs = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let name = match text.to_ascii_lowercase().as_str() {
            "ulaw" | "g711_ulaw" => "PCMU".to_owned(),
            "alaw" | "g711_alaw" => "PCMA".to_owned(),
            _ => text.clone(),
        };
        let at = format!("{}[{i}]", table.at("codec_preferences"));
        let codec = Codec::from_str(&name);
        let codec = codec.map_err(|()| format!("{at} is {text:?}: write one of PCMU, PCMA and opus"))?;
        if codecs.contains(&codec) {
            return Err(format!("{at} is {text:?}: it stands there already"));
        }
        codecs.push(codec);
    }
    Ok(Some(codecs).filter(|codecs| !codecs.is_empty()))
}

fn choice<T: Copy, const N: usize>(
    table: &mut Table,
    key: &'static str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, String> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let found = all.into_iter().find(|one| name(*one) == text);
    let names = all.map(name);
    let near = || nearest(&text, names.into_iter()).map(|near| format!("did you mean {near:?}?"));
    let remedy = || near().unwrap_or_else(|| format!("write one of {}", names.join(", ")));
    found.map(Some).ok_or_else(|| format!("{} is {text:?}: {}", table.at(key), remedy()))
}

fn host(table: &mut Table, key: &'static str) -> Result<Option<Host>, String> {
    table.parsed(key, "a host name or an IP address, with :port where it is another than SIP's")
}

fn port(table: &mut Table, key: &'static str, default: u16, least: u64) -> Result<Option<u16>, String> {
    let number = table.number(key, u64::from(default), least..=u64::from(u16::MAX))?;
    Ok(u16::try_from(number).ok())
}

fn seconds(
    table: &mut Table,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<u64>,
) -> Result<Duration, String> {
    table.number(key, default.as_secs(), range).map(Duration::from_secs)
}

/// 0: none.
fn limit(
    table: &mut Table,
    key: &'static str,
    default: Option<Duration>,
    range: RangeInclusive<u64>,
) -> Result<Option<Duration>, String> {
    let written = table.number(key, default.unwrap_or_default().as_secs(), 0..=*range.end())?;
    if written != 0 && !range.contains(&written) {
        let (from, to) = range.into_inner();
        return Err(format!("{} is {written}: write 0 for none, or a whole number from {from} to {to}", table.at(key)));
    }
    Ok((written != 0).then(|| Duration::from_secs(written)))
}
