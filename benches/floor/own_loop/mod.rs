//! Mode `loop`: quinn-proto driven by one loop of our own. One turn takes all packets that are there, serves the timers
//! that have passed, takes the frames that are due, and then asks each touched connection once what it has to send.
//!
//! No task, no lock, no wake-up inside the process.

mod inbox;
mod out;
mod streams;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Incoming,
};
use quinn_udp::UdpSocketState;

use crate::child::{self, Job, Mark, Report, SYSCALLS, count};
use crate::load::{FRAME_BYTES, Heard, Load};
use crate::options::Options;
use inbox::{Inbox, Received};
use out::Out;
use streams::Streams;

/// As many packets of one connection go into one transmit at most; quinn's own number.
const MAX_SEGMENTS: usize = 10;
const FRAMES_PER_BLOCK: usize = 400;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

struct Link {
    connection: Connection,
    touched: bool,
    /// The earliest entry of this link in the timer heap.
    armed: Option<Instant>,
}

struct Loop {
    poll: mio::Poll,
    ready: mio::Events,
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    endpoint: Endpoint,
    /// Indexed by connection handle.
    links: Vec<Option<Link>>,
    touched: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    inbox: Inbox,
    out: Out,
    frames: BytesMut,
    streams: Streams,
    options: Options,
    heard: Heard,
    up: usize,
    lost: usize,
    last_turn: Instant,
}

pub(crate) fn run(job: &Job) -> io::Result<Report> {
    let mut own = Loop::new(job)?;
    own.connect(job)?;
    let home: Vec<_> = (0..job.channels).map(|channel| job.connection_of(channel)).collect();
    let span = child::ready(job.secs)?;
    own.run_until(child::instant(span.from_ns), None)?;
    let mark = Mark::now();
    let mut load = Load::new(job.channels, span.from_ns, job.secs);
    own.run_until(span.end, Some((&mut load, &home)))?;
    match own.lost {
        0 => Ok(mark.report(load.sent, &mut own.heard)),
        lost => Err(io::Error::other(format!("{lost} connections were lost"))),
    }
}

