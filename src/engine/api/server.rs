//! Connections: how many at once, how slow they may be, how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Api;

/// A request's head must have come by then; a kept connection that says nothing for so long is closed.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Longest head; a query of the vendor's clients is far below.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// After a failed accept (too many open files) the next attempt waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, how long requests that are being answered may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where clients come in.
pub struct Door {
    pub listener: TcpListener,
    /// `None`: plain HTTP.
    pub tls: Option<TlsAcceptor>,
    /// Connections at the same time. One beyond waits in the kernel's queue.
    pub most: usize,
}

/// Serves until `ending` is true, then lets running requests finish.
pub async fn serve(door: Door, api: Arc<Api>, mut ending: watch::Receiver<bool>) {
    let Door { listener, tls, most } = door;
    let (router, room) = (Arc::clone(&api).router(), Arc::new(Semaphore::new(most)));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok(permit) = permit else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => break,
        };
        match stream {
            Ok((stream, _)) => {
                let connection = connection(stream, tls.clone(), Arc::clone(&api), router.clone(), ending.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GOODBYE, all).await);
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    api: Arc<Api>,
    router: Router,
    ending: watch::Receiver<bool>,
) {
    // An answer is one small write: waiting for more of it would only cost time.
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else { return http(stream, router, ending).await };
    let error = match tokio::time::timeout(HEAD_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => return http(stream, router, ending).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no TLS handshake within {} s", HEAD_LIMIT.as_secs()),
    };
    api.metrics.tls_failed();
    tracing::debug!(error, "a connection is no TLS");
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = async { drop(ending.wait_for(|ending| *ending).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}
