//! Tokens, keys, configuration, JSON and WAV: what users and strangers hand over as text or files.

use std::path::Path;

use super::Choices;
use crate::audio::wav::Wav;
use crate::call::control::{self, Read};
use crate::call::record::CallRow;
use crate::call::wire::{TokenAnswer, TokenRequest};
use crate::engine::config::{self, Config};
use crate::token::{Claims, KeySet, PublicKey, Revoked, SigningKey, peek};

/// Of the key that signs seeds. Nobody's.
const SECRET: [u8; 48] =
    *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20clutchcall-fuzz-clutchcall-fuzz-";

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SECRET).expect("a key in PKCS #8 form")
}

/// A token's text; and its claims, as if somebody had signed them.
pub(super) fn token(data: &[u8]) {
    thread_local! {
        static KEYS: KeySet = KeySet::from_iter([key().public()]);
    }
    let mut choices = Choices(data);
    if choices.byte() & 1 == 0 {
        KEYS.with(|keys| drop(Claims::decode(choices.0, keys, 1_800_000_000, 30)));
        if let Ok(text) = std::str::from_utf8(choices.0) {
            let _ = peek(text);
        }
    } else if let Ok(claims) = serde_json::from_slice::<Claims>(choices.0) {
        let namespace = ["voice", "CA1", "uplink"];
        let again = serde_json::to_vec(&claims).expect("claims are JSON");
        let read: Claims = serde_json::from_slice(&again).expect("what we write can be read");
        assert_eq!(claims.may_publish(&namespace), read.may_publish(&namespace));
        assert_eq!(claims.may_subscribe(&namespace), read.may_subscribe(&namespace));
    }
}

pub(super) fn token_seeds() -> Vec<Vec<u8>> {
    let claims = Claims {
        sub: "org_1".to_owned(),
        ns: vec!["voice/CA1/*".parse().expect("a pattern")],
        exp: 1_900_000_000,
        ..Claims::default()
    };
    let text = claims.encode(&key());
    let json = serde_json::to_string(&claims).expect("claims are JSON");
    vec![format!("\0{text}").into_bytes(), format!("\u{1}{json}").into_bytes()]
}

/// Files of keys and of revoked tokens.
pub(super) fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(keys) = KeySet::read(text) {
        let _ = keys.is_empty();
    }
    let _ = Revoked::read(text);
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    }
}

pub(super) fn keys_seeds() -> Vec<Vec<u8>> {
    let key = key().public().to_string();
    let revoked = format!("jti one\nsub two\nsha256 {}\n", "ab".repeat(32));
    vec![key.clone().into_bytes(), format!("# keys\nkid {key} # ours\n").into_bytes(), revoked.into_bytes()]
}

/// The engine's file, and what a relay alone is told.
pub(super) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Config::from_toml(text, Path::new("/nowhere"), std::iter::empty());
    let _ = config::Alone::from_toml(text, Path::new("/nowhere"));
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    vec![config::EXAMPLE.as_bytes().to_vec(), b"listen = \"127.0.0.1:4433\"\npublic_keys = []\n".to_vec()]
}

/// What SDK and engine say to each other. What was read is written and read as the same.
pub(super) fn wire_json(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<TokenRequest>(data) {
        let again = serde_json::to_vec(&request).expect("a request is JSON");
        assert_eq!(serde_json::from_slice::<TokenRequest>(&again).ok(), Some(request));
    }
    if let Ok(answer) = serde_json::from_slice::<TokenAnswer>(data) {
        let again = serde_json::to_vec(&answer).expect("an answer is JSON");
        assert_eq!(serde_json::from_slice::<TokenAnswer>(&again).ok(), Some(answer));
    }
    if let Read::Message(message) = control::read(data) {
        assert_eq!(control::read(&message.write()), Read::Message(message));
    }
    if let Ok(row) = serde_json::from_slice::<CallRow>(data) {
        let again = serde_json::to_vec(&row).expect("a row is JSON");
        assert_eq!(serde_json::from_slice::<CallRow>(&again).ok(), Some(row));
    }
}

pub(super) fn wire_json_seeds() -> Vec<Vec<u8>> {
    let request = r#"{"orgId":"o","sid":"CA1","role":"caller","codec":"opus","sampleRate":48000,"channels":1,"frameMs":20,"holder":"h"}"#;
    let row = r#"{"sid":"CA1","status":"completed","from":"+1","to":"+2","trunkId":"t","startedAt":"2026-01-01T00:00:00Z","agent":null}"#;
    let key = r##"{"v":1,"type":"dtmf","digit":"#","duration_ms":160,"at_us":1234567,"source":"rfc4733"}"##;
    vec![request.as_bytes().to_vec(), row.as_bytes().to_vec(), key.as_bytes().to_vec()]
}

pub(super) fn wav(data: &[u8]) {
    let _ = Wav::parse(data);
}

pub(super) fn wav_seeds() -> Vec<Vec<u8>> {
    let header = crate::audio::wav::header(8000, 1, 8);
    vec![[&header[..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat()]
}

pub(super) fn webtransport_seeds() -> Vec<Vec<u8>> {
    // The head of a stream of session 0; a DATA frame with a close capsule; a HEADERS frame.
    vec![vec![0x40, 0x54, 0], vec![0x00, 0x09, 0x68, 0x43, 0x06, 0, 0, 0, 7, b'o', b'k'], vec![0x01, 0x02, 0, 0]]
}
