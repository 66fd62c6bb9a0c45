//! Session descriptions (RFC 8866): a [`Description`] read from a body, and the lines of ours.
//!
//! The grammar is `sdp-types`'; what is read here is what one audio call needs: `o=`, `c=`, `t=`, `m=` and the attributes of
//! RTP. Lines of other kinds are skipped unread, so that a wrong one of them ends no call. A body is bounded in bytes, lines
//! and streams before anything is kept. Nothing here decides: that is [`offer`](super::offer)'s.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};

use super::agreed::Direction;
use super::format::{Coding, OpusWishes};

/// A body longer than this is refused unread. The longest of known peers have 3 KB.
pub const MAX_BYTES: usize = 16 * 1024;
/// The same in lines, and in streams (`m=`).
const MAX_LINES: usize = 512;
const MAX_STREAMS: usize = 16;
/// The kinds of lines that are read.
const READ: &[u8] = b"vosctma";

/// Why a body is no session description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("the session description has {0} bytes: at most {MAX_BYTES} are read")]
    TooLong(usize),
    #[error("the session description has more than {MAX_LINES} lines")]
    TooManyLines,
    #[error("the session description has more than {MAX_STREAMS} streams")]
    TooManyStreams,
    #[error("no session description: {0}")]
    Malformed(String),
}

/// A body of the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `o=`: session and version.
    pub session_id: String,
    pub version: u64,
    /// `t=`: an answer repeats them (RFC 3264 §6).
    pub(super) times: Vec<Time>,
    pub streams: Vec<Stream>,
}

/// One `m=` with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub media: String,
    pub proto: String,
    /// The numbers as they stand in the line.
    pub formats: String,
    /// 0: no stream.
    pub port: u16,
    /// `None`: a host name, or nothing that can be sent to.
    pub address: Option<IpAddr>,
    /// `c=IN IP4 0.0.0.0`: nothing may be sent there (RFC 3264 §8.4).
    pub is_blackholed: bool,
    /// Where its RTCP goes, if not to the port after RTP's (RFC 3605).
    pub rtcp: Option<SocketAddr>,
    pub direction: Direction,
    /// ms.
    pub ptime: Option<u32>,
    pub max_ptime: Option<u32>,
    /// In the far end's order.
    pub payloads: Vec<Payload>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub number: u8,
    pub coding: Coding,
    pub fmtp: String,
}

impl Description {
    pub fn read(body: &[u8]) -> Result<Self, SdpError> {
        let text = readable(body)?;
        let session = Session::parse(text.as_bytes()).map_err(|error| SdpError::Malformed(error.to_string()))?;
        if session.medias.len() > MAX_STREAMS {
            return Err(SdpError::TooManyStreams);
        }
        let streams = session.medias.iter().map(|media| Stream::read(media, &session)).collect();
        Ok(Self {
            session_id: session.origin.sess_id,
            version: session.origin.sess_version,
            times: session.times,
            streams,
        })
    }
}

/// The lines that matter, without what stands behind them. Bytes of another charset stand in free text only.
fn readable(body: &[u8]) -> Result<String, SdpError> {
    if body.len() > MAX_BYTES {
        return Err(SdpError::TooLong(body.len()));
    }
    let text = String::from_utf8_lossy(body);
    if text.lines().count() > MAX_LINES {
        return Err(SdpError::TooManyLines);
    }
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().map(|line| line.trim_end()) {
        let Some((kind, value)) = line.split_once('=') else { continue };
        if !matches!(kind.as_bytes(), [kind] if READ.contains(kind)) || !is_of_use(kind, value) {
            continue;
        }
        kept.push_str(kind);
        kept.push('=');
        match kind {
            // One space parts its words (RFC 8866 §5.14), and some write more.
            "m" => value.split_ascii_whitespace().for_each(|word| {
                kept.push_str(word);
                kept.push(' ');
            }),
            _ => kept.push_str(value),
        }
        kept.truncate(kept.trim_end().len());
        kept.push_str("\r\n");
    }
    Ok(kept)
}

/// Nothing hangs on who describes and for when: a wrong `o=` or `t=` is none.
fn is_of_use(kind: &str, value: &str) -> bool {
    let mut words = value.split_ascii_whitespace();
    let is_number = |word: Option<&str>| word.is_some_and(|word| word.parse::<u64>().is_ok());
    match kind {
        "o" => is_number(words.clone().nth(2)) && words.count() == 6,
        "t" => is_number(words.next()) && is_number(words.next()) && words.next().is_none(),
        _ => true,
    }
}

