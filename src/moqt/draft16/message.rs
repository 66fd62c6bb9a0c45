//! Control messages of draft 16 (§9): what stands on its one control stream, with the Request IDs that say where it belongs, and
//! our [`Message`] inside.

use bytes::{Bytes, BytesMut};

use super::wire;
use super::{parameters, parameters::put_pairs};
use crate::moqt::codec::{Read, Reader, whole};
use crate::moqt::error::{CloseCode, PublishDoneCode, Violation};
use crate::moqt::message::{
    Fetch, FetchOk, GoAway, Location, MAX_REASON, MAX_URI, Message, PublishDone, RequestError, RequestOk, Scopes,
    Setup, TooLong, TrackProperties,
};
use crate::moqt::name::TrackNamespace;
use crate::moqt::properties::Value;

/// One message of a control stream, or of the stream of a SUBSCRIBE_NAMESPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// CLIENT_SETUP or SERVER_SETUP, with its MAX_REQUEST_ID.
    Setup {
        from_client: bool,
        setup: Setup,
        max_request: u64,
    },
    GoAway(String),
    MaxRequestId(u64),
    RequestsBlocked(u64),
    /// SUBSCRIBE, PUBLISH, PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE (or what it asks for), FETCH or TRACK_STATUS; the id stands inside.
    Request(Message),
    /// REQUEST_UPDATE of the request `of`.
    Update {
        of: u64,
        update: Message,
    },
    /// SUBSCRIBE_OK, REQUEST_OK, REQUEST_ERROR, FETCH_OK or PUBLISH_DONE about the request `to`.
    Answer {
        to: u64,
        answer: Message,
    },
    /// PUBLISH_OK is a message of its own.
    PublishOk {
        to: u64,
        ok: RequestOk,
    },
    Withdraw {
        request: u64,
        kind: Withdrawal,
    },
    Namespace(TrackNamespace),
    NamespaceDone(TrackNamespace),
}

/// How requests end that later drafts end with their stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    Unsubscribe,
    PublishNamespaceDone,
    /// By who was asked, with a code of REQUEST_ERROR.
    PublishNamespaceCancel(u64),
    FetchCancel,
}

mod code {
    pub(super) const REQUEST_UPDATE: u64 = 0x02;
    pub(super) const SUBSCRIBE: u64 = 0x03;
    pub(super) const SUBSCRIBE_OK: u64 = 0x04;
    pub(super) const REQUEST_ERROR: u64 = 0x05;
    pub(super) const PUBLISH_NAMESPACE: u64 = 0x06;
    pub(super) const REQUEST_OK: u64 = 0x07;
    pub(super) const NAMESPACE: u64 = 0x08;
    pub(super) const PUBLISH_NAMESPACE_DONE: u64 = 0x09;
    pub(super) const UNSUBSCRIBE: u64 = 0x0a;
    pub(super) const PUBLISH_DONE: u64 = 0x0b;
    pub(super) const PUBLISH_NAMESPACE_CANCEL: u64 = 0x0c;
    pub(super) const TRACK_STATUS: u64 = 0x0d;
    pub(super) const NAMESPACE_DONE: u64 = 0x0e;
    pub(super) const GOAWAY: u64 = 0x10;
    pub(super) const SUBSCRIBE_NAMESPACE: u64 = 0x11;
    pub(super) const MAX_REQUEST_ID: u64 = 0x15;
    pub(super) const FETCH: u64 = 0x16;
    pub(super) const FETCH_CANCEL: u64 = 0x17;
    pub(super) const FETCH_OK: u64 = 0x18;
    pub(super) const REQUESTS_BLOCKED: u64 = 0x1a;
    pub(super) const PUBLISH: u64 = 0x1d;
    pub(super) const PUBLISH_OK: u64 = 0x1e;
    pub(super) const CLIENT_SETUP: u64 = 0x20;
    pub(super) const SERVER_SETUP: u64 = 0x21;
}

