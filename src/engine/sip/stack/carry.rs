//! One connection, carried between its far side and the SIP crate. The crate reads and writes the one end of a pipe inside the process
//! ([`pipe`]); here is the other end, and the far side's stream behind it, in the clear or in TLS, opened by us or to us.
//!
//! What the crate writes is taken at once, so that a far side that does not read holds up nobody but itself. It waits here: what the far
//! side has not taken within 5 s, and more than 256 KiB, end the connection. What the kernel has taken and the far side's has not is in
//! the same way the kernel's to end ([`patience`]). What the far side says is looked through for one thing: a message that announces more
//! than one may have ends the connection ([`Lengths`]); and what the crate can't read is made readable (there, and by [`Letters`]).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lengths::Lengths;
use super::letters::Letters;

/// A far side that takes nothing for so long has no connection any more.
pub(super) const UNTAKEN: Duration = Duration::from_secs(5);
/// What may wait for it meanwhile; more than the crate writes of 100 calls.
const MOST_WAITING: usize = 256 << 10;
/// Of one reading.
const PIECE: usize = 16 << 10;

/// A far side's stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// One of both sides closed it.
    Closed,
    /// What was underway is lost.
    Broken(io::Error),
    /// The far side does not read.
    Untaken,
    /// It announced a message that nobody reads.
    TooLong,
}

/// Two ends of a pipe inside of this process: ours, and one in the clothes that the crate takes. Both are sockets of the kernel's, and
/// neither is asked what only one of TCP has.
pub(super) fn pipe() -> io::Result<(UnixStream, TcpStream)> {
    let (ours, theirs) = Pair::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, TcpStream::from_std(OwnedFd::from(theirs).into())?))
}

/// What a connection's socket is told at its beginning. Where it can't be told the kernel's own patience holds.
pub(super) fn patience(stream: &TcpStream) {
    // A message is one small write: waiting for more of it would only cost time.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN));
}

/// Until one of both sides has had enough. `untaken`: how long something may wait for the far side.
pub(super) async fn carry(far: impl Stream, near: UnixStream, untaken: Duration) -> Ended {
    let (mut far_says, mut far_hears) = tokio::io::split(far);
    let (near_says, mut near_hears) = near.into_split();
    let waiting = Waiting::default();
    tokio::select! {
        heard = hear(&mut far_says, &mut near_hears) => {
            let ended = heard.unwrap_or_else(lost);
            if let Ended::Closed = ended {
                // Over TLS a far side that leaves waits for our word, too (RFC 8446 §6.1).
                let _ = tokio::time::timeout(untaken, far_hears.shutdown()).await;
            }
            ended
        }
        ended = waiting.fill(near_says) => ended,
        ended = waiting.empty(&mut far_hears, untaken) => ended,
    }
}

/// What the far side says, until it says no more.
async fn hear(far: &mut (impl AsyncRead + Unpin), near: &mut (impl AsyncWrite + Unpin)) -> io::Result<Ended> {
    let (mut piece, mut lengths, mut letters) = (vec![0; PIECE], Lengths::default(), Letters::default());
    loop {
        let read = far.read(&mut piece).await?;
        if read == 0 {
            return Ok(Ended::Closed);
        }
        if !lengths.take(&mut piece[..read]) {
            return Ok(Ended::TooLong);
        }
        letters.take(&mut piece[..read]);
        near.write_all(&piece[..read]).await?;
    }
}

/// ETIMEDOUT is what the kernel's patience says (TCP_USER_TIMEOUT).
fn lost(error: io::Error) -> Ended {
    if error.kind() == io::ErrorKind::TimedOut { Ended::Untaken } else { Ended::Broken(error) }
}

/// What the far side is to be told, and has not been yet.
#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    came: Notify,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// When the first of them came.
    since: Option<Instant>,
    /// What is being told now.
    underway: usize,
    /// Nothing more will come.
    is_last: bool,
}

impl Waiting {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the crate says, and ends when that is too much.
    async fn fill(&self, mut near: impl AsyncRead + Unpin) -> Ended {
        let mut piece = [0; PIECE];
        loop {
            let read = near.read(&mut piece).await.unwrap_or_default();
            let waiting = self.take(&piece[..read]);
            self.came.notify_one();
            if waiting > MOST_WAITING {
                return Ended::Untaken;
            }
            if read == 0 {
                return std::future::pending().await;
            }
        }
    }

    /// How much waits now. Nothing more will come where nothing did.
    fn take(&self, piece: &[u8]) -> usize {
        let mut queue = self.queue();
        queue.bytes.extend_from_slice(piece);
        queue.since.get_or_insert_with(Instant::now);
        queue.is_last = piece.is_empty();
        queue.underway + queue.bytes.len()
    }

