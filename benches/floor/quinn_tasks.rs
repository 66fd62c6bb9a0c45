//! Mode `quinn`: quinn as it comes, on one tokio `current_thread` runtime, a task per connection that reads its datagrams, or
//! one per stream (`streams`).
//!
//! The socket is quinn's own tokio socket written out once more, because only there can its system calls be counted.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, UdpPoller};
use tokio::io::Interest;

use crate::child::{self, Job, Mark, PACKETS, Report, SYSCALLS, count};
use crate::load::{Heard, Load};

pub(crate) fn run(job: &Job) -> io::Result<Report> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(carry(job))
}

async fn carry(job: &Job) -> io::Result<Report> {
    let socket = Arc::new(Counted::new(job.socket()?)?);
    let server = job.peer.is_none().then(|| job.server_config());
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime)?;
    let connections = connect(job, &endpoint).await?;
    let heard = Arc::new(Mutex::new(Heard::new(job.channels, job.secs)));
    let by_streams = job.options().streams;
    for connection in &connections {
        match by_streams {
            false => drop(tokio::spawn(hear(connection.clone(), heard.clone()))),
            true => drop(tokio::spawn(hear_streams(connection.clone(), heard.clone()))),
        }
    }
    let mut streams: Vec<Option<SendStream>> = (0..job.channels).map(|_| None).collect();
    let home: Vec<_> = (0..job.channels).map(|channel| job.connection_of(channel)).collect();
    let span = child::ready(job.secs)?;
    tokio::time::sleep_until(child::instant(span.from_ns).into()).await;
    let (mark, parked) = (Mark::now(), parks());
    let mut load = Load::new(job.channels, span.from_ns, job.secs);
    while let Some(due) = load.due_ns() {
        tokio::time::sleep_until(child::instant(due).into()).await;
        load.send_due(|channel, frame| {
            let (connection, frame) = (&connections[home[channel]], Bytes::copy_from_slice(frame));
            // An error is a frame that is not heard.
            match by_streams {
                false => drop(connection.send_datagram(frame)),
                true => write(connection, &mut streams[channel], frame),
            }
        });
    }
    tokio::time::sleep_until(span.end.into()).await;
    count(&SYSCALLS, (parks() - parked) as usize);
    let mut heard = heard.lock().expect("no task has panicked");
    Ok(mark.report(load.sent, &mut heard))
}

/// One `epoll_wait` each.
fn parks() -> u64 {
    tokio::runtime::Handle::current().metrics().worker_park_count(0)
}

async fn connect(job: &Job, endpoint: &Endpoint) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    if let Some(peer) = job.peer {
        let config = job.client_config();
        for _ in 0..job.connections() {
            let connecting = endpoint.connect_with(config.clone(), peer, "localhost").map_err(io::Error::other)?;
            connections.push(connecting.await?);
        }
    } else {
        child::listening(endpoint.local_addr()?)?;
        for _ in 0..job.connections() {
            let incoming = endpoint.accept().await.ok_or(io::ErrorKind::NotConnected)?;
            connections.push(incoming.await?);
        }
    }
    // The last flight of the last handshake leaves before the pipe blocks this thread.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(connections)
}

async fn hear(connection: Connection, heard: Arc<Mutex<Heard>>) {
    while let Ok(frame) = connection.read_datagram().await {
        heard.lock().expect("no task has panicked").frame(&frame);
    }
}

/// Onto the one long stream of a channel. What would have to wait for credit is a frame that is not heard; at this rate none is.
fn write(connection: &Connection, stream: &mut Option<SendStream>, frame: Bytes) {
    if stream.is_none() {
        *stream = at_once(connection.open_uni()).and_then(Result::ok);
    }
    if let Some(stream) = stream {
        let _ = at_once(stream.write_chunk(frame));
    }
}

fn at_once<F: Future>(work: F) -> Option<F::Output> {
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

async fn hear_streams(connection: Connection, heard: Arc<Mutex<Heard>>) {
    while let Ok(stream) = connection.accept_uni().await {
        tokio::spawn(hear_stream(stream, heard.clone()));
    }
}

async fn hear_stream(mut stream: RecvStream, heard: Arc<Mutex<Heard>>) {
    let mut partial = Vec::new();
    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
        heard.lock().expect("no task has panicked").chunk(&mut partial, &chunk.bytes);
    }
}

#[derive(Debug)]
struct Counted {
    io: tokio::net::UdpSocket,
    inner: UdpSocketState,
}

impl Counted {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self { inner: UdpSocketState::new((&socket).into())?, io: tokio::net::UdpSocket::from_std(socket)? })
    }
}

impl AsyncUdpSocket for Counted {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            count(&SYSCALLS, 1);
            count(&PACKETS, transmit.segment_size.map_or(1, |size| transmit.contents.len().div_ceil(size)));
            self.inner.send((&self.io).into(), transmit)
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || {
                count(&SYSCALLS, 1);
                self.inner.recv((&self.io).into(), bufs, meta)
            });
            if let Ok(messages) = received {
                return Poll::Ready(Ok(messages));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[derive(Debug)]
struct Writable(Arc<Counted>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(cx)
    }
}