/// Setup parameters (§9.3.1).
mod option {
    pub(super) const PATH: u64 = 0x01;
    pub(super) const MAX_REQUEST_ID: u64 = 0x02;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
    pub(super) const AUTHORITY: u64 = 0x05;
    pub(super) const MOQT_IMPLEMENTATION: u64 = 0x07;
}

/// Subscribe Options of SUBSCRIBE_NAMESPACE (§9.25): PUBLISH, which is SUBSCRIBE_TRACKS in our form; NAMESPACE; or both, when it
/// says FORWARD in our form.
const TRACKS: u64 = 0;
const NAMESPACES: u64 = 1;
const BOTH: u64 = 2;

impl Control {
    /// The message at the start of `bytes` and the bytes it took. `None`: the rest has not arrived.
    pub fn decode(bytes: &Bytes) -> Result<Option<(Self, usize)>, Violation> {
        let mut reader = Reader::new(bytes);
        let Ok(code) = wire::read(&mut reader) else { return Ok(None) };
        let Ok(length) = reader.u16() else { return Ok(None) };
        let Ok(body) = reader.bytes(usize::from(length)) else { return Ok(None) };
        let mut fields = Reader::new(&body);
        let control = whole(Self::read(code, &mut fields))?;
        match fields.is_empty() {
            true => Ok(Some((control, reader.position()))),
            false => Err(Violation::protocol("a message longer than its fields")),
        }
    }

    fn read(code: u64, reader: &mut Reader<'_>) -> Read<Self> {
        Ok(match code {
            code::CLIENT_SETUP | code::SERVER_SETUP => setup(code == code::CLIENT_SETUP, reader)?,
            code::GOAWAY => Self::GoAway(uri(reader)?),
            code::MAX_REQUEST_ID => Self::MaxRequestId(wire::read(reader)?),
            code::REQUESTS_BLOCKED => Self::RequestsBlocked(wire::read(reader)?),
            code::REQUEST_UPDATE => {
                let (id, of) = (wire::read(reader)?, wire::read(reader)?);
                Self::Update {
                    of,
                    update: Message::RequestUpdate {
                        id,
                        parameters: parameters::decode(reader, Scopes::REQUEST_UPDATE)?,
                    },
                }
            }
            code::PUBLISH_OK => {
                let to = wire::read(reader)?;
                Self::PublishOk {
                    to,
                    ok: RequestOk {
                        parameters: parameters::decode(reader, Scopes::PUBLISH_OK)?,
                        ..RequestOk::default()
                    },
                }
            }
            code::UNSUBSCRIBE => Self::withdraw(reader, Withdrawal::Unsubscribe)?,
            code::PUBLISH_NAMESPACE_DONE => Self::withdraw(reader, Withdrawal::PublishNamespaceDone)?,
            code::FETCH_CANCEL => Self::withdraw(reader, Withdrawal::FetchCancel)?,
            code::PUBLISH_NAMESPACE_CANCEL => {
                let (request, error) = (wire::read(reader)?, wire::read(reader)?);
                reason(reader)?;
                Self::Withdraw { request, kind: Withdrawal::PublishNamespaceCancel(error) }
            }
            code::NAMESPACE => Self::Namespace(wire::namespace(reader)?),
            code::NAMESPACE_DONE => Self::NamespaceDone(wire::namespace(reader)?),
            code::SUBSCRIBE_OK | code::REQUEST_OK | code::REQUEST_ERROR | code::FETCH_OK | code::PUBLISH_DONE => {
                Self::Answer { to: wire::read(reader)?, answer: answer(code, reader)? }
            }
            _ => Self::Request(request(code, reader)?),
        })
    }

