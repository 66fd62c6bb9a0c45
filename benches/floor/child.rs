//! One end of a run: its job, the words it exchanges with the parent over its pipes, and what it counts.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::support::process::{Usage, monotonic_ns, usage};
use crate::support::{alloc, process};

/// What is heard after the last frame was sent still counts.
const DRAIN: Duration = Duration::from_millis(300);
const SOCKET_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    Quinn,
    Loop,
    Udp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) mode: Mode,
    pub(crate) channels: usize,
    pub(crate) per_connection: usize,
    pub(crate) secs: f64,
    pub(crate) options: String,
    pub(crate) core: usize,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// The far end to dial; the far end itself has none.
    pub(crate) peer: Option<SocketAddr>,
}

impl Job {
    pub(crate) fn connections(&self) -> usize {
        self.channels.div_ceil(self.per_connection)
    }

    /// Which connection carries a channel.
    pub(crate) fn connection_of(&self, channel: usize) -> usize {
        if self.options.contains("together") { channel % self.connections() } else { channel / self.per_connection }
    }

    pub(crate) fn options(&self) -> Options {
        Options::parse(&self.options).expect("the parent has parsed them")
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.clone())).expect("the parent minted it");
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3 suites")));
        config.transport_config(self.options().transport());
        config
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(self.key.clone()).into())
            .expect("certificate and key belong together");
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS 1.3 suites")));
        config.transport_config(self.options().transport());
        config
    }

    /// A loopback socket with the buffers this run asks for.
    pub(crate) fn socket(&self) -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        if !self.options().default_buffers {
            let ours = socket2::SockRef::from(&socket);
            ours.set_recv_buffer_size(SOCKET_BYTES)?;
            ours.set_send_buffer_size(SOCKET_BYTES)?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// What one end has counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) heard: u64,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) sleeps: u64,
    pub(crate) syscalls: u64,
    pub(crate) packets: u64,
    pub(crate) allocations: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(crate) static SYSCALLS: AtomicU64 = AtomicU64::new(0);
pub(crate) static PACKETS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

/// The counters when the load begins.
pub(crate) struct Mark {
    usage: Usage,
    allocations: u64,
    syscalls: u64,
    packets: u64,
}

impl Mark {
    pub(crate) fn now() -> Self {
        Self {
            usage: usage(),
            allocations: alloc::so_far().calls,
            syscalls: SYSCALLS.load(Relaxed),
            packets: PACKETS.load(Relaxed),
        }
    }

    pub(crate) fn report(&self, sent: u64, heard: &mut crate::load::Heard) -> Report {
        let now = Self::now();
        let (p50_us, p99_us) = heard.percentiles_us();
        Report {
            sent,
            heard: heard.count(),
            user_us: now.usage.user_us - self.usage.user_us,
            system_us: now.usage.system_us - self.usage.system_us,
            sleeps: now.usage.sleeps - self.usage.sleeps,
            syscalls: now.syscalls - self.syscalls,
            packets: now.packets - self.packets,
            allocations: now.allocations - self.allocations,
            p50_us,
            p99_us,
        }
    }
}

/// When the load begins and ends, on both clocks a loop may want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from_ns: u64,
    pub(crate) end: Instant,
}

/// The instant at which the shared clock shows `ns`.
pub(crate) fn instant(ns: u64) -> Instant {
    let (now, shared) = (Instant::now(), monotonic_ns());
    now + Duration::from_nanos(ns.saturating_sub(shared))
}

/// The first line of standard input is the job.
pub(crate) fn take_job() -> io::Result<Job> {
    let job: Job = serde_json::from_str(&line()?)?;
    process::pin(job.core)?;
    process::prefer_and_limit(60 + 2 * job.secs as u32);
    Ok(job)
}

pub(crate) fn listening(address: SocketAddr) -> io::Result<()> {
    say(&serde_json::json!({ "listening": address }))
}

/// Says that all connections are up, and waits for the start that both ends get.
pub(crate) fn ready(secs: f64) -> io::Result<Span> {
    say(&serde_json::json!({ "ready": true }))?;
    let from_ns: u64 = line()?.trim().parse().map_err(io::Error::other)?;
    Ok(Span { from_ns, end: instant(from_ns) + Duration::from_secs_f64(secs) + DRAIN })
}

pub(crate) fn say(words: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, words)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}
