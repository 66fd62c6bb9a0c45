//! `voice.calls.events`: what becomes of the calls, as Server-Sent Events (WHATWG HTML §9.2).
//!
//! Every event carries an id, `{run}.{number}`; a client that comes back sends the last one as `Last-Event-ID` and misses nothing that
//! is still remembered. `call` is a call's row; `gap` says that rows are missing before the next one. A stream of one call ends behind
//! its last row, any other with the engine, and each with the key that asked for it. Comments keep a quiet stream alive.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Code, Failure, RequestId};
use super::gate::Gone;
use crate::call::CallRow;
use crate::engine::calls::{Seen, Told, Watch};
use crate::engine::metrics::Metrics;

/// A quiet stream says something this often: proxies close what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client is asked to wait before it comes back.
const RETRY_MS: u32 = 1000;
/// An id of ours is shorter.
const MAX_ID: usize = 64;

/// The streams that may be open.
pub(super) struct Streams {
    room: Arc<Semaphore>,
    most: usize,
    metrics: Arc<Metrics>,
}

/// The right to one of them.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    room: Arc<Semaphore>,
    most: usize,
    metrics: Arc<Metrics>,
}

impl Streams {
    /// Streams stay open, so they may have half of the connections: the rest is for requests.
    pub(super) fn new(connections: usize, metrics: Arc<Metrics>) -> Self {
        let most = (connections / 2).max(1);
        Self { room: Arc::new(Semaphore::new(most)), most, metrics }
    }

    pub(super) fn enter(&self) -> Result<Place, Failure> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            let message = format!("{} event streams are open: close one, or raise limits.connections", self.most);
            Failure::new(Code::TooManyRequests, message)
        })?;
        let (room, metrics) = (Arc::clone(&self.room), Arc::clone(&self.metrics));
        let place = Place { permit: Some(permit), room, most: self.most, metrics };
        place.count();
        Ok(place)
    }
}

impl Place {
    fn count(&self) {
        self.metrics.event_streams(self.most - self.room.available_permits());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit = None;
        self.count();
    }
}

/// What a client saw last. An id that is none of ours reads as one that is long forgotten.
pub(super) fn seen(headers: &HeaderMap) -> Option<Seen> {
    let text = headers.get("last-event-id")?.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return None;
    }
    let known = text.split_once('.').and_then(|(run, number)| Some((run, number.parse().ok()?)));
    let (run, number) = known.filter(|_| text.len() <= MAX_ID).unwrap_or(("", 0));
    Some(Seen { run: run.to_owned(), number })
}

pub(super) fn response(id: &RequestId, stream: Stream) -> Response {
    let first = format!("retry: {RETRY_MS}\n{}\n", stream.id(stream.watch.known));
    let key = stream.key.clone();
    let mut response = Response::new(Body::new(Chunks { first: Some(first.into()), next: Box::pin(stream.next()) }));
    // For the connection: where nobody reads, the stream itself is not asked and can't end.
    response.extensions_mut().insert(key);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Without it nginx keeps events back until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-request-id", id);
    }
    response
}

pub(super) struct Stream {
    watch: Watch,
    /// It ends behind the last row of its call.
    is_single: bool,
    last: Option<CallRow>,
    _place: Place,
    /// Whose key it is that asked.
    key: Gone,
}

impl Stream {
    pub(super) fn new(watch: Watch, is_single: bool, place: Place, key: Gone) -> Self {
        Self { watch, is_single, last: None, _place: place, key }
    }

    /// Its line, where there is one: what comes next has it otherwise.
    fn id(&self, number: Option<u64>) -> String {
        number.map(|number| format!("id: {}.{number}\n", self.watch.run)).unwrap_or_default()
    }

    /// The next piece of text; `None`: the stream ends.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.is_single && self.last.as_ref().is_some_and(|row| row.status.is_terminal()) {
            return None;
        }
        loop {
            let told = tokio::select! {
                biased;
                // A feed that always has news does not outrun it.
                () = self.key.wait() => return None,
                told = tokio::time::timeout(HEARTBEAT, self.watch.next()) => told,
            };
            let Ok(told) = told else { return Some((Bytes::from_static(b":\n\n"), self)) };
            let text = match told? {
                Told::Gap { missed, number } => {
                    let data = serde_json::json!({ "missed": missed });
                    format!("event: gap\n{}data: {data}\n\n", self.id(number))
                }
                // The row as it is now and the news of it may be the same.
                Told::News(news) if self.is_single && self.last.as_ref() == Some(&news.row) => continue,
                Told::News(news) => {
                    let data = serde_json::to_string(&news.row).expect("texts and numbers only");
                    let text = format!("event: call\nid: {}.{}\ndata: {data}\n\n", self.watch.run, news.number);
                    self.last = self.is_single.then(|| news.row.clone());
                    text
                }
            };
            return Some((text.into(), self));
        }
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

/// The stream as a body: nothing is made before the connection can take it.
struct Chunks {
    first: Option<Bytes>,
    next: Next,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.next.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.next = Box::pin(std::future::ready(None));
                Poll::Ready(None)
            }
            Poll::Ready(Some((text, stream))) => {
                self.next = Box::pin(stream.next());
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Gate;
    use super::*;
    use crate::call::CallRecord;
    use crate::engine::config::{Limits, mint};

    #[tokio::test]
    async fn a_key_that_has_gone_is_heard_before_any_news() {
        let (key, text) = mint("org_a", &["voice:*"]);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {text}").parse().unwrap())]);
        let gate = Gate::new(&[], &Limits::default());
        let streams = Streams::new(2, Arc::default());
        for _ in 0..64 {
            gate.replace(vec![key.clone()]);
            let gone = gate.admit(&headers).unwrap().gone();
            let watch = Watch::of_rows((0..2).map(|n| CallRecord::dialing(n.to_string(), 0).row()));
            let stream = Stream::new(watch, false, streams.enter().unwrap(), gone);
            let (first, stream) = stream.next().await.unwrap();
            assert!(first.starts_with(b"event: call\n"));
            gate.replace(Vec::new());
            assert!(stream.next().await.is_none());
        }
    }
}
