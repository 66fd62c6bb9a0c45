//! The proxy: one thread with one port for the clients, a socket per client towards the server, and a sky each way.
//!
//! Whoever holds a [`Proxy`] changes its weather from any thread; a call returns when the thread has done it, so what is
//! counted after a cut is exact. Dropping it ends the thread. A datagram that no socket takes is lost, as on any path.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::climate::Climate;
use crate::flows::{Flows, socket};
use crate::sky::{Sky, Tally};

const FRONT: Token = Token(usize::MAX - 1);
const BELL: Token = Token(usize::MAX - 2);
const DATAGRAM_BYTES: usize = 65_535;
/// Datagrams that one socket gives before the others have their turn.
const TURN: usize = 64;
const EVENTS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the server.
    There,
    Back,
}

/// What was carried each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub there: Tally,
    pub back: Tally,
}

enum Command {
    Change(Direction, Climate),
    Cut(Option<Direction>),
    Heal,
    Rebind(Option<IpAddr>),
    LeadTo(SocketAddr),
    Count,
    End,
}

type Answer = io::Result<Counts>;

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    commands: Sender<(Command, Sender<Answer>)>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Clients come to `listen`; the server is set by [`Proxy::lead_to`], and until then nothing passes.
    pub fn start(listen: SocketAddr, seed: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut front = socket(listen)?;
        let address = front.local_addr()?;
        poll.registry().register(&mut front, FRONT, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), BELL)?;
        let (commands, taken) = channel();
        let mut run = Run {
            poll,
            front,
            server: None,
            flows: Flows::new(),
            there: Sky::new(seed),
            // Another sequence, so that the fates of the two directions don't march in step.
            back: Sky::new(!seed),
            buffer: vec![0; DATAGRAM_BYTES],
            unread: Vec::new(),
            began: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("weather".into()).spawn(move || run.run(&taken))?;
        Ok(Self { address, commands, waker, thread: Some(thread) })
    }

    /// Where clients come to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn lead_to(&self, server: SocketAddr) -> io::Result<()> {
        self.ask(Command::LeadTo(server)).map(drop)
    }

    pub fn change(&self, direction: Direction, climate: Climate) -> io::Result<()> {
        self.ask(Command::Change(direction, climate)).map(drop)
    }

    /// A partition, of both directions or of one: what comes is dropped, and what is under way too.
    pub fn cut(&self, direction: Option<Direction>) -> io::Result<Counts> {
        self.ask(Command::Cut(direction))
    }

    pub fn heal(&self) -> io::Result<Counts> {
        self.ask(Command::Heal)
    }

    /// Clients have other ports towards the server from now on; and another address, if one is named.
    pub fn rebind(&self, from: Option<IpAddr>) -> io::Result<()> {
        self.ask(Command::Rebind(from)).map(drop)
    }

    pub fn counts(&self) -> io::Result<Counts> {
        self.ask(Command::Count)
    }

    fn ask(&self, command: Command) -> Answer {
        let gone = || io::Error::other("the proxy's thread is gone");
        let (answer, answered) = channel();
        self.commands.send((command, answer)).map_err(|_| gone())?;
        self.waker.wake()?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.ask(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A datagram, and the flow that it belongs to.
type Carried = (usize, Vec<u8>);

struct Run {
    poll: Poll,
    front: UdpSocket,
    server: Option<SocketAddr>,
    flows: Flows,
    there: Sky<Carried>,
    back: Sky<Carried>,
    buffer: Vec<u8>,
    /// Sockets that had more than a turn: an edge tells only once.
    unread: Vec<Token>,
    began: Instant,
}

impl Run {
    fn run(&mut self, commands: &Receiver<(Command, Sender<Answer>)>) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.wait()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
                Ok(()) => {}
            }
            let mut ready = std::mem::take(&mut self.unread);
            ready.extend(events.iter().map(|event| event.token()).filter(|token| *token != BELL));
            ready.sort_unstable();
            ready.dedup();
            ready.into_iter().for_each(|token| self.read(token));
            self.hand_on();
            while let Ok((command, answer)) = commands.try_recv() {
                let is_end = matches!(command, Command::End);
                let _ = answer.send(self.obey(command));
                if is_end {
                    return;
                }
            }
        }
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn wait(&self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let due_us = self.there.due_us().into_iter().chain(self.back.due_us()).min()?;
        Some(Duration::from_micros(due_us.saturating_sub(self.now_us())))
    }

    fn read(&mut self, token: Token) {
        for _ in 0..TURN {
            let now_us = self.now_us();
            let more = if token == FRONT { self.hear_client(now_us) } else { self.hear_server(token.0, now_us) };
            if !more {
                return;
            }
        }
        self.unread.push(token);
    }

    /// Whether there may be another.
    fn hear_client(&mut self, now_us: u64) -> bool {
        let (length, client) = match self.front.recv_from(&mut self.buffer) {
            Ok(read) => read,
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        };
        if let Some(server) = self.server
            && let Some(flow) = self.flows.of(client, server, self.poll.registry())
        {
            self.there.push(now_us, length as u64, (flow, self.buffer[..length].to_vec()));
        }
        true
    }

    fn hear_server(&mut self, number: usize, now_us: u64) -> bool {
        let Some(flow) = self.flows.at(number) else { return false };
        match flow.socket.recv(&mut self.buffer) {
            Ok(length) => self.back.push(now_us, length as u64, (number, self.buffer[..length].to_vec())),
            // Refused: nobody listened there when the last datagram came. The socket lives on.
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
        true
    }

    fn hand_on(&mut self) {
        let now_us = self.now_us();
        while let Some((number, datagram)) = self.there.pop(now_us) {
            if let Some(flow) = self.flows.at(number) {
                // Twice: the first try may only tell that an earlier datagram was refused.
                let _ = flow.socket.send(&datagram).or_else(|_| flow.socket.send(&datagram));
            }
        }
        while let Some((number, datagram)) = self.back.pop(now_us) {
            if let Some(flow) = self.flows.at(number) {
                let _ = self.front.send_to(&datagram, flow.client);
            }
        }
    }

    fn obey(&mut self, command: Command) -> Answer {
        match command {
            Command::Change(Direction::There, climate) => self.there.change(climate),
            Command::Change(Direction::Back, climate) => self.back.change(climate),
            Command::Cut(direction) => {
                if direction != Some(Direction::Back) {
                    self.there.cut();
                }
                if direction != Some(Direction::There) {
                    self.back.cut();
                }
            }
            Command::Heal => {
                self.there.heal();
                self.back.heal();
            }
            Command::Rebind(from) => {
                if let Some(server) = self.server {
                    self.flows.rebind(server, from, self.poll.registry())?;
                }
            }
            Command::LeadTo(server) => {
                self.flows.lead_to(server);
                self.server = Some(server);
            }
            Command::Count | Command::End => {}
        }
        Ok(Counts { there: self.there.tally(), back: self.back.tally() })
    }
}
