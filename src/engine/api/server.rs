//! Connections: how many at once, how slow they may be, how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Api;

/// A request's head must have come by then; a kept connection that says nothing for so long is closed.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Longest head; a query of the vendor's clients is far below.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// After a failed accept (too many open files) the next attempt waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, how long requests that are being answered may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves until `ending` is true, then lets running requests finish. Beyond `most` connections the next one waits in the
/// kernel's queue.
pub async fn serve(listener: TcpListener, api: Arc<Api>, most: usize, mut ending: watch::Receiver<bool>) {
    let (router, room) = (api.router(), Arc::new(Semaphore::new(most)));
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
                let connection = connection(stream, router.clone(), ending.clone());
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

async fn connection(stream: TcpStream, router: Router, mut ending: watch::Receiver<bool>) {
    // An answer is one small write: waiting for more of it would only cost time.
    drop(stream.set_nodelay(true));
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
