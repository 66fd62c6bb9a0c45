//! WebTransport over HTTP/3 on one connection, either side: SETTINGS, one CONNECT, then streams and datagrams of its session
//! (draft-ietf-webtrans-http3; RFC 9220, RFC 9297).
//!
//! Owned by its connection in [`quic`](super::quic), which asks it about every stream of the peer that the session does not
//! know yet. It serves one session per connection and no other request. Clients of all drafts of the settings are welcome; a
//! server must allow WebTransport by one of them.

mod wire;

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn_proto::{Connection, ReadError, VarInt};
use web_transport_proto::{
    ConnectError, ConnectRequest, ConnectResponse, Setting, Settings, SettingsError, error_from_http3, error_to_http3,
    http,
};

use super::streams::WireId;
use crate::moqt::{Draft, Drafts};
use wire::{Capsules, Head};

/// H3_NO_ERROR, H3_STREAM_CREATION_ERROR, H3_REQUEST_REJECTED (RFC 9114 §8.1).
const NO_ERROR: u32 = 0x100;
const STREAM_CREATION_ERROR: u32 = 0x103;
const REQUEST_REJECTED: u32 = 0x10b;
/// SETTINGS_WT_MAX_SESSIONS and SETTINGS_WT_ENABLED of later drafts, which the settings table of the crate lacks.
const LATER_SETTINGS: [u32; 2] = [0x14e9_cd29, 0x2c7c_f000];
/// SETTINGS and headers must fit in this.
const HANDSHAKE_BYTES: usize = 64 << 10;

/// A session of the peer or of ours has been agreed on.
pub(super) struct Agreed {
    pub(super) draft: Draft,
    /// Of the CONNECT, for its server.
    pub(super) path: Option<String>,
    /// What each stream of ours starts with, by direction.
    pub(super) heads: [Bytes; 2],
    /// Streams of the peer that came early.
    pub(super) early: Vec<WireId>,
}

/// What reading a stream led to.
pub(super) enum Step {
    None,
    Agreed(Agreed),
    /// The stream belongs to the session: it begins.
    Stream(WireId),
    /// The peer closed the session.
    Closed {
        code: u64,
        reason: String,
    },
    /// The handshake can't succeed; for people.
    Failed(String),
}

/// What a stream of the peer turned out to be.
enum Incoming {
    Head(Vec<u8>),
    Control(BytesMut),
    Connect(BytesMut),
    Ignored,
}

pub(super) struct WebTransport {
    /// Of a dial.
    url: Option<url::Url>,
    drafts: Drafts,
    incoming: HashMap<WireId, Incoming>,
    early: Vec<WireId>,
    /// The CONNECT stream: its id names the session.
    connect: Option<WireId>,
    capsules: Capsules,
    is_agreed: bool,
}

impl WebTransport {
    /// Sends SETTINGS; a client goes on with its CONNECT when the server's have come.
    pub(super) fn begin(url: Option<url::Url>, drafts: Drafts, connection: &mut Connection) -> Result<Self, String> {
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut bytes = BytesMut::new();
        settings.encode(&mut bytes);
        let control = connection.streams().open(quinn_proto::Dir::Uni);
        control.filter(|control| write(connection, *control, &bytes)).ok_or("it allows no HTTP/3 control stream")?;
        let (incoming, early, capsules) = (HashMap::new(), Vec::new(), Capsules::default());
        Ok(Self { url, drafts, incoming, early, connect: None, capsules, is_agreed: false })
    }

    /// The peer opened a stream: [`read`](Self::read) it.
    pub(super) fn accept(&mut self, id: WireId) {
        self.incoming.insert(id, Incoming::Head(Vec::new()));
    }

