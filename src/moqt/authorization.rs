//! The Token structure (§10.2.2), in SETUP and as a parameter.
//!
//! A message may carry a token, or the alias of one that was registered before. [`TokenCache`] is what one side of a session has
//! registered, within the size that the other announced (MAX_AUTH_TOKEN_CACHE_SIZE); 0, the default, allows no aliases. What breaks
//! its rules ends the session with the code that the draft gives it.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::codec::{Read, Reader};
use super::error::{CloseCode, Violation};
use super::varint;

/// AUTHORIZATION_TOKEN (§10.2.2) by value.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// 0 = agreed out of band (our JWT).
    pub kind: u64,
    pub value: Bytes,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token {{ kind: {}, value: <{} bytes> }}", self.kind, self.value.len())
    }
}

/// The four forms that travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Delete { alias: u64 },
    Register { alias: u64, token: Token },
    UseAlias { alias: u64 },
    UseValue(Token),
}

impl Form {
    /// A structure that is not one of the four forms is a KEY_VALUE_FORMATTING_ERROR.
    pub fn decode(value: &Bytes) -> Result<Self, Violation> {
        Self::read(&mut Reader::new(value))
            .ok()
            .flatten()
            .ok_or(Violation::new(CloseCode::KeyValueFormatting, "an authorization token of no known form"))
    }

    fn read(reader: &mut Reader<'_>) -> Read<Option<Self>> {
        let form = match reader.varint()? {
            0 => Self::Delete { alias: reader.varint()? },
            1 => Self::Register { alias: reader.varint()?, token: Token::read(reader)? },
            2 => Self::UseAlias { alias: reader.varint()? },
            3 => Self::UseValue(Token::read(reader)?),
            _ => return Ok(None),
        };
        Ok(reader.is_empty().then_some(form))
    }

    pub fn encode(&self, out: &mut BytesMut) {
        let (code, alias, token) = match self {
            Self::Delete { alias } => (0, Some(*alias), None),
            Self::Register { alias, token } => (1, Some(*alias), Some(token)),
            Self::UseAlias { alias } => (2, Some(*alias), None),
            Self::UseValue(token) => (3, None, Some(token)),
        };
        varint::put(out, code);
        if let Some(alias) = alias {
            varint::put(out, alias);
        }
        if let Some(token) = token {
            varint::put(out, token.kind);
            out.extend_from_slice(&token.value);
        }
    }
}

impl Token {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        Ok(Self { kind: reader.varint()?, value: reader.rest() })
    }

    pub(crate) fn encoded(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.value.len() + 1 + varint::MAX_LEN);
        Form::UseValue(self.clone()).encode(&mut out);
        out
    }
}

/// Bytes that a registration counts for, beside its value (§10.3.1.3).
const ENTRY_BYTES: u64 = 16;

/// Tokens that a peer has registered.
#[derive(Debug)]
pub(crate) struct TokenCache {
    max_bytes: u64,
    bytes: u64,
    tokens: HashMap<u64, Token>,
}

impl TokenCache {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, bytes: 0, tokens: HashMap::new() }
    }

    /// What a parameter refers to; `None`: it only deletes.
    pub(crate) fn resolve(&mut self, form: Form) -> Result<Option<Token>, Violation> {
        let unknown = || Violation::new(CloseCode::UnknownAuthTokenAlias, "a token alias that is not registered");
        match form {
            Form::UseValue(token) => Ok(Some(token)),
            Form::Register { alias, token } => match self.register(alias, &token)? {
                true => Ok(Some(token)),
                false => Err(Violation::new(CloseCode::AuthTokenCacheOverflow, "more tokens than our cache takes")),
            },
            Form::UseAlias { alias } => self.tokens.get(&alias).cloned().map(Some).ok_or_else(unknown),
            Form::Delete { alias } => {
                let gone = self.tokens.remove(&alias).ok_or_else(unknown)?;
                self.bytes -= entry_bytes(&gone);
                Ok(None)
            }
        }
    }

    /// From SETUP, where what does not fit is used and not kept (§10.3.1.4).
    pub(crate) fn resolve_setup(&mut self, form: Form) -> Result<Token, Violation> {
        match form {
            Form::UseValue(token) => Ok(token),
            Form::Register { alias, token } => self.register(alias, &token).map(|_| token),
            Form::UseAlias { .. } | Form::Delete { .. } => {
                Err(Violation::protocol("SETUP refers to a token alias that can't be registered yet"))
            }
        }
    }

    /// `false`: it does not fit.
    fn register(&mut self, alias: u64, token: &Token) -> Result<bool, Violation> {
        if self.tokens.contains_key(&alias) {
            return Err(Violation::new(CloseCode::DuplicateAuthTokenAlias, "a token alias registered twice"));
        }
        let bytes = self.bytes + entry_bytes(token);
        let fits = bytes <= self.max_bytes;
        if fits {
            self.bytes = bytes;
            self.tokens.insert(alias, token.clone());
        }
        Ok(fits)
    }
}

