//! One QUIC connection under one session: what arrives goes into `handle_*`, what `poll_transmit` gives goes out.
//!
//! Owned by its link; knows no socket. Raw QUIC hands streams through as they are; WebTransport adds what `webtransport` says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{Connection, ConnectionHandle, ConnectionId, Event, ReadError, StreamEvent, VarInt};

use super::congestion::{Demand, Meter};
use super::datagrams::{Datagrams, Told};
use super::quiet::Quiet;
use super::streams::{Streams, WireId, varint};
use super::transport::{BIDI_STREAMS_MAX, H3, UNI_STREAMS_MAX};
use super::webtransport::{self, Agreed, Step, WebTransport};
use super::{Counters, Down, LinkEvent, Path, Peer, Wire, down};
use crate::moqt::message::Setup;
use crate::moqt::session::{Config, Dir, Limits, Role};
use crate::moqt::{Draft, Drafts, Session, Transmit};

/// A dial without an answer by then has failed: the server is down or UDP is blocked. Who knocks has as long to become a session.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection needs to become a session.
pub(super) struct Birth {
    pub(super) role: Role,
    /// For WebTransport; of raw QUIC TLS has chosen.
    pub(super) drafts: Drafts,
    pub(super) setup: Setup,
    pub(super) limits: Limits,
    /// Of a dial.
    pub(super) url: Option<url::Url>,
    /// What the connection's controller is told.
    pub(super) demand: Demand,
    /// Of a dial: see [`dial`](super::dial).
    pub(super) first_id: Option<ConnectionId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// TLS, and the CONNECT of WebTransport.
    Handshake,
    Up,
    /// The app was told; packets are still answered until the connection is drained (RFC 9000 §10.2).
    Down,
}

pub(super) struct Quic {
    pub(super) handle: ConnectionHandle,
    pub(super) connection: Connection,
    birth: Birth,
    state: State,
    streams: Streams,
    /// Streams that the peer opened in this turn: read after those that were there.
    fresh: VecDeque<WireId>,
    max_datagram: Option<usize>,
    quiet: Quiet,
    meter: Meter,
    datagrams: Datagrams,
    web: Option<Box<WebTransport>>,
    born: Instant,
    /// Asked for by the session; carried out after what it said before is sent.
    closing: Option<(u64, String)>,
}

/// What the link sees besides the connection.
pub(super) struct Context<'a> {
    pub(super) session: &'a mut Option<Session>,
    pub(super) news: &'a mut VecDeque<LinkEvent>,
    pub(super) counters: &'a mut Counters,
    pub(super) now: Instant,
}

impl Quic {
    pub(super) fn new(handle: ConnectionHandle, connection: Connection, birth: Birth, now: Instant) -> Self {
        let meter = Meter::new(birth.demand.clone(), now);
        Self {
            handle,
            connection,
            birth,
            state: State::Handshake,
            streams: Streams::new(),
            fresh: VecDeque::new(),
            max_datagram: None,
            quiet: Quiet::default(),
            meter,
            datagrams: Datagrams::default(),
            web: None,
            born: now,
            closing: None,
        }
    }

    /// In its TLS handshake, for the bound on those who knock.
    pub(super) fn is_knocking(&self) -> bool {
        self.birth.role == Role::Server && self.connection.is_handshaking()
    }

    /// After packets came in or a timer fired.
    pub(super) fn intake(&mut self, cx: &mut Context<'_>) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.connected(cx),
                Event::ConnectionLost { reason } => {
                    let code = if self.web.is_some() { webtransport::close_from_wire } else { |code| code };
                    let down = down::lost(&reason, self.state == State::Up, &self.target(), code);
                    self.down(cx, down);
                }
                Event::Stream(event) => self.stream_event(cx, event),
                Event::DatagramReceived => self.datagrams(cx),
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
        // The connection tells of new streams first. Yet the last object of one stream was said before the first of the next.
        while let Some(id) = self.fresh.pop_front() {
            self.read(cx, id);
        }
        if self.state == State::Up {
            cx.news.extend(self.quiet.received(&mut self.connection, cx.now));
            self.measure(cx);
        }
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.connection.handle_timeout(cx.now);
        if let Some(session) =
            cx.session.as_mut().filter(|session| session.poll_timeout().is_some_and(|at| at <= cx.now))
        {
            session.handle_timeout(cx.now);
        }
        match self.state {
            State::Handshake if cx.now >= self.born + HANDSHAKE_TIMEOUT => {
                let reason = down::no_answer(&self.target());
                self.connection.close(cx.now, VarInt::from_u32(0), Bytes::new());
                self.down(cx, Down::Unreachable(reason));
            }
            State::Up => cx.news.extend(self.quiet.handle_timeout(&mut self.connection, cx.now)),
            _ => {}
        }
        self.intake(cx);
    }