    fn withdraw(reader: &mut Reader<'_>, kind: Withdrawal) -> Read<Self> {
        Ok(Self::Withdraw { request: wire::read(reader)?, kind })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let start = out.len();
        wire::put(out, self.code().ok_or(TooLong)?);
        let length = out.len();
        out.extend_from_slice(&[0, 0]);
        self.write(out);
        let Ok(body) = u16::try_from(out.len() - length - 2) else {
            out.truncate(start);
            return Err(TooLong);
        };
        out[length..length + 2].copy_from_slice(&body.to_be_bytes());
        Ok(())
    }

    /// `None`: this draft has no such message.
    fn code(&self) -> Option<u64> {
        Some(match self {
            Self::Setup { from_client: true, .. } => code::CLIENT_SETUP,
            Self::Setup { .. } => code::SERVER_SETUP,
            Self::GoAway(_) => code::GOAWAY,
            Self::MaxRequestId(_) => code::MAX_REQUEST_ID,
            Self::RequestsBlocked(_) => code::REQUESTS_BLOCKED,
            Self::Update { .. } => code::REQUEST_UPDATE,
            Self::PublishOk { .. } => code::PUBLISH_OK,
            Self::Namespace(_) => code::NAMESPACE,
            Self::NamespaceDone(_) => code::NAMESPACE_DONE,
            Self::Withdraw { kind, .. } => match kind {
                Withdrawal::Unsubscribe => code::UNSUBSCRIBE,
                Withdrawal::PublishNamespaceDone => code::PUBLISH_NAMESPACE_DONE,
                Withdrawal::PublishNamespaceCancel(_) => code::PUBLISH_NAMESPACE_CANCEL,
                Withdrawal::FetchCancel => code::FETCH_CANCEL,
            },
            Self::Request(message) | Self::Answer { answer: message, .. } => match message {
                Message::Subscribe { .. } => code::SUBSCRIBE,
                Message::Publish { .. } => code::PUBLISH,
                Message::PublishNamespace { .. } => code::PUBLISH_NAMESPACE,
                Message::SubscribeNamespace { .. } | Message::SubscribeTracks { .. } => code::SUBSCRIBE_NAMESPACE,
                Message::TrackStatus { .. } => code::TRACK_STATUS,
                Message::Fetch { fetch: Fetch::Newest { .. }, .. } => return None,
                Message::Fetch { .. } => code::FETCH,
                Message::SubscribeOk { .. } => code::SUBSCRIBE_OK,
                Message::RequestOk(_) => code::REQUEST_OK,
                Message::RequestError(_) | Message::Redirected { .. } => code::REQUEST_ERROR,
                Message::FetchOk(_) => code::FETCH_OK,
                Message::PublishDone(_) => code::PUBLISH_DONE,
                _ => return None,
            },
        })
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Setup { setup, max_request, .. } => put_setup(out, setup, *max_request),
            Self::GoAway(uri) => wire::put_prefixed(out, uri.as_bytes()),
            Self::MaxRequestId(id) | Self::RequestsBlocked(id) => wire::put(out, *id),
            Self::Update { of, update } => {
                if let Message::RequestUpdate { id, parameters } = update {
                    wire::put(out, *id);
                    wire::put(out, *of);
                    parameters::encode(parameters, out);
                }
            }
            Self::PublishOk { to, ok } => {
                wire::put(out, *to);
                parameters::encode(&ok.parameters, out);
            }
            Self::Withdraw { request, kind } => {
                wire::put(out, *request);
                if let Withdrawal::PublishNamespaceCancel(error) = kind {
                    wire::put(out, *error);
                    wire::put(out, 0);
                }
            }
            Self::Namespace(suffix) | Self::NamespaceDone(suffix) => wire::put_namespace(out, suffix),
            Self::Request(message) => put_request(out, message),
            Self::Answer { to, answer } => {
                wire::put(out, *to);
                put_answer(out, answer);
            }
        }
    }
}