fn entry_bytes(token: &Token) -> u64 {
    ENTRY_BYTES + token.value.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(form: &Form) -> Bytes {
        let mut out = BytesMut::new();
        form.encode(&mut out);
        out.freeze()
    }

    fn token(value: &'static str) -> Token {
        Token { kind: 0, value: Bytes::from_static(value.as_bytes()) }
    }

    #[test]
    fn every_form_is_read_as_it_was_written_and_nothing_else_is() {
        let register = Form::Register { alias: 7, token: token("jwt") };
        for form in [Form::Delete { alias: 300 }, Form::UseAlias { alias: 1 }, Form::UseValue(token("jwt")), register] {
            assert_eq!(Form::decode(&bytes(&form)), Ok(form));
        }
        for wrong in [&b""[..], b"\x04", b"\x02", b"\x00\x01junk", b"\x03"] {
            let wrong = Bytes::copy_from_slice(wrong);
            assert_eq!(Form::decode(&wrong).map_err(|v| v.code), Err(CloseCode::KeyValueFormatting));
        }
    }

    #[test]
    fn aliases_are_registered_used_and_deleted_within_the_size() {
        let mut cache = TokenCache::new(2 * (ENTRY_BYTES + 3));
        let register = |alias| Form::Register { alias, token: token("jwt") };
        assert_eq!(cache.resolve(register(1)), Ok(Some(token("jwt"))));
        assert_eq!(cache.resolve(Form::UseAlias { alias: 1 }), Ok(Some(token("jwt"))));
        let code = |result: Result<Option<Token>, Violation>| result.map_err(|violation| violation.code);
        assert_eq!(code(cache.resolve(register(1))), Err(CloseCode::DuplicateAuthTokenAlias));
        assert_eq!(code(cache.resolve(Form::UseAlias { alias: 2 })), Err(CloseCode::UnknownAuthTokenAlias));
        assert_eq!(cache.resolve(register(2)), Ok(Some(token("jwt"))));
        assert_eq!(code(cache.resolve(register(3))), Err(CloseCode::AuthTokenCacheOverflow));
        assert_eq!(cache.resolve(Form::Delete { alias: 1 }), Ok(None));
        assert_eq!(code(cache.resolve(Form::Delete { alias: 1 })), Err(CloseCode::UnknownAuthTokenAlias));
        assert_eq!(cache.resolve(register(1)), Ok(Some(token("jwt"))), "its place is free again");
    }

    #[test]
    fn a_setup_uses_what_it_can_not_register() {
        let mut cache = TokenCache::new(0);
        let register = Form::Register { alias: 7, token: token("jwt") };
        assert_eq!(cache.resolve_setup(register.clone()), Ok(token("jwt")));
        let code = |form| TokenCache::new(0).resolve(form).map_err(|violation| violation.code);
        assert_eq!(code(register), Err(CloseCode::AuthTokenCacheOverflow));
        assert_eq!(code(Form::UseAlias { alias: 7 }), Err(CloseCode::UnknownAuthTokenAlias));
        let deleted = cache.resolve_setup(Form::Delete { alias: 7 }).map_err(|violation| violation.code);
        assert_eq!(deleted, Err(CloseCode::ProtocolViolation));
    }
}
