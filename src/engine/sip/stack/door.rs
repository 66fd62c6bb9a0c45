//! What a stack's socket lets in. Datagrams, and connections that are opened to us, are looked at before the crate reads a byte of
//! them, since it reads, logs and queues without a bound: [`Gate`] knows who may speak.
//!
//! A message of a call that lives here is let in from anywhere: far ends answer from addresses that nobody wrote down, and its Call-ID
//! has 128 bits of chance (RFC 3261 §8.1.1.4). Sockets are bound here and stay bound; an error names the address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rsipstack::sip::{HeadersExt as _, Method, SipMessage};
use rsipstack::transaction::Endpoint;
use rsipstack::transaction::endpoint::TransportEventInspector;
use rsipstack::transport::TransportEvent;
use rsipstack::transport::tcp_listener::TcpListenerConnection;
use rsipstack::transport::tls::{TlsConfig, TlsListenerConnection};
use rsipstack::transport::udp::UdpConnection;
use tokio::net::{TcpListener, UdpSocket};

use super::super::{Gate, Local, Transport};
use super::connections::Connections;
use super::stray::Strays;
use super::{Calls, letters, mend, reasons, route, users};

/// Of a UDP socket; the kernel's default holds a few hundred requests.
const SOCKET_BYTES: usize = 4 << 20;
/// What we say of ourselves over TLS, where nothing is bound (RFC 3261 §19.1.2).
const SIPS_PORT: u16 = 5061;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// After an accept that failed: no file descriptor is free, for example.
const BREATH: Duration = Duration::from_millis(100);
/// Headers are looked for within so much of a datagram.
const HEAD_BYTES: usize = 8192;
/// A longer request may not fit into one packet (RFC 3261 §18.1.1); it is sent all the same (0189).
const DATAGRAM: usize = 1300;
const RESPONSE: &[u8] = b"SIP/2.0 ";
const CANCEL: &[u8] = b"CANCEL ";

/// One socket, bound.
pub(super) enum Bound {
    Udp(UdpSocket),
    Tcp(TcpListener),
    /// Without a certificate of ours nobody opens connections to us: the far side speaks over those that we open.
    Tls(Option<TcpListener>),
}

impl Bound {
    pub(super) fn at(local: &Local) -> io::Result<(Self, SocketAddr)> {
        let bound = match local.transport {
            Transport::Udp => Self::Udp(udp(local.bind)?),
            Transport::Tcp => Self::Tcp(tcp(local.bind)?),
            Transport::Tls => Self::Tls(local.certificate.is_some().then(|| tcp(local.bind)).transpose()?),
        };
        let address = match &bound {
            Self::Udp(socket) => socket.local_addr()?,
            Self::Tcp(listener) | Self::Tls(Some(listener)) => listener.local_addr()?,
            Self::Tls(None) if local.bind.port() == 0 => SocketAddr::new(local.bind.ip(), SIPS_PORT),
            Self::Tls(None) => local.bind,
        };
        Ok((bound, local.advertised(address)))
    }

    /// Begins to serve.
    pub(super) async fn serve(self, endpoint: Endpoint, door: Door, own: Arc<Connections>) -> Result<(), String> {
        let (inner, address, ending) = (Arc::clone(&endpoint.inner), own.address, own.ending.clone());
        own.serve(&inner);
        let mut serving = Box::pin(async move { endpoint.serve().await });
        let failed = |error: rsipstack::Error| error.to_string();
        let told = match &self {
            Self::Udp(_) => None,
            // The crate binds the listeners that it finds when it begins. This one is bound, so it enters after that: it is there for its
            // address.
            Self::Tcp(_) => Some(TcpListenerConnection::new(address, Some(address)).await.map_err(failed)?.into()),
            Self::Tls(_) => {
                let told = TlsListenerConnection::new(address, Some(address), TlsConfig::default()).await;
                Some(told.map_err(failed)?.into())
            }
        };
        if let Some(told) = told {
            begin(serving.as_mut()).await;
            inner.transport_layer.add_transport(told);
        }
        match self {
            Self::Udp(socket) => {
                let socket = Arc::new(Watched { socket, door, has_said: AtomicBool::default() });
                let udp = UdpConnection::from_socket(socket, Some(address), Some(ending.child_token())).await;
                inner.transport_layer.add_transport(udp.map_err(failed)?.into());
            }
            Self::Tcp(listener) | Self::Tls(Some(listener)) => drop(tokio::spawn(accept(listener, own))),
            Self::Tls(None) => {}
        }
        tokio::spawn(serving);
        Ok(())
    }
}

/// Up to where it waits for the first time.
async fn begin(mut serving: Pin<&mut (impl Future<Output = ()> + Send)>) {
    std::future::poll_fn(|context| Poll::Ready(serving.as_mut().poll(context).is_ready())).await;
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // A smaller buffer than wished for is still a socket.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Connections of the engine before us may still be closing.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Who is let in at one stack.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    pub(super) calls: Arc<Calls>,
    pub(super) strays: Strays,
}