    pub(super) fn poll_timeout(&mut self, session: Option<&Session>) -> Option<Instant> {
        let connection = self.connection.poll_timeout();
        match self.state {
            State::Handshake => connection.into_iter().chain([self.born + HANDSHAKE_TIMEOUT]).min(),
            State::Up => {
                let session = session.and_then(Session::poll_timeout);
                connection.into_iter().chain(session).chain(self.quiet.deadline(self.connection.rtt())).min()
            }
            State::Down => connection,
        }
    }

    /// Moves what the session says into the connection. Packets follow by [`Connection::poll_transmit`].
    pub(super) fn output(&mut self, cx: &mut Context<'_>) {
        let Some(session) = cx.session.as_mut() else { return };
        while let Some(transmit) = session.poll_transmit() {
            match transmit {
                Transmit::Open { stream, dir, priority } => {
                    self.streams.open(&mut self.connection, stream, dir, priority);
                }
                Transmit::Priority { stream, priority } => {
                    self.streams.prioritise(&mut self.connection, stream, priority);
                }
                Transmit::Data { stream, data } => {
                    self.meter.said(data.len());
                    self.streams.data(&mut self.connection, session, stream, data);
                }
                Transmit::Finish { stream } => self.streams.finish(&mut self.connection, session, stream),
                Transmit::Reset { stream, code } => {
                    let code = if self.web.is_some() { webtransport::to_wire(code) } else { code };
                    self.streams.reset(&mut self.connection, stream, code);
                }
                Transmit::Stop { stream, code } => {
                    let code = if self.web.is_some() { webtransport::to_wire(code) } else { code };
                    self.streams.stop(&mut self.connection, stream, code);
                }
                Transmit::Datagram { request, data } => {
                    self.meter.said(data.len());
                    let data = match &self.web {
                        Some(web) => web.wrap_datagram(&data),
                        None => data,
                    };
                    let mut told = Told { session, counters: cx.counters };
                    self.datagrams.say(&mut self.connection, (request, data), &mut told, cx.now);
                }
                Transmit::Close { code, reason } => {
                    if let Some(web) = &self.web {
                        web.close(&mut self.connection, code, &reason);
                    }
                    self.closing = Some((code, reason));
                    break;
                }
            }
        }
        self.meter.roll(cx.now);
    }

    /// After everything said before is in packets. `true`: the close itself wants a packet.
    pub(super) fn close_if_asked(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((code, reason)) = self.closing.take() else { return false };
        let wire = if self.web.is_some() { webtransport::to_wire(code) } else { code };
        self.connection.close(cx.now, varint(wire), Bytes::from(reason.clone()));
        self.down(cx, Down::Local { code, reason });
        true
    }

    /// Before there is a session, or without it.
    pub(super) fn close(&mut self, code: u64, reason: &str) {
        if self.state != State::Down {
            self.closing = Some((code, reason.to_owned()));
        }
    }

    /// Packets of up to `segments` datagrams; call until `None`.
    pub(super) fn transmit(
        &mut self,
        cx: &mut Context<'_>,
        segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<quinn_proto::Transmit> {
        if self.datagrams.is_waiting()
            && let Some(session) = cx.session.as_mut()
        {
            let mut told = Told { session, counters: cx.counters };
            self.datagrams.feed(&mut self.connection, &mut told, cx.now);
        }
        let transmit = match self.quiet.take_question() {
            false => self.connection.poll_transmit(cx.now, segments, buffer),
            true => self.question(cx.now, buffer),
        };
        if transmit.is_none() {
            self.datagrams.settle(&mut self.connection);
        }
        transmit
    }

    /// One packet, whatever is on its way.
    fn question(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<quinn_proto::Transmit> {
        self.birth.demand.exempt(true);
        let transmit = self.connection.poll_transmit(now, 1, buffer);
        self.birth.demand.exempt(false);
        transmit
    }

    /// After packets went out.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.state == State::Up {
            self.quiet.sent(&self.connection, now);
        }
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        self.quiet.quiet_for(now)
    }

