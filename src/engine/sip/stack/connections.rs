//! The connections of a stack, those that we open and those that are opened to us: each is carried here (`carry`), and the crate is
//! given the end of a pipe. Who connects is let in by `door`.
//!
//! The crate opens a connection where it finds none for an address, so one of ours is there before it looks ([`Connections::reach`], which
//! requests pass on their way).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Host, Request, SipMessage, StatusCode, ToTypedHeader as _};
use rsipstack::transaction::endpoint::EndpointInner;
use rsipstack::transaction::transaction::TransactionEvent;
use rsipstack::transport::stream::StreamConnectionInner;
use rsipstack::transport::tcp::TcpConnection;
use rsipstack::transport::{SipAddr, SipConnection};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{Gate, Local, Seat, Transport};
use super::carry::{Ended, Stream, UNTAKEN, carry, patience, pipe};
use super::owed::Owed;
use super::{mend, route, shown};
use crate::net;

/// What a connection may take, its TLS handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Names that are remembered; beyond that all are forgotten, and learnt again.
const MOST_NAMES: usize = 1024;

pub(super) struct Connections {
    pub(super) transport: Transport,
    /// As the far side is told.
    pub(super) address: SocketAddr,
    gate: Arc<Gate>,
    pub(super) resolver: route::Resolver,
    /// Towards far sides whose certificate is verified.
    connector: Option<TlsConnector>,
    /// For far sides that connect to us.
    acceptor: Option<TlsAcceptor>,
    pub(super) owed: Owed,
    pub(super) ending: CancellationToken,
    table: Table,
}

/// Who is connected, and who waits for it to be.
#[derive(Default)]
struct Table {
    /// Set once.
    endpoint: OnceLock<Weak<EndpointInner>>,
    /// By the far side's address; the crate cancels what it will not use again.
    open: Mutex<HashMap<SipAddr, CancellationToken>>,
    /// Those who want the same connection wait for the first of them.
    dialling: Mutex<HashMap<SipAddr, Arc<tokio::sync::Mutex<()>>>>,
    /// By which name the far side of an address has shown a certificate: Contacts and Routes have addresses, certificates names.
    named: Mutex<HashMap<SipAddr, Host>>,
}

