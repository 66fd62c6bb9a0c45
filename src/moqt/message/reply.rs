//! What answers or ends a request: REQUEST_OK (§10.5), REQUEST_ERROR with its redirect (§10.6), GOAWAY (§10.4).

use std::time::Duration;

use bytes::BytesMut;

use super::{Message, Parameters, Scopes, TrackProperties};
use crate::moqt::codec::{Read, Reader, put_prefixed};
use crate::moqt::error::{RequestErrorCode, Violation};
use crate::moqt::name::FullTrackName;
use crate::moqt::parameters::to_millis;
use crate::moqt::varint;
use crate::moqt::version::{Draft, Profile};

/// Longest reason phrase (§1.4.4).
pub const MAX_REASON: usize = 1024;
/// Longest URI of GOAWAY (§10.4) and, for lack of a bound of its own, of a redirect.
pub const MAX_URI: usize = 8192;

/// The good answer to PUBLISH, REQUEST_UPDATE, TRACK_STATUS and the namespace requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOk {
    pub parameters: Parameters,
    /// Of a TRACK_STATUS only.
    pub properties: TrackProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// See [`RequestErrorCode`]; unknown codes are kept.
    pub code: u64,
    /// `None`: don't retry.
    pub retry_after: Option<Duration>,
    pub reason: String,
}

/// Where else to ask (§10.6.1). An empty URI is this session's; an empty name is the request's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub uri: String,
    pub track: FullTrackName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub uri: String,
    pub timeout: Option<Duration>,
}

impl RequestOk {
    pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile) -> Read<Self> {
        Ok(Self {
            parameters: Parameters::decode(reader, profile, Scopes::REQUEST_OK)?,
            properties: TrackProperties::decode(reader)?,
        })
    }

    pub(super) fn encode(&self, profile: &Profile, out: &mut BytesMut) {
        self.parameters.encode(profile, out);
        out.extend_from_slice(&self.properties.0);
    }

    /// Checks what only the request decides: which parameters fit, and that no properties come with other answers than
    /// TRACK_STATUS_OK (§10.5).
    pub fn fit(&self, draft: Draft, scopes: Scopes) -> Result<(), Violation> {
        if scopes != Scopes::TRACK_STATUS_OK && !self.properties.0.is_empty() {
            return Err(Violation::protocol("track properties in an answer that has none"));
        }
        self.parameters.fit(draft.profile(), scopes)
    }
}

impl RequestError {
    /// A code with a reason, not to be retried.
    pub fn new(code: RequestErrorCode, reason: impl Into<String>) -> Self {
        Self { code: code as u64, retry_after: None, reason: reason.into() }
    }

    pub(super) fn encode(&self, redirect: Option<&Redirect>, profile: &Profile, out: &mut BytesMut) {
        let duplicate = self.code == RequestErrorCode::DuplicateSubscription as u64;
        let gone = duplicate && !profile.one_subscription;
        varint::put(out, if gone { RequestErrorCode::Uninterested as u64 } else { self.code });
        varint::put(out, self.retry_after.map_or(0, |after| to_millis(after).saturating_add(1)));
        put_reason(out, &self.reason);
        if let Some(redirect) = redirect {
            put_prefixed(out, redirect.uri.as_bytes());
            redirect.track.encode(out);
        } else if self.code == RequestErrorCode::Redirect as u64 {
            // The code promises the structure: no URI, no namespace fields, no name say "the same again".
            out.extend_from_slice(&[0, 0, 0]);
        }
    }
}

pub(super) fn decode_error(reader: &mut Reader<'_>) -> Read<Message> {
    let code = reader.varint()?;
    let retry_after = reader.varint()?.checked_sub(1).map(Duration::from_millis);
    let error = RequestError { code, retry_after, reason: reason(reader)? };
    if code != RequestErrorCode::Redirect as u64 {
        return Ok(Message::RequestError(error));
    }
    let redirect = Redirect { uri: uri(reader)?, track: FullTrackName::decode(reader)? };
    Ok(Message::Redirected { error, redirect })
}

impl GoAway {
    pub(super) fn encode(&self, request: Option<u64>, out: &mut BytesMut) {
        put_prefixed(out, self.uri.as_bytes());
        varint::put(out, self.timeout.map_or(0, to_millis));
        if let Some(request) = request {
            varint::put(out, request);
        }
    }
}

pub(super) fn decode_goaway(reader: &mut Reader<'_>, profile: &Profile) -> Read<Message> {
    let uri = uri(reader)?;
    let timeout = Some(reader.varint()?).filter(|timeout| *timeout != 0).map(Duration::from_millis);
    let request = if reader.is_empty() || !profile.goaway_has_request { None } else { Some(reader.varint()?) };
    Ok(Message::GoAway { goaway: GoAway { uri, timeout }, request })
}

/// A phrase is for people: what is not UTF-8 in it is replaced.
pub(super) fn reason(reader: &mut Reader<'_>) -> Read<String> {
    let phrase = reader.prefixed(MAX_REASON, "a reason phrase longer than 1024 bytes")?;
    Ok(String::from_utf8_lossy(&phrase).into_owned())
}

/// Cuts at a character's border where the draft's bound would be passed.
pub(super) fn put_reason(out: &mut BytesMut, reason: &str) {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    put_prefixed(out, &reason.as_bytes()[..end]);
}

fn uri(reader: &mut Reader<'_>) -> Read<String> {
    let uri = reader.prefixed(MAX_URI, "a URI longer than 8192 bytes")?;
    match std::str::from_utf8(&uri) {
        Ok(uri) => Ok(uri.to_owned()),
        Err(_) => Err(Violation::protocol("a URI that is not UTF-8").into()),
    }
}
