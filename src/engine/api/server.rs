//! Connections: how many at once and from where, how slow they may be, how they end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::gate::Gone;
use super::taking::{Outward, Taking};
use super::wire::{Held, Pace, Told, Wire};
use super::{Api, answer};
use crate::engine::config::Limits;
use crate::engine::metrics::{Bound, Metrics};
use answer::{Failure, RequestId};

/// Longest head; a query of the vendor's clients is far below.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// After a failed accept (too many open files) the next attempt waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, how long requests that are being answered may take; and an idle connection to say goodbye, or a revoked key's stream.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where clients come in.
pub struct Door {
    pub listener: TcpListener,
    /// `None`: plain HTTP.
    pub tls: Option<TlsAcceptor>,
    pub limits: Limits,
}

/// What each connection is given.
#[derive(Clone)]
struct Visit {
    tls: Option<TlsAcceptor>,
    pace: Pace,
    router: Router,
    metrics: Arc<Metrics>,
    ending: watch::Receiver<bool>,
}

/// Serves until `ending` is true, then lets running requests finish. Beyond `limits.connections` the next one waits in the kernel's
/// queue; beyond `limits.connections_per_address` it is closed.
pub async fn serve(door: Door, api: Arc<Api>, mut ending: watch::Receiver<bool>) {
    let Door { listener, tls, limits } = door;
    let room = Arc::new(Semaphore::new(limits.connections));
    let pace = Pace { head: limits.head, idle: limits.idle };
    let metrics = Arc::clone(&api.metrics);
    let visit = Visit { tls, pace, router: api.router(), metrics: Arc::clone(&metrics), ending: ending.clone() };
    let addresses = Addresses::new(limits.connections_per_address);
    let (mut connections, mut is_failing) = (JoinSet::new(), false);
    loop {
        if room.available_permits() == 0 {
            metrics.reached(Bound::Connections);
        }
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address, permit)) => {
                is_failing = false;
                let Some(place) = addresses.enter(address) else {
                    metrics.reached(Bound::ConnectionsPerAddress);
                    continue;
                };
                let (connection, metrics) = (visit.clone().connection(stream), Arc::clone(&metrics));
                metrics.connection_came();
                connections.spawn(async move {
                    connection.await;
                    metrics.connection_went();
                    drop((permit, place));
                });
            }
            Err(error) => {
                metrics.accept_failed();
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "connections can't be accepted: is the limit of open files too low?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GOODBYE, all).await);
}

type Accepted = std::io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)>;

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Accepted {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address.ip(), permit))
}

impl Visit {
    async fn connection(self, stream: TcpStream) {
        // An answer is one small write: waiting for more of it would only cost time.
        drop(stream.set_nodelay(true));
        let taking = Arc::<Taking>::default();
        let stream = Outward::new(stream, Arc::clone(&taking));
        let Some(tls) = self.tls.clone() else { return self.http(stream, &taking).await };
        let error = match tokio::time::timeout(self.pace.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => return self.http(stream, &taking).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                self.metrics.reached(Bound::Head);
                "it took too long".to_owned()
            }
        };
        self.metrics.tls_failed();
        tracing::debug!(error, "a TLS handshake came to nothing");
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, taking: &Taking) {
        let Self { pace, router, metrics, mut ending, .. } = self;
        let told = Told::new();
        let (wire, router) = (Wire::new(stream, Arc::clone(&told)), TowerToHyperService::new(router));
        let service = service_fn(|request| visit(request, &router, &told, &metrics));
        let mut http = http1::Builder::new();
        // hyper's own time for a head, 30 s, would run between two requests too.
        http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
        let connection = http.serve_connection(TokioIo::new(wire), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => Some(outcome),
            bound = told.expired(pace) => {
                metrics.reached(bound);
                if bound == Bound::Head {
                    return tracing::debug!("a request's head took too long");
                }
                None
            }
            () = taking.stalled(pace.idle) => {
                metrics.reached(Bound::Stalled);
                return tracing::debug!("a client took nothing of its answer for too long");
            }
            // The stream ends by itself, if its client reads.
            () = told.revoked() => None,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => None,
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

/// One request of a connection.
async fn visit(
    request: Request<Incoming>,
    router: &TowerToHyperService<Router>,
    told: &Arc<Told>,
    metrics: &Metrics,
) -> Result<Response<Held>, Infallible> {
    let busy = told.busy();
    let is_ambiguous = told.is_ambiguous();
    // What stands behind a coded body is not read along (`framing`).
    let is_last = is_ambiguous || request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = if is_ambiguous {
        metrics.ambiguous();
        let message = "the head has Content-Length and Transfer-Encoding: send one of them";
        answer::response(&RequestId::new(), Err(Failure::bad(message)))
    } else {
        router.call(request).await?
    };
    if let Some(key) = response.extensions_mut().remove::<Gone>() {
        told.hold(key);
    }
    if is_last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Held { body, _busy: busy }))
}

/// Connections by where they come from.
#[derive(Clone)]
struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// 0: no bound.
    most: usize,
}

/// The right to one of them.
struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if self.most > 0 && *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// An IPv4 address, or the first half of an IPv6 one: who has one of those has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_network_and_given_back() {
        let addresses = Addresses::new(2);
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let six = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(six.iter().all(Option::is_some) && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop((second, six));
        assert!(addresses.open.lock().unwrap().is_empty());
        let unbounded = Addresses::new(0);
        assert!((0..100).map(|_| unbounded.enter("192.0.2.1".parse().unwrap())).all(|place| place.is_some()));
    }
}
