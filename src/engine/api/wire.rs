//! One connection as the server sees it: what its bytes say of framing, and how long it may take for what it does.
//!
//! A connection is in one of three phases ([`Phase`]): its head is on the way, its request is being answered, or it is idle. The first and the
//! last have a limit each; what a request and its body may take is `mod`'s and `input`'s to say. [`Wire`] reads along, [`Held`] knows when an
//! answer has left, [`Told::expired`] tells when a limit is over, [`Told::revoked`] when a stream's key is gone. None of them keeps or changes a byte.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::framing::Framing;
use super::gate::Gone;
use crate::engine::metrics::Bound;

/// How long a head may take, and how long a connection may say nothing between two requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Since the connection was accepted, or since the first byte behind a pause.
    Head(Instant),
    Busy,
    /// Since an answer was given.
    Idle(Instant),
}

/// What all parts of one connection know of it.
pub(super) struct Told {
    phase: Mutex<Phase>,
    changed: Notify,
    /// Whose stream the present answer is.
    key: Mutex<Option<Gone>>,
    key_changed: Notify,
    is_ambiguous: AtomicBool,
}

impl Told {
    /// A connection that was just accepted.
    pub(super) fn new() -> Arc<Self> {
        let phase = Mutex::new(Phase::Head(Instant::now()));
        Arc::new(Self {
            phase,
            changed: Notify::new(),
            key: Mutex::default(),
            key_changed: Notify::new(),
            is_ambiguous: AtomicBool::new(false),
        })
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.changed.notify_one();
    }

    /// Bytes came.
    fn heard(&self) {
        if matches!(self.phase(), Phase::Idle(_)) {
            self.enter(Phase::Head(Instant::now()));
        }
    }

    /// A head was read that says twice where its body ends: nothing behind it can be told apart.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.is_ambiguous.load(Relaxed)
    }

    /// A request is being answered, until this is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.enter(Phase::Busy);
        Busy(Arc::clone(self))
    }

    /// The answer is a stream that lasts as long as this key.
    pub(super) fn hold(&self, key: Gone) {
        self.set_key(Some(key));
    }

    fn set_key(&self, key: Option<Gone>) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
        self.key_changed.notify_one();
    }

    /// Returns when the key of a stream counts no longer, whether anybody reads that stream or not.
    pub(super) async fn revoked(&self) {
        loop {
            let key = self.key.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let gone = async {
                match key {
                    Some(mut key) => key.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // A stream that is over takes its key along.
                () = self.key_changed.notified() => {}
                () = gone => return,
            }
        }
    }

    /// When the present phase has taken too long; never while a request is being answered.
    fn due(&self, pace: Pace) -> Option<(Instant, Bound)> {
        match self.phase() {
            Phase::Head(since) => Some((since + pace.head, Bound::Head)),
            Phase::Idle(since) => Some((since + pace.idle, Bound::Idle)),
            Phase::Busy => None,
        }
    }

    /// Returns when the connection has taken too long, and for what.
    pub(super) async fn expired(&self, pace: Pace) -> Bound {
        loop {
            let Some((deadline, bound)) = self.due(pace) else {
                self.changed.notified().await;
                continue;
            };
            if tokio::time::timeout_at(deadline, self.changed.notified()).await.is_err() {
                return bound;
            }
        }
    }
}

pub(super) struct Busy(Arc<Told>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_key(None);
        self.0.enter(Phase::Idle(Instant::now()));
    }
}