fn request(code: u64, reader: &mut Reader<'_>) -> Read<Message> {
    // Known before anything of it is read, so that an unknown type is called by its name.
    if !matches!(code, 0x03 | 0x06 | 0x0d | 0x11 | 0x16 | 0x1d) {
        return Err(Violation::protocol("an unknown message type").into());
    }
    let id = wire::read(reader)?;
    Ok(match code {
        code::PUBLISH_NAMESPACE => {
            let namespace = wire::namespace(reader)?;
            Message::PublishNamespace {
                id,
                namespace,
                parameters: parameters::decode(reader, Scopes::PUBLISH_NAMESPACE)?,
            }
        }
        code::SUBSCRIBE_NAMESPACE => {
            let prefix = wire::namespace(reader)?;
            let options = wire::read(reader)?;
            let mut parameters = parameters::decode(reader, Scopes::SUBSCRIBE_NAMESPACE)?;
            parameters.forward = match options {
                TRACKS => return Ok(Message::SubscribeTracks { id, prefix, parameters }),
                NAMESPACES => None,
                BOTH => Some(parameters.forward.unwrap_or(true)),
                _ => return Err(Violation::protocol("unknown Subscribe Options").into()),
            };
            Message::SubscribeNamespace { id, prefix, parameters }
        }
        code::FETCH => {
            let fetch = fetch(reader)?;
            Message::Fetch { id, fetch, parameters: parameters::decode(reader, Scopes::FETCH)? }
        }
        code::PUBLISH => Message::Publish {
            id,
            track: wire::track(reader)?,
            alias: wire::read(reader)?,
            parameters: parameters::decode(reader, Scopes::PUBLISH)?,
            properties: properties(reader)?,
        },
        _ => {
            let track = wire::track(reader)?;
            let scopes = if code == code::SUBSCRIBE { Scopes::SUBSCRIBE } else { Scopes::TRACK_STATUS };
            let parameters = parameters::decode(reader, scopes)?;
            match code {
                code::SUBSCRIBE => Message::Subscribe { id, track, parameters },
                _ => Message::TrackStatus { id, track, parameters },
            }
        }
    })
}

fn put_request(out: &mut BytesMut, message: &Message) {
    match message {
        Message::Subscribe { id, track, parameters } | Message::TrackStatus { id, track, parameters } => {
            wire::put(out, *id);
            wire::put_track(out, track);
            parameters::encode(parameters, out);
        }
        Message::Publish { id, track, alias, parameters, properties } => {
            wire::put(out, *id);
            wire::put_track(out, track);
            wire::put(out, *alias);
            parameters::encode(parameters, out);
            out.extend_from_slice(&wire::properties_out(&properties.0));
        }
        Message::PublishNamespace { id, namespace, parameters } => {
            wire::put(out, *id);
            wire::put_namespace(out, namespace);
            parameters::encode(parameters, out);
        }
        Message::SubscribeNamespace { id, prefix, parameters }
        | Message::SubscribeTracks { id, prefix, parameters } => {
            let options = match (message, parameters.forward) {
                (Message::SubscribeTracks { .. }, _) => TRACKS,
                (_, None) => NAMESPACES,
                (_, Some(_)) => BOTH,
            };
            wire::put(out, *id);
            wire::put_namespace(out, prefix);
            wire::put(out, options);
            parameters::encode(parameters, out);
        }
        Message::Fetch { id, fetch, parameters } => {
            wire::put(out, *id);
            put_fetch(out, fetch);
            parameters::encode(parameters, out);
        }
        _ => {}
    }
}

fn fetch(reader: &mut Reader<'_>) -> Read<Fetch> {
    Ok(match wire::read(reader)? {
        1 => {
            let (track, start) = (wire::track(reader)?, wire::location(reader)?);
            Fetch::Standalone { track, start, end: wire::location(reader)? }
        }
        2 => Fetch::RelativeJoining { request: wire::read(reader)?, groups: wire::read(reader)? },
        3 => Fetch::AbsoluteJoining { request: wire::read(reader)?, group: wire::read(reader)? },
        _ => return Err(Violation::protocol("an unknown fetch type").into()),
    })
}

