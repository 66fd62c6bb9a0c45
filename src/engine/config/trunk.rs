//! A trunk as the engine is told it: the vendor's field names, and a few of our own. `trunks` reads them.
//!
//! What is the same for every kind stands in [`Trunk`], what only a carrier over SIP has in [`SipTrunk`]. Nothing is looked up or
//! opened here. A password is a [`Secret`]: no message and no `Debug` shows it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::inbound::Inbound;
use crate::call::TransferMode;
use crate::sip::Codec;
use crate::sip::uri::Template;

/// The ports of SIP (RFC 3261 §19.1.2).
pub(in crate::engine) const SIP_PORT: u16 = 5060;
pub(in crate::engine) const SIPS_PORT: u16 = 5061;
/// Where RTP goes unless told otherwise.
pub(super) const RTP_PORTS: RangeInclusive<u16> = 10_000..=20_000;
/// RFC 4028 §4: the least that a proxy need take.
const MIN_SE: Duration = Duration::from_secs(90);

/// A line that carries calls.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub kind: TrunkKind,
    pub display_name: Option<String>,
    /// Only this organisation may use it; `None`: all.
    pub org: Option<String>,
    /// Calls at the same time.
    pub channel_limit: usize,
    /// New calls per second.
    pub max_cps: usize,
    /// Which caller ids may be shown; empty: any.
    pub caller_ids: Vec<CallerId>,
    /// What becomes of calls that come in; without a rule they are refused.
    pub inbound: Inbound,
}

#[derive(Clone, Debug)]
pub enum TrunkKind {
    /// The simulated phone beside the engine.
    Phone,
    /// A carrier, a PBX or a phone that speaks SIP.
    Sip(Box<SipTrunk>),
}

impl TrunkKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Sip(_) => "sip",
        }
    }
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            kind: TrunkKind::Phone,
            display_name: None,
            org: None,
            channel_limit: 2000,
            max_cps: 1000,
            caller_ids: Vec::new(),
            inbound: Inbound::default(),
        }
    }
}

impl Trunk {
    /// How its calls are transferred.
    pub fn transfer_mode(&self) -> TransferMode {
        match &self.kind {
            TrunkKind::Phone => TransferMode::Refer,
            TrunkKind::Sip(sip) => sip.transfer_mode,
        }
    }

    /// Whether a call may show this number.
    pub fn may_show(&self, from: &str) -> bool {
        self.caller_ids.is_empty() || self.caller_ids.iter().any(|allowed| allowed.fits(from))
    }
}

/// How SIP reaches the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub(super) const ALL: [Transport; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// How keys go to the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtmfMode {
    /// As telephone events where both know them; else as SIP INFO, if the far side's `Allow` names it.
    #[default]
    Auto,
    /// As telephone events (RFC 4733) or not at all, by the vendor's name.
    Rfc2833,
    /// As SIP INFO, whatever is offered.
    Info,
}

impl DtmfMode {
    pub(super) const ALL: [DtmfMode; 3] = [Self::Auto, Self::Rfc2833, Self::Info];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rfc2833 => "rfc2833",
            Self::Info => "info",
        }
    }
}

/// A number, or the beginning of some (`+1555*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerId(pub(super) String);

impl CallerId {
    pub fn fits(&self, from: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == from, |beginning| from.starts_with(beginning))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A name or address, and a port where one is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// An IPv6 address without its brackets.
    pub name: String,
    pub port: Option<u16>,
}

/// Everything about the far side of a SIP trunk, and about ours towards it.
#[derive(Clone, Debug)]
pub struct SipTrunk {
    pub transport: Transport,
    /// Whose certificates a far side may have, over TLS: a file of PEM, or the machine's own.
    pub tls_roots: Option<PathBuf>,
    /// Chain and key of our own, PEM, for far sides that connect to us over TLS; without them nobody can.
    pub tls_certificate: Option<(PathBuf, PathBuf)>,
    /// Where requests go: an address, or a name. One without a port is looked up by its SRV records first.
    pub sbc_ip: Option<Host>,
    pub destination_sbc_port: Option<u16>,
    /// An address that calls come from beside `sbc_ip`; where requests go if there is no `sbc_ip`.
    pub gateway_ip: Option<Host>,
    /// The first hop of every request, whatever its URI says.
    pub proxy: Option<Host>,
    /// The domain of our URIs there, and of the registrar.
    pub domain: Option<String>,
    /// What SIP listens on, and what it shows to the far side where that differs (NAT).
    pub internal_sip_ip: IpAddr,
    pub external_sip_ip: Option<IpAddr>,
    pub source_pbx_port: u16,
    /// The same for RTP.
    pub internal_rtp_ip: IpAddr,
    pub external_rtp_ip: Option<IpAddr>,
    pub rtp_ports: RangeInclusive<u16>,
    pub credentials: Option<Credentials>,
    pub require_registration: bool,
    pub register_expires: Duration,
    /// The preferred first.
    pub codec_preferences: Vec<Codec>,
    pub ptime_ms: u8,
    /// A number into the request URI of a call, and into `Refer-To`.
    pub number_template: Template,
    pub refer_to: Template,
    pub transfer_mode: TransferMode,
    pub dtmf_mode: DtmfMode,
    /// Whether what comes before the answer is heard.
    pub early_media: bool,
    /// OPTIONS this often; `None`: never.
    pub options_interval: Option<Duration>,
    /// RFC 4028; `None`: no session timer of ours.
    pub session_expires: Option<Duration>,
    pub min_se: Duration,
    /// No RTP at all since the answer, and none since some; `None`: no limit.
    pub media_timeout_initial: Option<Duration>,
    pub media_timeout: Option<Duration>,
    /// 5xx in a row before no call is tried for `breaker_sec`; 0: never.
    pub breaker_failures: u32,
    pub breaker: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub sip_username: String,
    pub sip_password: Secret,
}