    /// A stream that the session does not know (yet).
    pub(super) fn read(&mut self, connection: &mut Connection, id: WireId) -> Step {
        if self.connect != Some(id) && !self.incoming.contains_key(&id) {
            // Not accepted yet, or the session's before it is agreed: the bytes stay where they are until then.
            return Step::None;
        }
        if let Some(Incoming::Head(bytes)) = self.incoming.get_mut(&id) {
            match read_head(connection, id, bytes) {
                Ok(Some(head)) => return self.begin_stream(connection, id, head),
                Ok(None) => return Step::None,
                Err(Over) => {
                    self.incoming.remove(&id);
                    return Step::None;
                }
            }
        }
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return Step::None };
        let (mut bytes, mut ended) = (BytesMut::new(), false);
        loop {
            match chunks.next(HANDSHAKE_BYTES) {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
                Err(ReadError::Blocked) => break,
                Ok(None) | Err(ReadError::Reset(_)) => {
                    ended = true;
                    break;
                }
            }
        }
        let _ = chunks.finalize();
        self.take(connection, id, &bytes, ended)
    }

    fn begin_stream(&mut self, connection: &mut Connection, id: WireId, head: Head) -> Step {
        let start = match self.incoming.remove(&id) {
            Some(Incoming::Head(bytes)) => BytesMut::from(&bytes[..]),
            _ => BytesMut::new(),
        };
        let serves = self.url.is_none();
        let kind = match head {
            Head::Session(_) if self.is_agreed => return Step::Stream(id),
            Head::Session(_) => {
                self.early.push(id);
                return Step::None;
            }
            Head::Control => Incoming::Control(start),
            Head::Request if serves && self.connect.is_none() => {
                self.connect = Some(id);
                Incoming::Connect(start)
            }
            Head::Ignored => Incoming::Ignored,
            Head::Request | Head::Unknown => {
                refuse(connection, id);
                return Step::None;
            }
        };
        self.incoming.insert(id, kind);
        self.read(connection, id)
    }

    fn take(&mut self, connection: &mut Connection, id: WireId, bytes: &[u8], ended: bool) -> Step {
        if self.is_agreed && Some(id) == self.connect {
            return match self.capsules.push(bytes) {
                Ok(Some((code, reason))) => Step::Closed { code: code.into(), reason },
                Ok(None) if ended => Step::Closed { code: 0, reason: String::new() },
                Ok(None) => Step::None,
                Err(wire::TooLong) => Step::Closed { code: 0, reason: "bytes that are no capsules".into() },
            };
        }
        let step = match self.incoming.get_mut(&id) {
            Some(Incoming::Control(held)) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                self.settings(connection, id, held)
            }
            Some(Incoming::Connect(held)) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                self.connect_bytes(connection, id, held)
            }
            Some(_) if ended => {
                self.incoming.remove(&id);
                return Step::None;
            }
            _ => return Step::None,
        };
        if ended && matches!(step, Step::None) && !self.is_agreed && Some(id) == self.connect {
            return Step::Failed("it ended the CONNECT without an answer".into());
        }
        step
    }

    fn settings(&mut self, connection: &mut Connection, id: WireId, held: BytesMut) -> Step {
        let settings = match Settings::decode(&mut &held[..]) {
            Ok(settings) => settings,
            Err(SettingsError::UnexpectedEnd) if held.len() < HANDSHAKE_BYTES => {
                self.incoming.insert(id, Incoming::Control(held));
                return Step::None;
            }
            Err(error) => return Step::Failed(format!("its HTTP/3 settings are damaged: {error}")),
        };
        self.incoming.insert(id, Incoming::Ignored);
        let Some(url) = self.url.clone().filter(|_| self.connect.is_none()) else { return Step::None };
        let later = LATER_SETTINGS.map(|setting| Setting(web_transport_proto::VarInt::from_u32(setting)));
        let allows = settings.supports_webtransport() > 0
            || later.iter().any(|setting| settings.get(setting).is_some_and(|value| value.into_inner() > 0));
        match allows {
            true => self.send_connect(connection, url),
            false => Step::Failed("it speaks HTTP/3 but not WebTransport: check the port".into()),
        }
    }

    fn send_connect(&mut self, connection: &mut Connection, url: url::Url) -> Step {
        let offer = self.drafts.iter().map(|draft| draft.alpn().to_owned());
        let request = ConnectRequest::new(url).with_protocols(offer.collect::<Vec<_>>());
        let mut bytes = BytesMut::new();
        if let Err(error) = request.encode(&mut bytes) {
            return Step::Failed(format!("this URL can't be asked for: {error}"));
        }
        let Some(id) = connection.streams().open(quinn_proto::Dir::Bi).filter(|id| write(connection, *id, &bytes))
        else {
            return Step::Failed("it allows no request stream".into());
        };
        self.connect = Some(id);
        self.incoming.insert(id, Incoming::Connect(BytesMut::new()));
        Step::None
    }

    fn connect_bytes(&mut self, connection: &mut Connection, id: WireId, held: BytesMut) -> Step {
        let mut rest = &held[..];
        let agreed = match self.url.is_some() {
            true => {
                ConnectResponse::decode(&mut rest).map(|response| (agreed_draft(response.protocol.as_deref()), None))
            }
            false => ConnectRequest::decode(&mut rest).map(|request| self.answer(connection, id, &request)),
        };
        match agreed {
            Ok((Some(draft), path)) => {
                self.is_agreed = true;
                // Bytes behind the headers are capsules already.
                let used = held.len() - rest.len();
                if let Ok(Some((code, reason))) = self.capsules.push(&held[used..]) {
                    return Step::Closed { code: code.into(), reason };
                }
                let (heads, early) = (wire::stream_heads(u64::from(id)), std::mem::take(&mut self.early));
                Step::Agreed(Agreed { draft, path, heads, early })
            }
            Ok((None, _)) => Step::Failed("it speaks no draft of MoQT that we do (WT-Protocol)".into()),
            Err(ConnectError::UnexpectedEnd) if held.len() < HANDSHAKE_BYTES => {
                self.incoming.insert(id, Incoming::Connect(held));
                Step::None
            }
            Err(error) => Step::Failed(format!("it refused the WebTransport session: {error}")),
        }
    }

    /// The server's word: the first of our drafts that the client offers.
    fn answer(
        &self,
        connection: &mut Connection,
        id: WireId,
        request: &ConnectRequest,
    ) -> (Option<Draft>, Option<String>) {
        let offered = &request.protocols;
        let chosen = self.drafts.iter().find(|draft| offered.iter().any(|name| name == draft.alpn()));
        let response = match chosen {
            Some(draft) => ConnectResponse::OK.with_protocol(draft.alpn()),
            None if offered.is_empty() => ConnectResponse::OK,
            None => ConnectResponse::new(http::StatusCode::NOT_ACCEPTABLE),
        };
        let mut bytes = BytesMut::new();
        let sent = response.encode(&mut bytes).is_ok() && write(connection, id, &bytes);
        let draft = chosen.or(offered.is_empty().then_some(Draft::UNNAMED)).filter(|_| sent);
        let query = request.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        (draft, Some(format!("{}{query}", request.url.path())))
    }

    /// Says goodbye on the CONNECT stream; the connection's own close follows.
    pub(super) fn close(&self, connection: &mut Connection, code: u64, reason: &str) {
        if let Some(id) = self.connect.filter(|_| self.is_agreed) {
            write(connection, id, &wire::close_frame(session_code(code), reason));
            let _ = connection.send_stream(id).finish();
        }
    }

    /// Quarter stream id, then the payload (RFC 9297 §2.1).
    pub(super) fn wrap_datagram(&self, data: &[u8]) -> Bytes {
        let quarter = wire::varint(self.session() / 4);
        let mut datagram = BytesMut::with_capacity(quarter.size() + data.len());
        quarter.encode(&mut datagram);
        datagram.put_slice(data);
        datagram.freeze()
    }

    /// `None`: not of our session.
    pub(super) fn unwrap_datagram(&self, mut datagram: Bytes) -> Option<Bytes> {
        let mut rest = &datagram[..];
        let quarter = web_transport_proto::VarInt::decode(&mut rest).ok()?;
        let used = datagram.len() - rest.len();
        datagram.advance(used);
        (self.is_agreed && quarter.into_inner() == self.session() / 4).then_some(datagram)
    }

    pub(super) fn datagram_overhead(&self) -> usize {
        wire::varint(self.session() / 4).size()
    }

    fn session(&self) -> u64 {
        self.connect.map_or(0, u64::from)
    }
}