fn put_fetch(out: &mut BytesMut, fetch: &Fetch) {
    match fetch {
        Fetch::Standalone { track, start, end } => {
            wire::put(out, 1);
            wire::put_track(out, track);
            wire::put_location(out, *start);
            wire::put_location(out, *end);
        }
        Fetch::RelativeJoining { request, groups: start } | Fetch::AbsoluteJoining { request, group: start } => {
            wire::put(out, if matches!(fetch, Fetch::RelativeJoining { .. }) { 2 } else { 3 });
            wire::put(out, *request);
            wire::put(out, *start);
        }
        Fetch::Newest { .. } => {}
    }
}

fn answer(code: u64, reader: &mut Reader<'_>) -> Read<Message> {
    Ok(match code {
        code::SUBSCRIBE_OK => Message::SubscribeOk {
            alias: wire::read(reader)?,
            parameters: parameters::decode(reader, Scopes::SUBSCRIBE_OK)?,
            properties: properties(reader)?,
        },
        code::REQUEST_OK => {
            let parameters = parameters::decode(reader, Scopes::REQUEST_OK)?;
            Message::RequestOk(RequestOk {
                parameters: parameters::only(&parameters, Scopes::REQUEST_OK),
                ..RequestOk::default()
            })
        }
        code::REQUEST_ERROR => {
            let code = wire::read(reader)?;
            let retry_after = wire::read(reader)?.checked_sub(1).map(std::time::Duration::from_millis);
            Message::RequestError(RequestError { code, retry_after, reason: reason(reader)? })
        }
        code::FETCH_OK => {
            let end_of_track = match reader.u8()? {
                end @ 0..=1 => end == 1,
                _ => return Err(Violation::protocol("an End Of Track that is neither 0 nor 1").into()),
            };
            let end: Location = wire::location(reader)?;
            let parameters = parameters::decode(reader, Scopes::FETCH_OK)?;
            Message::FetchOk(FetchOk { end_of_track, end, parameters, properties: properties(reader)? })
        }
        _ => {
            let (code, streams) = (wire::read(reader)?, wire::read(reader)?);
            Message::PublishDone(PublishDone { code: done_code(code), streams, reason: reason(reader)? })
        }
    })
}

fn put_answer(out: &mut BytesMut, answer: &Message) {
    match answer {
        Message::SubscribeOk { alias, parameters, properties } => {
            wire::put(out, *alias);
            parameters::encode(parameters, out);
            out.extend_from_slice(&wire::properties_out(&properties.0));
        }
        Message::RequestOk(ok) => parameters::encode(&ok.parameters, out),
        Message::RequestError(error) | Message::Redirected { error, .. } => {
            wire::put(out, error.code);
            let retry = error.retry_after.map_or(0, |after| (after.as_millis() as u64).saturating_add(1));
            wire::put(out, retry);
            put_reason(out, &error.reason);
        }
        Message::FetchOk(ok) => {
            out.extend_from_slice(&[u8::from(ok.end_of_track)]);
            wire::put_location(out, ok.end);
            parameters::encode(&ok.parameters, out);
            out.extend_from_slice(&wire::properties_out(&ok.properties.0));
        }
        Message::PublishDone(done) => {
            wire::put(out, done_code(done.code));
            wire::put(out, done.streams);
            put_reason(out, &done.reason);
        }
        _ => {}
    }
}

/// EXPIRED and TOO_FAR_BEHIND have changed places since.
fn done_code(code: u64) -> u64 {
    const EXPIRED: u64 = PublishDoneCode::Expired as u64;
    const TOO_FAR_BEHIND: u64 = PublishDoneCode::TooFarBehind as u64;
    match code {
        EXPIRED => TOO_FAR_BEHIND,
        TOO_FAR_BEHIND => EXPIRED,
        other => other,
    }
}

/// The rest of the message.
fn properties(reader: &mut Reader<'_>) -> Read<TrackProperties> {
    Ok(TrackProperties(wire::properties_in(&reader.rest())?))
}