impl Door {
    fn takes(&self, from: IpAddr, message: &[u8]) -> bool {
        let head = message.get(..HEAD_BYTES).unwrap_or(message);
        if call_id(head).is_some_and(|call_id| self.calls.has(call_id)) {
            return true;
        }
        if message.starts_with(CANCEL) && self.notes_stranger(from) {
            return false;
        }
        self.gate.takes(from, !message.starts_with(RESPONSE), Instant::now())
    }

    /// A CANCEL of no call is answered by the crate itself, before anybody is asked: a stranger's never reaches it, and is counted.
    fn notes_stranger(&self, from: IpAddr) -> bool {
        let is_strangers = !self.gate.knows(from);
        self.gate.counts.strangers.fetch_add(u64::from(is_strangers), Relaxed);
        is_strangers
    }
}

/// The Call-ID of a message that is not read yet, by its long or short name.
pub(super) fn call_id(message: &[u8]) -> Option<&str> {
    let lines = message.split(|byte| *byte == b'\n').skip(1);
    let head = lines.map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let value = head.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = line[..at].trim_ascii_end();
        (name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i")).then(|| line[at + 1..].trim_ascii())
    });
    std::str::from_utf8(value.into_iter().next()?).ok()
}

/// A socket of which the crate sees what is let in.
struct Watched {
    socket: UdpSocket,
    door: Door,
    /// That a request is longer than one packet.
    has_said: AtomicBool,
}

#[async_trait]
impl rsipstack::platform::net::UdpSocket for Watched {
    async fn recv_from(&self, buffer: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        loop {
            let (length, from) = self.socket.recv_from(buffer).await?;
            if self.door.takes(from.ip(), &buffer[..length]) {
                letters::head(&mut buffer[..length]);
                return Ok((mend::measured(buffer, length), from));
            }
        }
    }

    async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> rsipstack::Result<usize> {
        if bytes.len() > DATAGRAM && !bytes.starts_with(RESPONSE) && !self.has_said.swap(true, Relaxed) {
            let bytes = bytes.len();
            tracing::warn!(
                bytes,
                "a SIP request is cut into several packets (said once): where they get lost write transport = \"tcp\" \
                 for the trunk, or send fewer headers and codecs"
            );
        }
        Ok(self.socket.send_to(bytes, to).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

/// What the crate has read; over connections it reads by itself.
#[async_trait]
impl TransportEventInspector for Door {
    async fn handle(&self, mut event: TransportEvent) -> Option<TransportEvent> {
        if let TransportEvent::Incoming(message, ..) = &mut event {
            mend::name_plainly(message);
            users::hide(message);
            route::name(message);
        }
        let TransportEvent::Incoming(message, connection, from) = &event else { return Some(event) };
        if let SipMessage::Request(request) = message
            && request.method == Method::Cancel
            && let (Ok(call_id), Ok(caller)) = (request.call_id_header(), request.from_header())
            && let Ok(Some(tag)) = caller.tag()
        {
            self.calls.note_cancel(call_id.value(), tag.value(), reasons(request));
        }
        if let SipMessage::Response(response) = message
            && self.strays.take(response, from)
        {
            return None;
        }
        if !connection.is_reliable() {
            return Some(event);
        }
        let of_a_call = message.call_id_header().is_ok_and(|call_id| self.calls.has(call_id.value()));
        let is_request = matches!(message, SipMessage::Request(_));
        let from = from.get_socketaddr().ok()?.ip();
        // The answer would be written by the loop that reads for everybody.
        if !of_a_call && matches!(message, SipMessage::Request(request) if request.method == Method::Cancel) {
            self.notes_stranger(from);
            return None;
        }
        (of_a_call || self.gate.takes(from, is_request, Instant::now())).then_some(event)
    }
}

/// Takes the connections that are opened to us.
async fn accept(listener: TcpListener, connections: Arc<Connections>) {
    loop {
        let accepted = tokio::select! {
            () = connections.ending.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => connections.take(stream, from),
            Err(error) => {
                tracing::warn!(%error, "a SIP connection can't be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_of_what_is_not_read_yet() {
        for (message, expected) in [
            (&b"BYE sip:a SIP/2.0\r\nVia: x\r\nCall-ID: a@b\r\n\r\n"[..], Some("a@b")),
            (b"SIP/2.0 200 OK\r\ni : a@b \r\n", Some("a@b")),
            (b"BYE sip:a SIP/2.0\ncall-id:a\ni:b\n\n", Some("a")),
            (b"Call-ID: a\r\n\r\n", None),
            (b"BYE sip:a SIP/2.0\r\n\r\nCall-ID: in-the-body\r\n", None),
            (b"BYE sip:a SIP/2.0\r\nCall-ID: \xff\r\n", None),
            (b"BYE sip:a SIP/2.0\r\nX-Call-ID: a\r\n", None),
            (b"\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(call_id(message), expected, "{}", String::from_utf8_lossy(message));
        }
    }
}
