//! Whether the other side of a connection takes what it is sent: [`Outward`] sees each write, [`Taking`] tells when nothing went out for too long.
//!
//! It stands right above the socket and below TLS, which takes bytes into a buffer of its own and would call that progress. What lies
//! in the kernel's buffers counts as taken: nobody here can see more. It keeps and changes no byte, and closes nothing: that is
//! `server`'s.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What one connection knows of its far end.
#[derive(Default)]
pub(super) struct Taking {
    /// Since when there are bytes to send that nobody takes.
    stuck: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Taking {
    fn stuck(&self) -> Option<Instant> {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrote(&self, is_stuck: bool) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        // An attempt that is repeated does not begin the time anew.
        if stuck.is_some() != is_stuck {
            *stuck = is_stuck.then(Instant::now);
            self.changed.notify_one();
        }
    }

    /// Returns when bytes have waited so long without one of them being taken.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let Some(since) = self.stuck() else {
                self.changed.notified().await;
                continue;
            };
            if tokio::time::timeout_at(since + limit, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// The socket, whose writes are watched.
pub(super) struct Outward<S> {
    stream: S,
    taking: Arc<Taking>,
}

impl<S> Outward<S> {
    pub(super) fn new(stream: S, taking: Arc<Taking>) -> Self {
        Self { stream, taking }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outward<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outward<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taking.wrote(outcome.is_pending());
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.taking.wrote(outcome.is_pending());
        outcome
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn is_ready<F: Future>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn what_is_not_taken_begins_the_time_and_what_is_taken_ends_it() {
        let taking = Arc::<Taking>::default();
        let (mut far, near) = tokio::io::duplex(4);
        let mut near = Outward::new(near, Arc::clone(&taking));
        near.write_all(b"1234").await.unwrap();
        assert_eq!(taking.stuck(), None, "it fits");
        let mut writing = Box::pin(near.write_all(b"5678"));
        assert!(!is_ready(writing.as_mut()));
        let since = taking.stuck().unwrap();
        assert!(!is_ready(writing.as_mut()));
        assert_eq!(taking.stuck(), Some(since), "the time does not begin anew");
        far.read_exact(&mut [0; 2]).await.unwrap();
        assert!(!is_ready(writing.as_mut()));
        assert!(taking.stuck().unwrap() >= since, "another piece waits, as long as it may");
        far.read_exact(&mut [0; 4]).await.unwrap();
        writing.await.unwrap();
        assert_eq!(taking.stuck(), None);
    }

    #[tokio::test]
    async fn who_waits_is_told_once_the_time_is_over() {
        let taking = Taking::default();
        let mut waiting = Box::pin(taking.stalled(Duration::ZERO));
        assert!(!is_ready(waiting.as_mut()), "nothing waits to be sent");
        taking.wrote(true);
        waiting.await;
        taking.wrote(false);
        assert!(!is_ready(Box::pin(taking.stalled(Duration::ZERO)).as_mut()));
    }
}