fn setup(from_client: bool, reader: &mut Reader<'_>) -> Read<Control> {
    let (mut setup, mut max_request, mut last) = (Setup::default(), 0, None);
    for _ in 0..wire::read(reader)? {
        let (key, value) = wire::pair(reader, last.unwrap_or(0))?;
        let known = (option::PATH..=option::MOQT_IMPLEMENTATION).contains(&key) && key != 0x06;
        if known && last == Some(key) && key != option::AUTHORIZATION_TOKEN {
            return Err(Violation::protocol("a setup parameter given twice").into());
        }
        last = Some(key);
        match (key, value) {
            (option::MAX_REQUEST_ID, Value::Number(id)) => max_request = id,
            (option::MAX_AUTH_TOKEN_CACHE_SIZE, Value::Number(size)) => setup.max_token_cache = size,
            (option::AUTHORIZATION_TOKEN, Value::Bytes(value)) => {
                setup.add_token(&parameters::token_in(&value)?)?;
            }
            (option::PATH, Value::Bytes(path)) => {
                setup.path = Some(text(&path, CloseCode::MalformedPath, "a PATH that is no URI")?);
            }
            (option::AUTHORITY, Value::Bytes(name)) => {
                setup.authority = Some(text(&name, CloseCode::MalformedAuthority, "an AUTHORITY that is no URI")?);
            }
            (option::MOQT_IMPLEMENTATION, Value::Bytes(name)) => {
                setup.implementation = Some(String::from_utf8_lossy(&name).into_owned());
            }
            _ => {}
        }
    }
    Ok(Control::Setup { from_client, setup, max_request })
}

fn put_setup(out: &mut BytesMut, setup: &Setup, max_request: u64) {
    let text = |key, text: &Option<String>| text.as_ref().map(|text| (key, Value::Bytes(text.clone().into())));
    let mut pairs = Vec::new();
    pairs.extend(text(option::PATH, &setup.path));
    pairs.push((option::MAX_REQUEST_ID, Value::Number(max_request)));
    for token in &setup.tokens {
        let mut value = BytesMut::new();
        parameters::put_token(&mut value, token);
        pairs.push((option::AUTHORIZATION_TOKEN, Value::Bytes(value.freeze())));
    }
    if setup.max_token_cache != 0 {
        pairs.push((option::MAX_AUTH_TOKEN_CACHE_SIZE, Value::Number(setup.max_token_cache)));
    }
    pairs.extend(text(option::AUTHORITY, &setup.authority));
    pairs.extend(text(option::MOQT_IMPLEMENTATION, &setup.implementation));
    put_pairs(out, &pairs);
}

fn text(bytes: &Bytes, code: CloseCode, reason: &'static str) -> Result<String, Violation> {
    match bytes.iter().all(u8::is_ascii_graphic) {
        true => Ok(bytes.iter().map(|byte| *byte as char).collect()),
        false => Err(Violation::new(code, reason)),
    }
}

fn uri(reader: &mut Reader<'_>) -> Read<String> {
    let uri = wire::prefixed(reader, MAX_URI, "a URI longer than 8192 bytes")?;
    String::from_utf8(uri.to_vec()).map_err(|_| Violation::protocol("a URI that is not UTF-8").into())
}

fn reason(reader: &mut Reader<'_>) -> Read<String> {
    let phrase = wire::prefixed(reader, MAX_REASON, "a reason phrase longer than 1024 bytes")?;
    Ok(String::from_utf8_lossy(&phrase).into_owned())
}

fn put_reason(out: &mut BytesMut, reason: &str) {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    wire::put_prefixed(out, &reason.as_bytes()[..end]);
}

/// A GOAWAY as later drafts have it.
pub(super) fn goaway(uri: String) -> Message {
    Message::GoAway { goaway: GoAway { uri, timeout: None }, request: None }
}