pub(super) fn is_tls(address: &SipAddr) -> bool {
    address.r#type == Some(rsipstack::sip::Transport::Tls)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Of one stack; `address` as the far side is told.
    pub(super) fn new(
        local: &Local,
        address: SocketAddr,
        resolver: route::Resolver,
        gate: Arc<Gate>,
        ending: CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let (mut connector, mut acceptor) = (None, None);
        if local.transport == Transport::Tls {
            let client = net::client_over_tcp(local.tls_roots.as_deref());
            connector = Some(TlsConnector::from(client.map_err(|error| format!("tls_roots: {error}"))?));
            acceptor = local.certificate.as_ref().map(|certificate| shown::show(certificate, &ending)).transpose()?;
        }
        let (transport, owed, table) = (local.transport, Owed::default(), Table::default());
        Ok(Arc::new(Self { transport, address, gate, resolver, connector, acceptor, owed, ending, table }))
    }

    pub(super) fn serve(&self, endpoint: &Arc<EndpointInner>) {
        // The first one stays.
        let _ = self.table.endpoint.set(Arc::downgrade(endpoint));
    }

    /// The address of the far side, with which there is a connection afterwards. Its certificate names the host as it is written here.
    pub(super) async fn reach(self: &Arc<Self>, target: &SipAddr) -> Result<SipAddr, String> {
        let at = self.resolver.find(target).await.map_err(|error| error.to_string())?;
        self.reach_at(&at, &target.addr.host).await?;
        Ok(at)
    }

    /// The same for a place of this host that is known already.
    pub(super) async fn reach_at(self: &Arc<Self>, at: &SipAddr, host: &Host) -> Result<(), String> {
        let limited = tokio::time::timeout(CONNECT_LIMIT, self.connect(at, host)).await;
        limited.unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT_LIMIT.as_secs())))
    }

    async fn connect(self: &Arc<Self>, at: &SipAddr, host: &Host) -> Result<(), String> {
        if self.has(at) {
            return Ok(());
        }
        let turn = self.turn(at);
        let _turn = turn.lock().await;
        // Somebody else may have opened it meanwhile.
        if self.has(at) { Ok(()) } else { self.open(at, host).await.map_err(|error| error.to_string()) }
    }

    fn has(&self, at: &SipAddr) -> bool {
        self.flow(at).is_some_and(|open| !open.is_cancelled())
    }

    /// Cancelled with the connection that there is now.
    fn flow(&self, at: &SipAddr) -> Option<CancellationToken> {
        locked(&self.table.open).get(at).cloned()
    }

    /// A request is about to go over a connection. `flow`: of the call that it is to bring about.
    pub(super) fn sends(&self, request: &Request, to: &SipAddr, flow: Option<&Flow>) {
        if let Some(flow) = flow {
            *locked(flow) = self.flow(to);
        }
        if !self.owed.note(request, to, Instant::now()) {
            self.gate.counts.unanswered.fetch_add(1, Relaxed);
        }
    }

    fn turn(&self, at: &SipAddr) -> Arc<tokio::sync::Mutex<()>> {
        let mut dialling = locked(&self.table.dialling);
        dialling.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(dialling.entry(at.clone()).or_default())
    }

    async fn open(self: &Arc<Self>, at: &SipAddr, host: &Host) -> io::Result<()> {
        let stream = TcpStream::connect(at.get_socketaddr().map_err(io::Error::other)?).await?;
        patience(&stream);
        if !is_tls(at) {
            return self.enter(stream, at.clone(), None);
        }
        let Some(connector) = &self.connector else {
            return Err(io::Error::other("this trunk does not speak TLS"));
        };
        let host = self.name(at, host);
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let stream = connector.connect(name, stream).await?;
        self.remember(at, host);
        self.enter(stream, at.clone(), None)
    }

    /// By which the far side is asked who it is.
    fn name(&self, at: &SipAddr, host: &Host) -> Host {
        let known = match host {
            Host::IpAddr(_) => locked(&self.table.named).get(at).cloned(),
            Host::Domain(_) => None,
        };
        known.unwrap_or_else(|| host.clone())
    }

    fn remember(&self, at: &SipAddr, host: Host) {
        let mut named = locked(&self.table.named);
        if named.len() >= MOST_NAMES {
            named.clear();
        }
        named.insert(at.clone(), host);
    }

    /// A connection that was opened to us. `None`: without a seat it is closed.
    pub(super) fn take(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let Some(seat) = self.gate.seat(from.ip()) else { return };
        patience(&stream);
        let at = SipAddr { r#type: Some(self.transport.named()), addr: from.into() };
        let Some(acceptor) = self.acceptor.clone() else {
            return self.note(self.enter(stream, at, Some(seat)), from.ip());
        };
        let this = Arc::clone(self);
        // The seat bounds how many there are, the limit how long one is.
        tokio::spawn(async move {
            let limited = tokio::time::timeout(CONNECT_LIMIT, acceptor.accept(stream));
            let Some(accepted) = this.ending.run_until_cancelled(limited).await else { return };
            let entered = match accepted {
                Ok(Ok(stream)) => this.enter(stream, at, Some(seat)),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            this.note(entered, from.ip());
        });
    }

    fn note(&self, entered: io::Result<()>, from: IpAddr) {
        if let Err(error) = entered {
            self.gate.counts.connections.fetch_add(1, Relaxed);
            tracing::debug!(%from, %error, "a SIP connection came to nothing");
        }
    }

    /// Hands it to the crate, and carries it until it ends.
    fn enter(self: &Arc<Self>, far: impl Stream, at: SipAddr, seat: Option<Seat>) -> io::Result<()> {
        let Some(endpoint) = self.table.endpoint.get().and_then(Weak::upgrade) else { return Ok(()) };
        let (near, theirs) = pipe()?;
        let (reads, writes) = tokio::io::split(theirs);
        let local = SipAddr { r#type: at.r#type, addr: self.address.into() };
        let inner = Arc::new(StreamConnectionInner::new(local, at.clone(), reads, writes));
        let open = self.ending.child_token();
        let connection = SipConnection::Tcp(TcpConnection { inner, cancel_token: Some(open.clone()) });
        locked(&self.table.open).insert(at.clone(), open.clone());
        endpoint.transport_layer.add_connection(connection);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let ended = carry(far, near, UNTAKEN).await;
            // The crate has read the end of the pipe, and takes the connection for nothing more.
            open.cancelled().await;
            drop(seat);
            locked(&this.table.open).retain(|_, open| !open.is_cancelled());
            this.over(&at, &ended);
        });
        Ok(())
    }

    fn over(&self, at: &SipAddr, ended: &Ended) {
        let lost = self.owed.take(at);
        let why = match ended {
            Ended::Closed => return,
            Ended::Broken(error) => error.to_string(),
            Ended::Untaken => {
                self.gate.counts.untaken.fetch_add(1, Relaxed);
                "what it was told it did not take".to_owned()
            }
            Ended::TooLong => {
                self.gate.counts.connections.fetch_add(1, Relaxed);
                "it announced a message that is too long".to_owned()
            }
        };
        tracing::info!(far_side = %at.addr, why, requests = lost.len(), "a SIP connection broke");
        let Some(endpoint) = self.table.endpoint.get().and_then(Weak::upgrade) else { return };
        for (key, request) in lost {
            let Some(transaction) = endpoint.transactions.get(&key) else { continue };
            // As the crate says it of one that it can't write to (RFC 3261 §8.1.3.1).
            let mut said = endpoint.make_response(&request, StatusCode::ServiceUnavailable, None);
            mend::mark(&mut said);
            // It may be over.
            let _ = transaction.send(TransactionEvent::Received(SipMessage::Response(said), None));
        }
    }
}

/// Cancelled with the connection over which a call's INVITE went last: a redirect or challenge may have led it to another one. `None`: over none.
pub(super) type Flow = Arc<Mutex<Option<CancellationToken>>>;

/// Over which connection the requests of a call go: that of its INVITE, as long as it lasts. The crate sees to that.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) connections: Arc<Connections>,
    pub(super) flow: Flow,
}

impl Way {
    /// `false`: what is said over TLS would go in the clear.
    pub(super) fn is_fit(&self, dialog: &InviteDialog) -> bool {
        if locked(&self.flow).as_ref().is_none_or(|flow| !flow.is_cancelled()) {
            return true;
        }
        let first = dialog.snapshot().route_set.into_iter().next();
        let Some(route) = first.and_then(|route| route.typed().ok()) else { return true };
        if self.connections.transport == Transport::Tls
            && route.uri.transport().is_some_and(|named| *named != rsipstack::sip::Transport::Tls)
        {
            tracing::info!(route = %route.uri, "a Route leads away from TLS: nothing is said there");
            return false;
        }
        true
    }
}
