//! `CLUTCHCALL_API_LISTEN` stands for `api.listen`: single values of the file, by upper-case path.

use toml::Value;

use super::table::nearest;

const PREFIX: &str = "CLUTCHCALL_";

pub(super) enum Kind {
    Text,
    Number,
    /// Parted by commas.
    Texts,
}

/// What the environment may say.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("state", Kind::Text),
    ("node", Kind::Text),
    ("audio_threads", Kind::Number),
    ("api.listen", Kind::Text),
    ("api.keys_file", Kind::Text),
    ("api.certificate", Kind::Text),
    ("api.private_key", Kind::Text),
    ("relay.listen", Kind::Text),
    ("relay.certificate", Kind::Text),
    ("relay.key", Kind::Text),
    ("relay.public_keys", Kind::Texts),
    ("relay.revoked", Kind::Text),
    ("relay.shards", Kind::Number),
    ("relay.url", Kind::Text),
    ("relay.trust", Kind::Text),
    ("relay.roots", Kind::Text),
    ("relay.certificate_hashes", Kind::Texts),
    ("relay.public_url", Kind::Text),
    ("relay.web_transport_url", Kind::Text),
    ("relay.pool", Kind::Number),
    ("dns.servers", Kind::Texts),
    ("phone.clip", Kind::Text),
    ("phone.record", Kind::Text),
    ("phone.record_rate", Kind::Number),
    ("phone.ring_ms", Kind::Number),
    ("webhooks.attempts", Kind::Number),
    ("webhooks.first_pause_ms", Kind::Number),
    ("webhooks.limit_ms", Kind::Number),
    ("webhooks.hosts", Kind::Texts),
    ("limits.calls", Kind::Number),
    ("limits.connections", Kind::Number),
    ("limits.connections_per_address", Kind::Number),
    ("limits.head_ms", Kind::Number),
    ("limits.idle_ms", Kind::Number),
    ("limits.body_ms", Kind::Number),
    ("limits.body_bytes", Kind::Number),
    ("limits.requests_per_s", Kind::Number),
    ("limits.request_burst", Kind::Number),
    ("limits.records", Kind::Number),
    ("limits.record_days", Kind::Number),
    ("limits.store_mb", Kind::Number),
    ("limits.token_ttl_s", Kind::Number),
];
/// The SDK's own variables, which share the prefix and the first word of ours.
const FOREIGN: [&str; 2] = ["CLUTCHCALL_API_KEY", "CLUTCHCALL_RELAY_HOST"];
/// Under these a variable that means nothing is a mistake; anything else may be somebody else's.
const SECTIONS: [&str; 6] = ["API_", "RELAY_", "DNS_", "PHONE_", "WEBHOOKS_", "LIMITS_"];

pub(super) fn overlay(
    root: &mut toml::Table,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(), String> {
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        match KEYS.iter().find(|(path, _)| variable(path) == rest) {
            Some((path, kind)) => set(root, path, value(&name, kind, text)?)?,
            None if FOREIGN.contains(&name.as_str()) => {}
            None if SECTIONS.iter().any(|section| rest.starts_with(section)) => return Err(unknown(&name, rest)),
            None => {}
        }
    }
    Ok(())
}

fn variable(path: &str) -> String {
    path.replace('.', "_").to_uppercase()
}

fn unknown(name: &str, rest: &str) -> String {
    let names: Vec<String> = KEYS.iter().map(|(path, _)| variable(path)).collect();
    match nearest(rest, names.iter().map(String::as_str)) {
        Some(near) => format!("{name} is not a setting: did you mean {PREFIX}{near}?"),
        None => format!("{name} is not a setting: unset it"),
    }
}

fn value(name: &str, kind: &Kind, text: String) -> Result<Value, String> {
    Ok(match kind {
        Kind::Text => Value::String(text),
        Kind::Texts => Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect()),
        Kind::Number => {
            Value::Integer(text.trim().parse().map_err(|_| format!("{name} is {text:?}: write a whole number"))?)
        }
    })
}

fn set(root: &mut toml::Table, path: &str, value: Value) -> Result<(), String> {
    let Some((section, key)) = path.split_once('.') else {
        root.insert(path.to_owned(), value);
        return Ok(());
    };
    let entry = root.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
    let table = entry.as_table_mut().ok_or_else(|| format!("{section} is no table: write [{section}]"))?;
    table.insert(key.to_owned(), value);
    Ok(())
}