impl Stream {
    fn read(media: &Media, session: &Session) -> Self {
        let connection = media.connections.first().or(session.connection.as_ref());
        let ip = connection.and_then(address);
        let is_blackholed = ip.is_some_and(|ip| ip.is_unspecified());
        let address = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let value = |name| attribute(media, name).or_else(|| of(&session.attributes, name));
        let number = |name| value(name).and_then(|text| text.trim().parse().ok()).filter(|ms| *ms > 0);
        let direction = direction(&media.attributes).or_else(|| direction(&session.attributes)).unwrap_or_default();
        Self {
            media: media.media.clone(),
            proto: media.proto.clone(),
            formats: media.fmt.clone(),
            port: media.port,
            address,
            is_blackholed,
            rtcp: attribute(media, "rtcp").and_then(|text| rtcp(text, address)),
            direction,
            ptime: number("ptime"),
            max_ptime: number("maxptime"),
            payloads: payloads(media),
        }
    }

    /// RTP without encryption, sent to somewhere.
    pub fn is_plain_audio(&self) -> bool {
        let is_plain = self.proto.eq_ignore_ascii_case("RTP/AVP") || self.proto.eq_ignore_ascii_case("RTP/AVPF");
        self.media.eq_ignore_ascii_case("audio") && is_plain && self.port != 0
    }

    pub fn remote(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address?, self.port))
    }

    /// Without an attribute of its own the port after RTP's (RFC 3550 §11).
    pub fn remote_rtcp(&self) -> Option<SocketAddr> {
        self.rtcp.or_else(|| Some(SocketAddr::new(self.address?, self.port.checked_add(1)?)))
    }
}

impl Payload {
    pub(super) fn opus_wishes(&self) -> OpusWishes {
        OpusWishes::read(&self.fmtp)
    }
}

/// Each number once; what is no number is not RTP's.
fn payloads(media: &Media) -> Vec<Payload> {
    let mut payloads: Vec<Payload> = Vec::new();
    for number in media.fmt.split_ascii_whitespace().filter_map(|text| text.parse::<u8>().ok()) {
        if number > 127 || payloads.iter().any(|known| known.number == number) {
            continue;
        }
        let coding = Coding::of(number, numbered(media, "rtpmap", number));
        let fmtp = numbered(media, "fmtp", number).unwrap_or_default().to_owned();
        payloads.push(Payload { number, coding, fmtp });
    }
    payloads
}

/// The rest of the attribute that begins with this number.
fn numbered<'a>(media: &'a Media, name: &str, number: u8) -> Option<&'a str> {
    let all = media.attributes.iter().filter(|attribute| attribute.attribute == name);
    let mut values = all.filter_map(|attribute| attribute.value.as_deref()?.trim().split_once(' '));
    values.find(|(first, _)| first.parse() == Ok(number)).map(|(_, rest)| rest.trim())
}

fn attribute<'a>(media: &'a Media, name: &str) -> Option<&'a str> {
    of(&media.attributes, name)
}

fn of<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.attribute == name)?.value.as_deref()
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::named(&attribute.attribute))
}

/// Without the TTL or count behind a slash.
fn address(connection: &Connection) -> Option<IpAddr> {
    connection.connection_address.split('/').next()?.parse().ok()
}

/// `<port> [IN IP4 <address>]`.
fn rtcp(value: &str, address: Option<IpAddr>) -> Option<SocketAddr> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
    let own = words.nth(2).and_then(|text| text.parse::<IpAddr>().ok());
    Some(SocketAddr::new(own.filter(|ip| !ip.is_unspecified() && !ip.is_multicast()).or(address)?, port))
}

/// The frame of a description of ours: no name, no times but those given.
pub(super) fn session(id: u64, address: IpAddr, times: Vec<Time>) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(id, 0, address), "-");
    session.connection = Some(Connection::from_ip_addr(address));
    session.times = if times.is_empty() { vec![Time::new(0, 0)] } else { times };
    session
}

/// A stream as the line says it; port 0 refuses it (RFC 3264 §6).
pub(super) fn media(media: &str, port: u16, proto: &str, formats: &str) -> Media {
    Media {
        media: media.to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: formats.to_owned(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

pub(super) fn say(media: &mut Media, name: &str, value: Option<String>) {
    media.attributes.push(Attribute { attribute: name.to_owned(), value });
}
