//! The Token structure (§10.2.2), in SETUP and as a parameter.
//!
//! Our cache size is 0 (§10.3.1.3), so a peer may not register aliases: only the form that carries the value becomes a
//! [`Token`]; the others are answered with the code the draft gives each of them.

use bytes::{Bytes, BytesMut};

use super::codec::{Read, Reader};
use super::error::{CloseCode, Violation};
use super::varint;

/// AUTHORIZATION_TOKEN (§10.2.2) in its USE_VALUE form; alias forms are refused while our cache size is 0.
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

    /// As a message parameter: the cache holds nothing, so no alias is known and none can be added.
    pub(crate) fn in_message(value: &Bytes) -> Result<Self, Violation> {
        match Form::decode(value)? {
            Form::UseValue(token) => Ok(token),
            Form::Register { .. } => {
                Err(Violation::new(CloseCode::AuthTokenCacheOverflow, "our token cache size is 0"))
            }
            Form::UseAlias { .. } | Form::Delete { .. } => {
                Err(Violation::new(CloseCode::UnknownAuthTokenAlias, "no token alias is registered"))
            }
        }
    }

    /// In SETUP a registration that does not fit counts as USE_VALUE (§10.3.1.4).
    pub(crate) fn in_setup(value: &Bytes) -> Result<Self, Violation> {
        match Form::decode(value)? {
            Form::UseValue(token) | Form::Register { token, .. } => Ok(token),
            Form::UseAlias { .. } | Form::Delete { .. } => {
                Err(Violation::protocol("SETUP refers to a token alias that can't be registered yet"))
            }
        }
    }

    pub(crate) fn encoded(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.value.len() + 1 + varint::MAX_LEN);
        Form::UseValue(self.clone()).encode(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(form: &Form) -> Bytes {
        let mut out = BytesMut::new();
        form.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn every_form_is_answered_as_the_draft_says() {
        let token = Token { kind: 0, value: Bytes::from_static(b"jwt") };
        let code = |form: &Form| Token::in_message(&bytes(form)).map_err(|v| v.code);
        let setup = |form: &Form| Token::in_setup(&bytes(form)).map_err(|v| v.code);
        let register = Form::Register { alias: 7, token: token.clone() };
        for form in
            [Form::Delete { alias: 300 }, Form::UseAlias { alias: 1 }, Form::UseValue(token.clone()), register.clone()]
        {
            assert_eq!(Form::decode(&bytes(&form)), Ok(form));
        }
        assert_eq!(code(&Form::UseValue(token.clone())), Ok(token.clone()));
        assert_eq!(code(&register), Err(CloseCode::AuthTokenCacheOverflow));
        assert_eq!(code(&Form::UseAlias { alias: 7 }), Err(CloseCode::UnknownAuthTokenAlias));
        assert_eq!(setup(&register), Ok(token));
        assert_eq!(setup(&Form::Delete { alias: 7 }), Err(CloseCode::ProtocolViolation));
        for wrong in [&b""[..], b"\x04", b"\x02", b"\x00\x01junk", b"\x03"] {
            let wrong = Bytes::copy_from_slice(wrong);
            assert_eq!(Form::decode(&wrong).map_err(|v| v.code), Err(CloseCode::KeyValueFormatting));
        }
    }
}
