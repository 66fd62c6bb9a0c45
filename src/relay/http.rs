//! `/healthz` and `/metrics` of a relay by itself: two answers over plain HTTP, on a TCP port of its own.
//!
//! It is for the machine's own watchers: no key, no TLS, no body is read. The bound on connections is [`CONNECTIONS`]; one
//! beyond it waits in the kernel's queue. It runs on the relay's control thread and never touches a shard.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Shared;
use super::figures;

/// Answered at the same time.
const CONNECTIONS: usize = 16;
/// A request's head must have come by then.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// After a failed accept (too many open files) the next attempt waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, shards: Arc<[Arc<Shared>]>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shards = Arc::clone(&shards);
                connections.spawn(async move {
                    connection(stream, shards).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shards: Arc<[Arc<Shared>]>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &shards);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD_BYTES).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

fn answer(method: &Method, path: &str, shards: &[Arc<Shared>]) -> Response<Whole> {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain; version=0.0.4";
    let (status, kind, text) = match path {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, JSON, "{\"ok\":false,\"reason\":\"ask with GET\"}".to_owned())
        }
        "/metrics" => {
            let figures: Vec<_> = shards.iter().map(|shard| shard.figures()).collect();
            (StatusCode::OK, TEXT, figures::render(&figures))
        }
        "/healthz" => match shards.iter().position(|shard| shard.is_gone()) {
            None => {
                let draining = shards.iter().any(|shard| shard.is_draining());
                let version = env!("CARGO_PKG_VERSION");
                let text = format!("{{\"ok\":true,\"version\":\"{version}\",\"draining\":{draining}}}");
                (StatusCode::OK, JSON, text)
            }
            Some(shard) => {
                let text = format!("{{\"ok\":false,\"reason\":\"the thread of shard {shard} has ended\"}}");
                (StatusCode::SERVICE_UNAVAILABLE, JSON, text)
            }
        },
        _ => {
            let text = "{\"ok\":false,\"reason\":\"known here: /healthz and /metrics\"}".to_owned();
            (StatusCode::NOT_FOUND, JSON, text)
        }
    };
    let mut response = Response::new(Whole(Some(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
