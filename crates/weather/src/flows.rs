//! A socket towards the server for each address that a client speaks from, as a NAT has one port for each.
//!
//! Flows are kept until the proxy ends: a test has some hundreds. Beyond [`MOST_FLOWS`] a new client is not served.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

const MOST_FLOWS: usize = 4096;
const BUFFER_BYTES: usize = 4 << 20;

pub(crate) struct Flow {
    pub(crate) client: SocketAddr,
    pub(crate) socket: UdpSocket,
}

/// Flows, by the number that is their token.
pub(crate) struct Flows {
    all: Vec<Flow>,
    by_client: HashMap<SocketAddr, usize>,
    /// Where the next socket's own address is; the kernel chooses when `None`.
    from: Option<IpAddr>,
}

impl Flows {
    pub(crate) fn new() -> Self {
        Self { all: Vec::new(), by_client: HashMap::new(), from: None }
    }

    pub(crate) fn at(&self, number: usize) -> Option<&Flow> {
        self.all.get(number)
    }

    /// The flow of a client, made when it is new. `None` when no socket can be had.
    pub(crate) fn of(&mut self, client: SocketAddr, server: SocketAddr, registry: &Registry) -> Option<usize> {
        if let Some(number) = self.by_client.get(&client) {
            return Some(*number);
        }
        let number = self.all.len();
        if number >= MOST_FLOWS {
            return None;
        }
        let socket = towards(server, self.from, number, registry).ok()?;
        self.all.push(Flow { client, socket });
        self.by_client.insert(client, number);
        Some(number)
    }

    /// Every flow speaks to the server from another port, and another address if one is named, from now on. What the server
    /// still sends to the old ones is lost, as behind a NAT that forgot.
    pub(crate) fn rebind(&mut self, server: SocketAddr, from: Option<IpAddr>, registry: &Registry) -> io::Result<()> {
        self.from = from;
        for (number, flow) in self.all.iter_mut().enumerate() {
            let fresh = towards(server, from, number, registry)?;
            let mut old = std::mem::replace(&mut flow.socket, fresh);
            registry.deregister(&mut old)?;
        }
        Ok(())
    }

    /// The server is elsewhere now.
    pub(crate) fn lead_to(&mut self, server: SocketAddr) {
        for flow in &self.all {
            // A socket that can't reach it loses what it is given, as any path without a route.
            let _ = flow.socket.connect(server);
        }
    }
}

fn towards(server: SocketAddr, from: Option<IpAddr>, number: usize, registry: &Registry) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let mut socket = socket((from.unwrap_or(any), 0).into())?;
    socket.connect(server)?;
    registry.register(&mut socket, Token(number), Interest::READABLE)?;
    Ok(socket)
}

/// A bound socket with room for what a busy machine makes wait.
pub(crate) fn socket(bind: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.bind(&bind.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}
