//! The loop: one thread, one wait per turn.
//!
//! A turn: wait; take packets; tell the app of its own sockets; expire timers; take ports; wake the app; tell it; time for it;
//! [`App::flush`]; send. So a link is flushed once per turn however many frames it got, and a neighbour is woken once. Words come before
//! packets: a packet may be the answer to what the speaker of the words let others see.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::bell::{self, Bell, Waker};
use super::links::{FIRST_KEY, Links, Terms};
use super::socket::Socket;
use super::tls::QuicKeys;
use super::{App, Listen, WorkerConfig, transport};

const SOCKET: Token = Token(0);
const BELL: Token = Token(1);
/// Sockets that one wait tells of; the rest come with the next.
const EVENTS: usize = 256;
/// A wait for the app that is shorter than this ends to the microsecond.
const EXACT: Duration = Duration::from_millis(20);
/// How long the last packets may wait for room in the kernel's buffer when the worker ends.
const GOODBYE: Duration = Duration::from_millis(100);

/// One thread's loop: one UDP socket and all links of one [`App`]. Whoever calls [`Worker::run`] gives it its thread.
pub struct Worker {
    links: Links,
    poll: Poll,
    events: Events,
    bell: Arc<Bell>,
    /// Waiting for room in the kernel's buffer.
    wants_room: bool,
    /// The next wait is for a moment of the app's, such as an audio tick.
    exact: bool,
    /// Sockets of the app that became readable; empty between turns.
    readable: Vec<usize>,
    #[cfg(feature = "counted")]
    tallied: super::Counters,
}

impl Worker {
    /// Binds the socket. The error names the address and the remedy.
    pub fn new(config: WorkerConfig) -> Result<(Self, Waker), String> {
        let WorkerConfig { bind, listen, limits } = config;
        let socket = bind_socket(bind, listen.is_some())?;
        let os = |error: io::Error| format!("the system refuses a poll ({error}): raise the limit of open files");
        let poll = Poll::new().map_err(os)?;
        poll.registry().register(&mut SourceFd(&raw_fd(&socket)), SOCKET, Interest::READABLE).map_err(os)?;
        let bell = bell::bell(&poll, BELL).map_err(os)?;
        let (server, keys, terms) = match listen {
            Some(listen) => {
                let server = transport::server(&listen.identity, &listen.drafts)?;
                let Listen { identity, drafts, setup, handshakes } = listen;
                (Some(server), identity.quic_keys().clone(), (drafts, setup, handshakes))
            }
            None => (None, QuicKeys::random()?, Default::default()),
        };
        let endpoint = transport::endpoint(&keys, server.clone(), socket.may_fragment());
        let (drafts, setup, handshakes) = terms;
        let registry = poll.registry().try_clone().map_err(os)?;
        let terms = Terms { drafts, setup, handshakes, limits, server, registry };
        let links = Links::new(socket, endpoint, bell.clone(), terms);
        let waker = Waker(bell.clone());
        let worker = Self {
            links,
            poll,
            events: Events::with_capacity(EVENTS),
            bell,
            wants_room: false,
            exact: false,
            readable: Vec::new(),
            #[cfg(feature = "counted")]
            tallied: Default::default(),
        };
        Ok((worker, waker))
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.links.local_addr()
    }

    /// Runs until [`App::is_done`]; then every link is closed and the socket with it.
    pub fn run(mut self, app: &mut impl App) {
        let mut readable = true;
        while !app.is_done() {
            readable = self.turn(app, readable);
        }
        self.goodbye();
    }

    /// `readable`: the socket may hold more than the last turn took.
    fn turn(&mut self, app: &mut impl App, readable: bool) -> bool {
        let busy = readable || self.links.has_work();
        let (tick, link) = (app.poll_timeout(), self.links.next_timeout());
        self.exact = tick.is_some_and(|tick| link.is_none_or(|link| tick <= link));
        let readable = self.wait(busy, tick.into_iter().chain(link).min(), app.slack()) || readable;
        self.gather(app.gathers());
        let now = Instant::now();
        let more = readable && self.links.receive(now);
        for key in self.readable.drain(..) {
            app.handle_readable(&mut self.links, key, now);
        }
        self.turn_at(app, now);
        #[cfg(feature = "counted")]
        super::tally::add(&mut self.tallied, self.links.counters);
        more
    }