/// Codes of streams and of the session are 32 bits, mapped into a range of HTTP/3's (draft §4.4).
pub(super) fn to_wire(code: u64) -> u64 {
    error_to_http3(session_code(code))
}

/// Codes outside the range are HTTP/3's own: for MoQT an internal error of the peer.
pub(super) fn from_wire(code: u64) -> u64 {
    error_from_http3(code).map_or(crate::moqt::ResetCode::InternalError as u64, u64::from)
}

/// Of the connection that carried a session.
pub(super) fn close_from_wire(code: u64) -> u64 {
    match error_from_http3(code) {
        Some(code) => code.into(),
        None if code == u64::from(NO_ERROR) => 0,
        None => code,
    }
}

/// After the peer closed the session.
pub(super) fn no_error() -> VarInt {
    VarInt::from_u32(NO_ERROR)
}

fn session_code(code: u64) -> u32 {
    u32::try_from(code).unwrap_or(u32::MAX)
}

fn agreed_draft(protocol: Option<&str>) -> Option<Draft> {
    protocol.map_or(Some(Draft::UNNAMED), |name| Draft::from_alpn(name.as_bytes()))
}

/// A stream ended before it said what it is.
struct Over;

/// Only as many bytes as the head needs; the rest stays where it is until the session takes it.
fn read_head(connection: &mut Connection, id: WireId, bytes: &mut Vec<u8>) -> Result<Option<Head>, Over> {
    let unidirectional = id.dir() == quinn_proto::Dir::Uni;
    let mut stream = connection.recv_stream(id);
    let mut chunks = stream.read(true).map_err(|_| Over)?;
    let head = loop {
        if let Some(head) = wire::head(bytes, unidirectional) {
            break Ok(Some(head));
        }
        match chunks.next(wire::missing(bytes)) {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Err(ReadError::Blocked) => break Ok(None),
            Ok(None) | Err(ReadError::Reset(_)) => break Err(Over),
        }
    };
    let _ = chunks.finalize();
    head
}

fn refuse(connection: &mut Connection, id: WireId) {
    let _ = connection.recv_stream(id).stop(VarInt::from_u32(STREAM_CREATION_ERROR));
    if id.dir() == quinn_proto::Dir::Bi {
        let _ = connection.send_stream(id).reset(VarInt::from_u32(REQUEST_REJECTED));
    }
}

/// A few hundred bytes at the start of a connection fit its windows, or the peer wants no session.
fn write(connection: &mut Connection, id: WireId, bytes: &[u8]) -> bool {
    connection.send_stream(id).write(bytes).is_ok_and(|written| written == bytes.len())
}
/// For `crate::fuzz`: the start of a stream, and the CONNECT stream behind its headers, in pieces.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(data: &[u8]) {
    for unidirectional in [false, true] {
        if wire::head(data, unidirectional).is_none() {
            assert!(wire::missing(data) > 0);
        }
    }
    let mut capsules = wire::Capsules::default();
    for chunk in data.chunks(7) {
        if !matches!(capsules.push(chunk), Ok(None)) {
            return;
        }
    }
}