    pub(super) fn path(&self) -> Path {
        let path = self.connection.stats().path;
        let (packets_out, packets_lost) = (path.sent_packets, path.lost_packets);
        Path { rtt: path.rtt, packets_out, packets_lost, window_bytes: path.cwnd }
    }

    pub(super) fn first_id(&self) -> Option<&[u8]> {
        self.birth.first_id.as_deref()
    }

    fn is_dial(&self) -> bool {
        self.birth.role == Role::Client
    }

    fn target(&self) -> down::Target<'_> {
        down::Target { url: self.birth.url.as_ref(), address: canonical(self.connection.remote_address()) }
    }

    fn connected(&mut self, cx: &mut Context<'_>) {
        let data = self.connection.crypto_session().handshake_data();
        let alpn = data.and_then(|data| data.downcast::<HandshakeData>().ok()).and_then(|data| data.protocol);
        match alpn.as_deref().map(|alpn| (alpn, Draft::from_alpn(alpn))) {
            Some((_, Some(draft))) => self.up(cx, Wire::RawQuic, draft, None),
            Some((alpn, None)) if alpn == H3.as_bytes() => {
                match WebTransport::begin(self.birth.url.clone(), self.birth.drafts.clone(), &mut self.connection) {
                    Ok(web) => self.web = Some(Box::new(web)),
                    Err(reason) => return self.fail(cx, &reason),
                }
                self.accept_all(cx);
            }
            // TLS has refused everything else.
            _ => self.close(0, "no common protocol"),
        }
    }

    fn up(&mut self, cx: &mut Context<'_>, wire: Wire, draft: Draft, path: Option<String>) {
        self.state = State::Up;
        let config = Config {
            role: self.birth.role,
            draft,
            setup: std::mem::take(&mut self.birth.setup),
            limits: self.birth.limits.clone(),
        };
        *cx.session = Some(Session::new(config, cx.now));
        self.measure(cx);
        let address = Some(canonical(self.connection.remote_address()));
        cx.news.push_back(LinkEvent::Up(Peer { wire, address, accepted: !self.is_dial(), path }));
        self.accept_all(cx);
    }

    /// The handshake of WebTransport can't succeed.
    fn fail(&mut self, cx: &mut Context<'_>, reason: &str) {
        let text = format!("no session with {}: {reason}", self.target());
        self.connection.close(cx.now, webtransport::no_error(), Bytes::new());
        self.down(cx, Down::Unreachable(text));
    }

    fn web_step(&mut self, cx: &mut Context<'_>, step: Step) {
        match step {
            Step::None => {}
            Step::Stream(id) => self.begin(cx, id),
            Step::Failed(reason) => self.fail(cx, &reason),
            Step::Agreed(Agreed { draft, path, heads, early }) => {
                self.streams.set_headers(heads);
                self.up(cx, Wire::WebTransport, draft, path);
                early.into_iter().for_each(|id| self.begin(cx, id));
            }
            Step::Closed { code, reason } => {
                self.connection.close(cx.now, webtransport::no_error(), Bytes::new());
                self.down(cx, Down::Peer { code, reason });
            }
        }
    }

    /// The app is told once, and only if it knows of the link.
    fn down(&mut self, cx: &mut Context<'_>, down: Down) {
        let known = self.state == State::Up || self.is_dial();
        if self.state != State::Down && known {
            cx.news.push_back(LinkEvent::Down(down));
        }
        self.state = State::Down;
    }

    /// Tells the session how large a datagram may be, when that has changed.
    fn measure(&mut self, cx: &mut Context<'_>) {
        let overhead = self.web.as_ref().map_or(0, |web| web.datagram_overhead());
        let size = self.connection.datagrams().max_size().map(|size| size.saturating_sub(overhead));
        if size != self.max_datagram {
            self.max_datagram = size;
            if let Some(session) = cx.session.as_mut() {
                session.set_max_datagram(size);
            }
        }
    }

    fn stream_event(&mut self, cx: &mut Context<'_>, event: StreamEvent) {
        match event {
            StreamEvent::Opened { dir } => self.accept(cx, dir),
            StreamEvent::Readable { id } => self.read(cx, id),
            StreamEvent::Finished { id } => self.streams.sent(id),
            StreamEvent::Writable { id } => {
                if let (Some(session), Some(name)) = (cx.session.as_mut(), self.streams.name(id)) {
                    self.streams.write(&mut self.connection, session, name);
                }
            }
            StreamEvent::Stopped { id, error_code } => {
                let name = self.streams.stopped(&mut self.connection, id, error_code);
                if let (Some(session), Some(name)) = (cx.session.as_mut(), name) {
                    session.handle_stopped(name, self.code(error_code), cx.now);
                }
            }
            StreamEvent::Available { dir } => {
                if let Some(session) = cx.session.as_mut() {
                    self.streams.available(&mut self.connection, session, session_dir(dir));
                }
            }
        }
    }

    /// A code of the peer on a stream.
    fn code(&self, code: VarInt) -> u64 {
        if self.web.is_some() { webtransport::from_wire(code.into_inner()) } else { code.into_inner() }
    }

    fn accept_all(&mut self, cx: &mut Context<'_>) {
        for dir in [quinn_proto::Dir::Bi, quinn_proto::Dir::Uni] {
            self.accept(cx, dir);
        }
    }

    /// The session gets a stream of the peer.
    fn begin(&mut self, cx: &mut Context<'_>, id: WireId) {
        if let Some(session) = cx.session.as_mut() {
            let name = session.accept_stream(session_dir(id.dir()));
            self.streams.accept(id, name);
            self.fresh.push_back(id);
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>, dir: quinn_proto::Dir) {
        if cx.session.is_none() && self.web.is_none() {
            return;
        }
        while let Some(id) = self.connection.streams().accept(dir) {
            match self.web.as_mut() {
                Some(web) => {
                    web.accept(id);
                    self.fresh.push_back(id);
                }
                None => self.begin(cx, id),
            }
        }
        let limit = self.connection.max_concurrent_streams(dir);
        let most = if dir == quinn_proto::Dir::Bi { BIDI_STREAMS_MAX } else { UNI_STREAMS_MAX };
        if limit < most && self.connection.streams().remote_open_streams(dir) * 2 >= limit {
            self.connection.set_max_concurrent_streams(dir, varint((limit * 2).min(most)));
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, id: WireId) {
        let Some(name) = self.streams.name(id) else {
            if let Some(web) = self.web.as_mut().filter(|_| self.state != State::Down) {
                let step = web.read(&mut self.connection, id);
                self.web_step(cx, step);
            }
            return;
        };
        let is_web = self.web.is_some();
        let Some(session) = cx.session.as_mut() else { return };
        let mut stream = self.connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        // One chunk is held back, so that the last one carries the FIN.
        let mut held: Option<Bytes> = None;
        let end = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    if let Some(data) = held.replace(chunk.bytes) {
                        session.handle_data(name, data, false, cx.now);
                    }
                }
                Ok(None) => break Some(None),
                Err(ReadError::Blocked) => break None,
                Err(ReadError::Reset(code)) => break Some(Some(code)),
            }
        };
        let _ = chunks.finalize();
        match end {
            None => held.into_iter().for_each(|data| session.handle_data(name, data, false, cx.now)),
            Some(None) => session.handle_data(name, held.unwrap_or_default(), true, cx.now),
            Some(Some(code)) => {
                held.into_iter().for_each(|data| session.handle_data(name, data, false, cx.now));
                let code = if is_web { webtransport::from_wire(code.into_inner()) } else { code.into_inner() };
                session.handle_reset(name, code, cx.now);
            }
        }
        if end.is_some() {
            self.streams.received(id);
        }
    }

    fn datagrams(&mut self, cx: &mut Context<'_>) {
        while let Some(data) = self.connection.datagrams().recv() {
            cx.counters.datagrams_in += 1;
            let data = match &self.web {
                Some(web) => web.unwrap_datagram(data),
                None => Some(data),
            };
            if let (Some(session), Some(data)) = (cx.session.as_mut(), data) {
                session.handle_datagram(data, cx.now);
            }
        }
    }
}

fn session_dir(dir: quinn_proto::Dir) -> Dir {
    match dir {
        quinn_proto::Dir::Bi => Dir::Bi,
        quinn_proto::Dir::Uni => Dir::Uni,
    }
}

/// An IPv4 peer of an IPv6 socket, as everybody else calls it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
