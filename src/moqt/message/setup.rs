//! SETUP (§10.3): options as key-value pairs that fill the message; the first words on each side's control stream.

use bytes::{Bytes, BytesMut};

use crate::moqt::authorization::{Form, Token};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::error::{CloseCode, Violation};
use crate::moqt::properties::{self, Value};
use crate::moqt::version::Profile;

/// The same in all drafts (§10.3); the last two since draft 20.
mod option {
    pub(super) const PATH: u64 = 0x01;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
    pub(super) const AUTHORITY: u64 = 0x05;
    pub(super) const MOQT_IMPLEMENTATION: u64 = 0x07;
    pub(super) const MAX_FILTER_RANGES: u64 = 0x06;
    pub(super) const MAX_REQUEST_UPDATES: u64 = 0x08;
}

/// SETUP options (§10.3.1). Unknown options of a peer are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub path: Option<String>,
    pub authority: Option<String>,
    pub tokens: Vec<Token>,
    /// Tokens with an alias; the session turns them into `tokens`.
    pub token_aliases: Vec<Form>,
    pub max_token_cache: u64,
    pub implementation: Option<String>,
    /// Ranges that the filters of one request may have (since draft 20).
    pub max_filter_ranges: u64,
    /// REQUEST_UPDATEs without an answer that one request may have (since draft 20); 0: any number.
    pub max_request_updates: u64,
}

impl Setup {
    pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Self> {
        let body = reader.rest();
        let mut setup = Self::default();
        let mut last = None;
        for pair in properties::pairs(&body) {
            let (key, value) = pair?;
            let known = match key {
                option::MAX_FILTER_RANGES | option::MAX_REQUEST_UPDATES => profile.has_range_filters,
                _ => (option::PATH..=option::MOQT_IMPLEMENTATION).contains(&key) && key != 0x02,
            };
            if known && last == Some(key) && key != option::AUTHORIZATION_TOKEN {
                return Err(Violation::protocol("a SETUP option given twice").into());
            }
            last = Some(key);
            if known {
                setup.option(key, value)?;
            }
        }
        Ok(setup)
    }

    fn option(&mut self, key: u64, value: Value) -> Result<(), Violation> {
        match (key, value) {
            (option::PATH, Value::Bytes(path)) => {
                self.path = Some(text(&path, CloseCode::MalformedPath, "a PATH that is no URI")?);
            }
            (option::AUTHORITY, Value::Bytes(authority)) => {
                let authority = text(&authority, CloseCode::MalformedAuthority, "an AUTHORITY that is no URI")?;
                self.authority = Some(authority);
            }
            (option::AUTHORIZATION_TOKEN, Value::Bytes(token)) => self.add_token(&token)?,
            (option::MAX_AUTH_TOKEN_CACHE_SIZE, Value::Number(size)) => self.max_token_cache = size,
            // Informational: bytes that are not UTF-8 are shown as such.
            (option::MOQT_IMPLEMENTATION, Value::Bytes(name)) => {
                self.implementation = Some(String::from_utf8_lossy(&name).into_owned());
            }
            (option::MAX_FILTER_RANGES, Value::Number(count)) => self.max_filter_ranges = count,
            (option::MAX_REQUEST_UPDATES, Value::Number(count)) => self.max_request_updates = count,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn add_token(&mut self, value: &Bytes) -> Result<(), Violation> {
        match Form::decode(value)? {
            Form::UseValue(token) => self.tokens.push(token),
            form => self.token_aliases.push(form),
        }
        Ok(())
    }

    /// A value longer than a key-value pair can hold makes the message too long as well, which its frame refuses.
    pub(super) fn encode(&self, profile: &Profile, out: &mut BytesMut) {
        let mut options = properties::Writer::default();
        if let Some(path) = &self.path {
            options = options.bytes(option::PATH, path.as_bytes());
        }
        for token in &self.tokens {
            options = options.bytes(option::AUTHORIZATION_TOKEN, &token.encoded());
        }
        for form in &self.token_aliases {
            let mut value = BytesMut::new();
            form.encode(&mut value);
            options = options.bytes(option::AUTHORIZATION_TOKEN, &value);
        }
        if self.max_token_cache != 0 {
            options = options.number(option::MAX_AUTH_TOKEN_CACHE_SIZE, self.max_token_cache);
        }
        if let Some(authority) = &self.authority {
            options = options.bytes(option::AUTHORITY, authority.as_bytes());
        }
        if profile.has_range_filters && self.max_filter_ranges != 0 {
            options = options.number(option::MAX_FILTER_RANGES, self.max_filter_ranges);
        }
        if let Some(name) = &self.implementation {
            options = options.bytes(option::MOQT_IMPLEMENTATION, name.as_bytes());
        }
        if profile.has_range_filters && self.max_request_updates != 0 {
            options = options.number(option::MAX_REQUEST_UPDATES, self.max_request_updates);
        }
        out.extend_from_slice(&options.finish());
    }
}

/// URI characters are a part of ASCII (RFC 3986 §2); control characters and spaces never are.
fn text(bytes: &Bytes, code: CloseCode, reason: &'static str) -> Result<String, Violation> {
    if bytes.iter().all(u8::is_ascii_graphic) {
        Ok(bytes.iter().map(|byte| *byte as char).collect())
    } else {
        Err(Violation::new(code, reason))
    }
}
