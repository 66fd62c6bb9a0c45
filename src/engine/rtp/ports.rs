//! Pairs of bound ports out of a range: the hands of [`PortPool`].
//!
//! One [`Ports`] is one local address with its range; trunks share it. A pair goes back when it is dropped, on whatever thread that is:
//! the pool's lock is taken once per call and end of call.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::rtp::ports::{PortPool, REST};

/// Pairs that somebody else on the machine holds are passed over, up to so many at a time.
const TRIES: usize = 64;
/// What the pool of a [`Ports::any`] holds; nobody takes it.
const UNUSED: RangeInclusive<u16> = 10_000..=10_001;
/// Expedited Forwarding (RFC 3246) in the bits of the traffic class: voice goes first where networks care.
const VOICE: u32 = 46 << 2;

/// The ports of one address.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: IpAddr,
    /// `None`: whatever the system gives; the pool stays as it is.
    range: Option<RangeInclusive<u16>>,
    pool: Mutex<PortPool>,
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, PortPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RTP's socket and RTCP's, bound to neighbouring ports.
#[derive(Debug)]
pub struct Pair {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    address: SocketAddr,
    ports: Arc<Inner>,
}

impl Ports {
    /// The error names the range and the remedy.
    pub fn new(address: IpAddr, range: RangeInclusive<u16>) -> Result<Self, String> {
        let pool = PortPool::new(range.clone(), random()).map_err(|error| format!("{error}: give a wider range"))?;
        Ok(Self(Arc::new(Inner { address, range: Some(range), pool: Mutex::new(pool) })))
    }

    /// Whatever ports are free, without a rest: for two ends on one machine, which stop when they are told.
    pub fn any(address: IpAddr) -> Self {
        let pool = PortPool::new(UNUSED, 0).expect("an even port and the odd one above it");
        Self(Arc::new(Inner { address, range: None, pool: Mutex::new(pool) }))
    }

    /// The next free pair, bound. The error says whether the range is used up.
    pub fn open(&self) -> Result<Pair, String> {
        let Some(range) = &self.0.range else { return self.open_any() };
        let (first, last) = (range.start(), range.end());
        for _ in 0..TRIES {
            let now = Instant::now();
            let Some(port) = self.0.pool().take(now) else {
                return Err(format!("all RTP ports from {first} to {last} are in use or rest: give a wider range"));
            };
            match bind(self.0.address, port) {
                Ok((rtp, rtcp)) => {
                    let address = SocketAddr::new(self.0.address, port);
                    return Ok(Pair { rtp, rtcp, address, ports: self.0.clone() });
                }
                Err(error) => {
                    self.0.pool().give_back(port, now);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(format!("RTP port {port} of {} can't be used: {error}", self.0.address));
                    }
                }
            }
        }
        Err(format!("{TRIES} pairs of RTP ports from {first} to {last} are in use by others: give another range"))
    }

    /// Whether a pair is free by now; if not, in how long one is, should a call end right now.
    pub fn check_room(&self, now: Instant) -> Result<(), Duration> {
        match self.0.pool().free_at(now) {
            Some(at) if at <= now => Ok(()),
            at => Err(at.map_or(REST, |at| at - now)),
        }
    }

    fn open_any(&self) -> Result<Pair, String> {
        let failed = |error: io::Error| format!("no RTP port of {} can be had: {error}", self.0.address);
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..TRIES {
            match bind_any(self.0.address) {
                Ok((rtp, rtcp)) => {
                    let address = rtp.local_addr().map_err(failed)?;
                    return Ok(Pair { rtp, rtcp, address, ports: self.0.clone() });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(last))
    }

    /// Pairs in use.
    pub fn taken(&self) -> usize {
        self.0.pool().taken()
    }

    /// How often no pair was left.
    pub fn exhausted(&self) -> u64 {
        self.0.pool().exhausted()
    }
}

impl Pair {
    /// RTP's.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where RTP is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.ports.range.is_some() {
            self.ports.pool().give_back(self.address.port(), Instant::now());
        }
    }
}

fn bind(address: IpAddr, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
    let above = port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket(SocketAddr::new(address, port))?, socket(SocketAddr::new(address, above))?))
}

/// A port of the system's choice, and its neighbour: the even one is RTP's.
fn bind_any(address: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let one = socket(SocketAddr::new(address, 0))?;
    let port = one.local_addr()?.port();
    let other = socket(SocketAddr::new(address, port ^ 1))?;
    Ok(if port.is_multiple_of(2) { (one, other) } else { (other, one) })
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // A network that wants no marks is no reason to have no call.
    let marked = if address.is_ipv4() { socket.set_tos_v4(VOICE) } else { socket.set_tclass_v6(VOICE) };
    if let Err(error) = marked {
        tracing::debug!(%error, "RTP goes without a mark");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Where a circle of ports begins, and what an SSRC is made of.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness; without it no SSRC is");
    u64::from_ne_bytes(bytes)
}