impl Loop {
    fn new(job: &Job) -> io::Result<Self> {
        let options = job.options();
        let mut socket = mio::net::UdpSocket::from_std(job.socket()?);
        let poll = mio::Poll::new()?;
        poll.registry().register(&mut socket, mio::Token(0), mio::Interest::READABLE)?;
        let state = UdpSocketState::new((&socket).into())?;
        let server = job.peer.is_none().then(|| Arc::new(job.server_config()));
        Ok(Self {
            poll,
            ready: mio::Events::with_capacity(8),
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, !state.may_fragment(), None),
            links: Vec::new(),
            touched: Vec::new(),
            timers: BinaryHeap::new(),
            inbox: Inbox::new(state.gro_segments(), options.arena),
            out: Out::new(options.sending, socket.as_fd())?,
            frames: BytesMut::new(),
            streams: Streams::new(job.channels),
            heard: Heard::new(job.channels, job.secs),
            up: 0,
            lost: 0,
            last_turn: Instant::now(),
            socket,
            state,
            options,
        })
    }

    /// One handshake after the other, so that both ends number their connections alike.
    fn connect(&mut self, job: &Job) -> io::Result<()> {
        let give_up = Instant::now() + HANDSHAKE_LIMIT;
        let config = job.peer.is_some().then(|| job.client_config());
        if job.peer.is_none() {
            child::listening(self.socket.local_addr()?)?;
        }
        while self.up < job.connections() {
            if let (Some(peer), Some(config)) = (job.peer, &config)
                && self.links.len() == self.up
            {
                self.dial(peer, config.clone())?;
            }
            self.turn(Instant::now() + Duration::from_millis(10), None)?;
            if Instant::now() > give_up {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.run_until(Instant::now() + Duration::from_millis(50), None)
    }

    fn dial(&mut self, peer: std::net::SocketAddr, config: ClientConfig) -> io::Result<()> {
        let now = Instant::now();
        let (handle, connection) = self.endpoint.connect(now, config, peer, "localhost").map_err(io::Error::other)?;
        self.adopt(handle, connection);
        Ok(())
    }

    fn adopt(&mut self, handle: ConnectionHandle, connection: Connection) {
        if self.links.len() <= handle.0 {
            self.links.resize_with(handle.0 + 1, || None);
        }
        self.links[handle.0] = Some(Link { connection, touched: false, armed: None });
        self.touch(handle.0);
    }

    fn touch(&mut self, index: usize) {
        if let Some(Some(link)) = self.links.get_mut(index)
            && !link.touched
        {
            link.touched = true;
            self.touched.push(index);
        }
    }

    fn run_until(&mut self, end: Instant, mut load: Option<(&mut Load, &[usize])>) -> io::Result<()> {
        while Instant::now() < end {
            self.turn(end, load.as_mut().map(|(load, home)| (&mut **load, *home)))?;
        }
        Ok(())
    }

    /// Sleeps until something is there or due, and does all of it.
    fn turn(&mut self, limit: Instant, load: Option<(&mut Load, &[usize])>) -> io::Result<()> {
        let due = load.as_ref().and_then(|(load, _)| load.due_ns()).map(child::instant);
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let wake = [due, timer].into_iter().flatten().fold(limit, Instant::min);
        self.sleep(wake)?;
        let now = Instant::now();
        self.receive(now)?;
        self.serve_timers(now);
        if let Some((load, home)) = load {
            self.send_frames(load, home);
        }
        self.drain_touched(now);
        self.out.flush(&self.state, self.socket.as_fd())
    }

    fn sleep(&mut self, wake: Instant) -> io::Result<()> {
        count(&SYSCALLS, 1);
        let now = Instant::now();
        if self.options.lull.is_zero() {
            return self.poll.poll(&mut self.ready, Some(wake.saturating_duration_since(now)));
        }
        let next = self.last_turn + self.options.lull;
        std::thread::sleep(next.saturating_duration_since(now));
        self.last_turn = next.max(now);
        Ok(())
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        if self.options.lull.is_zero() && self.ready.is_empty() {
            return Ok(());
        }
        while self.inbox.fill(&self.state, self.socket.as_fd())? {
            while let Some(received) = self.inbox.next() {
                self.handle(received, now);
            }
            if self.inbox.was_the_last() {
                break;
            }
        }
        Ok(())
    }

    fn handle(&mut self, received: Received, now: Instant) {
        let Received { from, to, ecn, bytes } = received;
        let answer = self.out.answer();
        match self.endpoint.handle(now, from, to, ecn, bytes, answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(link)) = self.links.get_mut(handle.0) {
                    link.connection.handle_event(event);
                }
                self.touch(handle.0);
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(incoming, now),
            Some(DatagramEvent::Response(transmit)) => self.out.push_answer(&transmit),
            None => {}
        }
    }

    fn accept(&mut self, incoming: Incoming, now: Instant) {
        // A refusal would be a datagram in the answer buffer; the far end of a bench then runs into its limit.
        if let Ok((handle, connection)) = self.endpoint.accept(incoming, now, self.out.answer(), None) {
            self.adopt(handle, connection);
        }
    }

    fn serve_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(Some(link)) = self.links.get_mut(index) else { continue };
            if link.armed != Some(at) {
                continue;
            }
            link.armed = None;
            // What was armed may have moved since; then this only arms it again.
            if link.connection.poll_timeout().is_some_and(|due| due <= now) {
                link.connection.handle_timeout(now);
            }
            self.touch(index);
        }
    }

    fn send_frames(&mut self, load: &mut Load, home: &[usize]) {
        let Self { links, touched, frames, streams, options, .. } = self;
        load.send_due(|channel, frame| {
            let index = home[channel];
            let Some(Some(link)) = links.get_mut(index) else { return };
            let frame = if options.arena { cut(frames, frame) } else { Bytes::copy_from_slice(frame) };
            if options.streams {
                streams.write(channel, &mut link.connection, frame);
            } else {
                // An error is a frame that is not heard.
                let _ = link.connection.datagrams().send(frame, true);
            }
            if !link.touched {
                link.touched = true;
                touched.push(index);
            }
        });
    }

    fn drain_touched(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.drain(index, now);
        }
        self.touched = touched;
    }

    /// Events, packets and the timer of one link.
    fn drain(&mut self, index: usize, now: Instant) {
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        link.touched = false;
        while let Some(event) = link.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                link.connection.handle_event(event);
            }
        }
        while let Some(event) = link.connection.poll() {
            match event {
                Event::Connected => self.up += 1,
                Event::ConnectionLost { .. } => self.lost += 1,
                Event::DatagramReceived => {
                    while let Some(frame) = link.connection.datagrams().recv() {
                        self.heard.frame(&frame);
                    }
                }
                Event::Stream(event) => self.streams.handle(index, &mut link.connection, &event, &mut self.heard),
                _ => {}
            }
        }
        self.out.begin_link();
        while let Some(transmit) = link.connection.poll_transmit(now, MAX_SEGMENTS, self.out.buffer()) {
            self.out.push(&transmit);
        }
        // A deadline that moved back is found out when the armed one fires: most never fire.
        if let Some(at) = link.connection.poll_timeout()
            && link.armed.is_none_or(|armed| at < armed)
        {
            link.armed = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }
}

/// The frame, in a block that many frames share.
fn cut(block: &mut BytesMut, frame: &[u8; FRAME_BYTES]) -> Bytes {
    if block.capacity() < FRAME_BYTES {
        block.reserve(FRAME_BYTES * FRAMES_PER_BLOCK);
    }
    block.extend_from_slice(frame);
    block.split().freeze()
}