    /// What a turn does when its packets are in: all of it in the time that it is told.
    pub(crate) fn turn_at(&mut self, app: &mut impl App, now: Instant) {
        self.links.expire(now);
        self.links.take_ports(now);
        if self.bell.take_app() {
            app.handle_wake(&mut self.links, now);
        }
        self.tell(app, now);
        if app.poll_timeout().is_some_and(|at| at <= now) {
            app.handle_timeout(&mut self.links, now);
        }
        self.tell(app, now);
        app.flush(now);
        self.links.flush(now);
    }

    fn tell(&mut self, app: &mut impl App, now: Instant) {
        while let Some((link, event)) = self.links.next_event() {
            app.handle_event(&mut self.links, link, event, now);
        }
    }

    /// Somebody has rung who has more to say, or others do: their rings of now are answered by this turn.
    fn gather(&mut self, pause: Duration) {
        if !pause.is_zero() && self.bell.is_wanted() {
            std::thread::sleep(pause);
            self.bell.awake();
        }
    }

    /// `true`: the socket became readable.
    fn wait(&mut self, busy: bool, until: Option<Instant>, slack: Duration) -> bool {
        self.watch_for_room();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Whoever rings a worker that does not sleep makes no system call.
        let soon = left.is_some_and(|left| left <= slack);
        let timeout = match busy || !(soon || self.bell.may_sleep()) {
            true => Some(Duration::ZERO),
            false => left,
        };
        self.links.counters.turns += 1;
        if let Err(error) = self.sleep(timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "a worker can't wait");
        }
        self.links.counters.wakes += u64::from(self.bell.awake());
        let mut readable = false;
        for event in &self.events {
            match event.token() {
                SOCKET => {
                    readable |= event.is_readable() || event.is_error();
                    if event.is_writable() {
                        self.links.socket.set_writable();
                    }
                }
                Token(token) => self.readable.extend(token.checked_sub(FIRST_KEY)),
            }
        }
        readable
    }

    /// epoll_wait(2) counts in milliseconds and rounds up: half of one per tick, which every frame would be late by. ppoll(2) on the
    /// same descriptor counts in nanoseconds.
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let short = timeout.filter(|left| self.exact && !left.is_zero() && *left < EXACT);
        let Some(Ok(left)) = short.map(Timespec::try_from) else {
            return self.poll.poll(&mut self.events, timeout);
        };
        self.events.clear();
        let mut poll = [PollFd::new(self.poll.registry(), PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&left))? {
            0 => Ok(()),
            _ => self.poll.poll(&mut self.events, Some(Duration::ZERO)),
        }
    }

    /// The kernel tells of room in the send buffer whenever a packet leaves it. That is asked for only while it is full: else every
    /// packet sent would end a sleep.
    fn watch_for_room(&mut self) {
        let wants_room = !self.links.socket.is_writable();
        if wants_room != self.wants_room {
            self.wants_room = wants_room;
            let interest = if wants_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let fd = raw_fd(&self.links.socket);
            if let Err(error) = self.poll.registry().reregister(&mut SourceFd(&fd), SOCKET, interest) {
                tracing::error!(%error, "a worker can't watch its socket");
            }
        }
    }

    /// CONNECTION_CLOSE for everybody. Who misses it is told by a stateless reset, or by silence.
    fn goodbye(mut self) {
        self.links.close_all();
        let deadline = Instant::now() + GOODBYE;
        loop {
            self.links.flush(Instant::now());
            if self.links.socket.is_writable() || Instant::now() >= deadline {
                return;
            }
            self.wait(false, Some(deadline), Duration::ZERO);
        }
    }
}

fn raw_fd(socket: &Socket) -> std::os::fd::RawFd {
    std::os::fd::AsRawFd::as_raw_fd(&socket.io)
}

/// A worker that only dials makes do with IPv4 where the machine has no IPv6.
fn bind_socket(bind: SocketAddr, listens: bool) -> Result<Socket, String> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("UDP {bind} is taken: stop the other server, or choose another port"),
        io::ErrorKind::PermissionDenied => format!("UDP {bind} may not be used: choose a port above 1023"),
        io::ErrorKind::AddrNotAvailable => format!("UDP {bind} is no address of this machine: listen on one it has"),
        _ => format!("can't use UDP {bind}: {error}"),
    };
    match Socket::bind(bind) {
        Err(_) if !listens && bind.is_ipv6() && bind.ip().is_unspecified() => {
            Socket::bind((Ipv4Addr::UNSPECIFIED, bind.port()).into()).map_err(refused)
        }
        other => other.map_err(refused),
    }
}