impl SipTrunk {
    /// Towards this host, everything else as by default.
    pub fn to(host: Host) -> Self {
        Self { sbc_ip: Some(host), ..Self::default() }
    }

    /// Where requests go: `proxy`, `sbc_ip`, `gateway_ip` or `domain`, the first that is there.
    pub fn peer(&self) -> Host {
        let written = self.proxy.as_ref().or(self.sbc_ip.as_ref()).or(self.gateway_ip.as_ref());
        let named = || Host { name: self.domain.clone().unwrap_or_default(), port: None };
        let host = written.cloned().unwrap_or_else(named);
        let port = if self.proxy.is_some() { host.port } else { self.destination_sbc_port.or(host.port) };
        Host { port, ..host }
    }

    /// The same with a port where there is one: a name without one has it from its records (RFC 3263 §4.2).
    pub fn hop(&self) -> Host {
        let Host { name, port } = self.peer();
        let port = port.or_else(|| name.parse::<IpAddr>().is_ok().then(|| self.default_port()));
        Host { name, port }
    }

    /// The port of this transport where none is written.
    pub fn default_port(&self) -> u16 {
        if self.transport == Transport::Tls { SIPS_PORT } else { SIP_PORT }
    }

    /// The domain of our URIs there; with a port where the far side has one of its own.
    pub fn trunk_host(&self) -> String {
        if let Some(domain) = &self.domain {
            return domain.clone();
        }
        let host = self.sbc_ip.as_ref().or(self.gateway_ip.as_ref()).or(self.proxy.as_ref());
        let host = host.cloned().unwrap_or(Host { name: String::new(), port: None });
        let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name };
        match self.destination_sbc_port.or(host.port) {
            Some(port) if port != self.default_port() => format!("{name}:{port}"),
            _ => name,
        }
    }

    /// The hosts that are this trunk: a redirect may lead there, and calls from there are its own.
    pub fn hosts(&self) -> Vec<&str> {
        let written = [&self.sbc_ip, &self.gateway_ip, &self.proxy].into_iter().flatten();
        written.map(|host| host.name.as_str()).chain(self.domain.as_deref()).collect()
    }

    /// The same, each with its port where it has one.
    pub fn places(&self) -> Vec<Host> {
        let sbc = self.sbc_ip.clone().map(|host| Host { port: self.destination_sbc_port.or(host.port), ..host });
        let domain = self.domain.as_ref().and_then(|domain| domain.parse().ok());
        [sbc, self.gateway_ip.clone(), self.proxy.clone(), domain].into_iter().flatten().collect()
    }

    /// The same without ports.
    pub fn host_names(&self) -> Vec<String> {
        let name = |host: &str| host.parse::<Host>().map_or_else(|_| host.to_owned(), |host| host.name);
        self.hosts().into_iter().map(name).collect()
    }

    /// Calls that the RTP ports are enough for: each has two, the lower one even.
    pub(super) fn most_calls(&self) -> usize {
        let (from, to) = (usize::from(*self.rtp_ports.start()).next_multiple_of(2), usize::from(*self.rtp_ports.end()));
        (to + 1).saturating_sub(from) / 2
    }
}

impl Default for SipTrunk {
    fn default() -> Self {
        let any = IpAddr::from([0, 0, 0, 0]);
        Self {
            transport: Transport::Udp,
            tls_roots: None,
            tls_certificate: None,
            sbc_ip: None,
            destination_sbc_port: None,
            gateway_ip: None,
            proxy: None,
            domain: None,
            internal_sip_ip: any,
            external_sip_ip: None,
            source_pbx_port: SIP_PORT,
            internal_rtp_ip: any,
            external_rtp_ip: None,
            rtp_ports: RTP_PORTS,
            credentials: None,
            require_registration: false,
            register_expires: Duration::from_secs(3600),
            codec_preferences: Codec::ALL.to_vec(),
            ptime_ms: 20,
            number_template: Template::sip(),
            refer_to: Template::sip(),
            transfer_mode: TransferMode::Auto,
            dtmf_mode: DtmfMode::Auto,
            early_media: false,
            options_interval: Some(Duration::from_secs(30)),
            session_expires: Some(Duration::from_secs(1800)),
            min_se: MIN_SE,
            media_timeout_initial: Some(Duration::from_secs(30)),
            media_timeout: Some(Duration::from_secs(15)),
            breaker_failures: 5,
            breaker: Duration::from_secs(30),
        }
    }
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { name: address.to_string(), port: None });
        }
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self { name: address.ip().to_string(), port: Some(address.port()).filter(|port| *port != 0) });
        }
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port != 0).ok_or("the port is none"));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = (1..=253).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with(['-', '.']);
        if is_name { Ok(Self { name: name.to_owned(), port: port.transpose()? }) } else { Err("no name of a host") }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.contains(':') { format!("[{}]", self.name) } else { self.name.clone() };
        match self.port {
            Some(port) => write!(f, "{name}:{port}"),
            None => f.write_str(&name),
        }
    }
}
