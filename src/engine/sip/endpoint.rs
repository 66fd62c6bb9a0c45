//! One stack per transport and local address: Via and Contact of everything that leaves it are right without asking.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::names::{Draw, Names, Servers};
use super::reception::Desk;
use super::stack::{Past, Reception, Stack};
use super::{Certificate, Counts, Gate, Local, Timers, Transport};
use crate::engine::config::{self, DtmfMode, SipTrunk};
use crate::engine::rtp::{Ports, Settings, Talks};

/// At the start nobody waits longer for name servers: the address of the default route will do.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
/// Somewhere else (RFC 5737). Nothing is ever sent there; the kernel tells by which of our addresses it would be.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);

/// Every address there is.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// A place that listens. Cheap to clone; closed with the last one who holds it.
#[derive(Clone)]
pub struct Endpoint(pub(super) Arc<Stack>, pub(super) Arc<Desk>);

impl Endpoint {
    /// As far sides are told.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// A place that belongs to no trunk, and takes calls of everybody.
pub(in crate::engine) struct Answering(Stack);

impl Answering {
    /// Within a tokio runtime.
    pub(in crate::engine) async fn open(
        local: &Local,
        timers: Timers,
        reception: Arc<dyn Reception>,
    ) -> Result<Self, String> {
        let gate = Arc::<Gate>::default();
        let everybody = gate.enter([]);
        gate.allow(everybody, EVERYWHERE.iter().filter_map(|network| network.parse().ok()).collect());
        let stack = Stack::open(local, timers, gate, Servers::default()).await?;
        stack.receive_with(reception);
        Ok(Self(stack))
    }

    /// As callers are told.
    pub(in crate::engine) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    pub(in crate::engine) fn past(&self) -> Past {
        self.0.past()
    }
}

/// All endpoints of an engine. Who may speak to one may speak to all.
#[derive(Default)]
pub struct Endpoints {
    timers: Timers,
    gate: Arc<Gate>,
    servers: Servers,
    open: HashMap<Local, Endpoint>,
}

impl Endpoints {
    pub fn new(timers: Timers) -> Self {
        Self { timers, ..Self::default() }
    }

    /// With the counters of what is dropped.
    pub fn counting(timers: Timers, counts: Arc<Counts>) -> Self {
        Self { timers, gate: Arc::new(Gate::new(counts)), ..Self::default() }
    }

    /// These are asked for SRV records.
    pub fn asking(self, servers: Servers) -> Self {
        Self { servers, ..self }
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// What the open ones have in memory.
    pub(in crate::engine) fn past(&self) -> Vec<Past> {
        self.open.values().map(|endpoint| endpoint.0.past()).collect()
    }

    /// The endpoint of this address, opened with its first trunk. Within a tokio runtime.
    pub async fn at(&mut self, local: &Local) -> Result<Endpoint, String> {
        if let Some(endpoint) = self.open.get(local) {
            return Ok(endpoint.clone());
        }
        let stack = Stack::open(local, self.timers, Arc::clone(&self.gate), self.servers.clone()).await?;
        let endpoint = Endpoint(Arc::new(stack), Arc::new(Desk::new(Arc::clone(&self.gate))));
        self.open.insert(local.clone(), endpoint.clone());
        Ok(endpoint)
    }
}

/// Where a trunk's stack listens. An address of ours that is left open is the one by which its far side is reached: Via and Contact
/// need one.
pub async fn local(trunk: &SipTrunk, servers: &Servers) -> Result<Local, String> {
    let transport = match trunk.transport {
        config::Transport::Udp => Transport::Udp,
        config::Transport::Tcp => Transport::Tcp,
        config::Transport::Tls => Transport::Tls,
    };
    let ip = if trunk.internal_sip_ip.is_unspecified() {
        towards(trunk, transport, servers).await
    } else {
        trunk.internal_sip_ip
    };
    let bind = SocketAddr::new(ip, trunk.source_pbx_port);
    let tls_roots = trunk.tls_roots.clone().filter(|_| transport == Transport::Tls);
    let certificate = trunk.tls_certificate.clone().filter(|_| transport == Transport::Tls);
    let certificate = certificate.map(|(chain, key)| Certificate { chain, key });
    Ok(Local { transport, bind, external: trunk.external_sip_ip, tls_roots, certificate })
}

/// The audio of a trunk's calls; `sip` is the address that its stack has.
pub fn talks(trunk: &SipTrunk, sip: IpAddr) -> Result<Talks, String> {
    let ip = if trunk.internal_rtp_ip.is_unspecified() { sip } else { trunk.internal_rtp_ip };
    Ok(Talks {
        ports: Ports::new(ip, trunk.rtp_ports.clone())?,
        address: trunk.external_rtp_ip.unwrap_or(ip),
        codecs: trunk.codec_preferences.clone(),
        ptime_ms: trunk.ptime_ms,
        settings: Settings {
            never_heard: trunk.media_timeout_initial,
            not_heard: trunk.media_timeout,
            presses: trunk.dtmf_mode != DtmfMode::Info,
            ..Settings::default()
        },
    })
}

async fn towards(trunk: &SipTrunk, transport: Transport, servers: &Servers) -> IpAddr {
    let (names, hop) = (Names::new(transport, None, servers.clone()), trunk.hop());
    let found = tokio::time::timeout(LOOKUP_LIMIT, names.place(&hop, Draw::Kept)).await;
    let peer = found.ok().and_then(Result::ok);
    source(peer.unwrap_or(ELSEWHERE)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// By which of our addresses the kernel would go there.
fn source(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