/// An answer's body: the request is over when it is gone.
pub(super) struct Held {
    pub(super) body: Body,
    pub(super) _busy: Busy,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The stream under hyper, read along.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    told: Arc<Told>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, told: Arc<Told>) -> Self {
        Self { stream, framing: Framing::default(), told }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            let was_in_body = this.framing.is_in_body();
            if this.framing.read(came) {
                this.told.is_ambiguous.store(true, Relaxed);
            }
            // The rest of a body that was answered early begins no request.
            if !was_in_body || this.framing.is_in_head() {
                this.told.heard();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, header};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::gate::Gate;
    use super::*;
    use crate::engine::config::{Limits, mint};

    const PACE: Pace = Pace { head: Duration::from_secs(5), idle: Duration::from_secs(30) };

    #[tokio::test]
    async fn each_phase_has_its_own_limit() {
        let told = Told::new();
        let Phase::Head(begun) = told.phase() else { panic!("{:?}", told.phase()) };
        assert_eq!(told.due(PACE), Some((begun + PACE.head, Bound::Head)));
        let busy = told.busy();
        assert_eq!(told.due(PACE), None, "an answer has limits of its own");
        drop(busy);
        let Phase::Idle(since) = told.phase() else { panic!("{:?}", told.phase()) };
        assert_eq!(told.due(PACE), Some((since + PACE.idle, Bound::Idle)));
        let (mut far, near) = tokio::io::duplex(64);
        let mut wire = Wire::new(near, Arc::clone(&told));
        far.write_all(b"GET").await.unwrap();
        wire.read_exact(&mut [0]).await.unwrap();
        let Phase::Head(first) = told.phase() else { panic!("{:?}", told.phase()) };
        // What trickles in does not begin the time anew.
        wire.read_exact(&mut [0; 2]).await.unwrap();
        assert_eq!(told.phase(), Phase::Head(first));
    }

    /// An early answer (401, 413, 429) leaves the body on its way.
    #[tokio::test]
    async fn the_rest_of_a_body_begins_no_request() {
        let told = Told::new();
        let (mut far, near) = tokio::io::duplex(256);
        let mut wire = Wire::new(near, Arc::clone(&told));
        let mut hears = async |bytes: &[u8]| {
            far.write_all(bytes).await.unwrap();
            wire.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
            told.phase()
        };
        hears(b"POST /x HTTP/1.1\r\ncontent-length: 6\r\n\r\nab").await;
        drop(told.busy());
        let idle = told.phase();
        assert!(matches!(idle, Phase::Idle(_)));
        assert_eq!(hears(b"cd").await, idle);
        assert_eq!(hears(b"ef").await, idle, "its last bytes too");
        assert!(matches!(hears(b"GET").await, Phase::Head(_)));
        drop(told.busy());
        hears(b" /x HTTP/1.1\r\ncontent-length: 1\r\n\r\n").await;
        drop(told.busy());
        assert!(matches!(hears(b"aGET").await, Phase::Head(_)), "a head in the same piece");
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_still_hears_that_its_key_has_gone() {
        let gate = Gate::new(&[], &Limits::default());
        let [(first, first_text), (second, second_text)] = [mint("org_a", &["voice:*"]), mint("org_a", &["voice:*"])];
        gate.replace(vec![first, second.clone()]);
        let gone = |text: &str| {
            let value = format!("Bearer {text}").parse().unwrap();
            gate.admit(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).unwrap().gone()
        };
        let told = Told::new();
        let mut revoked = std::pin::pin!(told.revoked());
        let mut is_revoked = || revoked.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready();
        let busy = told.busy();
        told.hold(gone(&first_text));
        assert!(!is_revoked());
        drop(busy);
        gate.replace(vec![second]);
        assert!(!is_revoked(), "its stream was over, and the connection may go on with another key");
        let _busy = told.busy();
        told.hold(gone(&second_text));
        assert!(!is_revoked());
        gate.replace(Vec::new());
        assert!(is_revoked());
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_new_phase() {
        let told = Told::new();
        let busy = told.busy();
        let pace = Pace { head: Duration::from_secs(3600), idle: Duration::ZERO };
        let mut waiting = std::pin::pin!(told.expired(pace));
        let polled = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready()));
        assert!(!polled.await);
        drop(busy);
        assert_eq!(waiting.await, Bound::Idle);
    }
}