    fn next(&self) -> Queue {
        let mut queue = self.queue();
        let underway = queue.bytes.len();
        std::mem::replace(&mut *queue, Queue { underway, ..Queue::default() })
    }

    /// All that came before; nothing more waits.
    fn told(&self) -> bool {
        let mut queue = self.queue();
        queue.underway = 0;
        queue.since.is_none()
    }

    /// Tells the far side, all of what waits at once.
    async fn empty(&self, far: &mut (impl AsyncWrite + Unpin), untaken: Duration) -> Ended {
        loop {
            let Queue { bytes, since, is_last, .. } = self.next();
            let told = async {
                far.write_all(&bytes).await?;
                far.flush().await?;
                if is_last { far.shutdown().await } else { Ok(()) }
            };
            match tokio::time::timeout_at(since.unwrap_or_else(Instant::now) + untaken, told).await {
                Ok(Ok(())) if is_last => return Ended::Closed,
                Ok(Ok(())) => {}
                Ok(Err(error)) => return lost(error),
                Err(_) => return Ended::Untaken,
            }
            if self.told() {
                self.came.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);

    fn run(body: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
    }

    /// The far side, the crate's end, and how it ended.
    fn connection(untaken: Duration) -> (tokio::io::DuplexStream, TcpStream, tokio::task::JoinHandle<Ended>) {
        let ((far, ours), (near, crates)) = (duplex(64), pipe().unwrap());
        (far, crates, tokio::spawn(carry(ours, near, untaken)))
    }

    #[test]
    fn who_announces_too_much_is_cut_off() {
        run(async {
            let (mut far, mut crates, ended) = connection(LONG);
            far.write_all(b"A\r\nContent-Length: 18446744073709551615\r\n\r\n").await.unwrap();
            assert!(matches!(ended.await.unwrap(), Ended::TooLong));
            let mut heard = Vec::new();
            crates.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"");
        });
    }

    #[test]
    fn what_is_said_is_heard_both_ways_and_to_the_end() {
        run(async {
            let (mut far, mut crates, ended) = connection(LONG);
            far.write_all(b"INVITE").await.unwrap();
            let mut heard = [0; 6];
            crates.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"INVITE");
            crates.write_all(&[b'x'; 100_000]).await.unwrap();
            crates.shutdown().await.unwrap();
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            assert_eq!(all.len(), 100_000);
            assert!(matches!(ended.await.unwrap(), Ended::Closed));
        });
    }

    #[test]
    fn a_far_side_that_leaves_is_gone_for_the_crate_too() {
        run(async {
            let (far, mut crates, ended) = connection(LONG);
            drop(far);
            assert_eq!(crates.read(&mut [0; 8]).await.unwrap(), 0);
            assert!(matches!(ended.await.unwrap(), Ended::Closed));
        });
    }

    #[test]
    fn what_is_not_taken_in_time_ends_it() {
        run(async {
            let (mut far, mut crates, ended) = connection(SHORT);
            crates.write_all(&[b'x'; 10_000]).await.unwrap();
            // A little now and then is not enough: all of it would take ten times as long.
            let trickle = tokio::spawn(async move {
                let mut taken = 0;
                while let Ok(read @ 1..) = far.read(&mut [0; 20]).await {
                    taken += read;
                    tokio::time::sleep(SHORT / 50).await;
                }
                taken
            });
            assert!(matches!(ended.await.unwrap(), Ended::Untaken));
            assert_eq!(crates.read(&mut [0; 8]).await.unwrap(), 0);
            assert!(trickle.await.unwrap() < 10_000);
        });
    }

    #[test]
    fn more_than_may_wait_ends_it_at_once() {
        run(async {
            let (_far, mut crates, ended) = connection(LONG);
            // The rest has nobody who would read it.
            let _ = crates.write_all(&vec![b'x'; MOST_WAITING * 3]).await;
            assert!(matches!(ended.await.unwrap(), Ended::Untaken));
        });
    }

    #[test]
    fn what_is_being_told_is_not_taken_yet() {
        let waiting = Waiting::default();
        assert_eq!(waiting.take(&[0; 10]), 10);
        assert_eq!(waiting.next().bytes.len(), 10);
        assert_eq!(waiting.take(&[0; 5]), 15);
        assert!(!waiting.told(), "five bytes came meanwhile");
        assert_eq!((waiting.take(&[0; 1]), waiting.next().bytes.len()), (6, 6));
        assert!(waiting.told());
    }
}
