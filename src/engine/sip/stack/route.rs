//! Where a request goes. A trunk's own peer is an address already; what is left are the Contacts and Record-Routes of far ends.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use rsipstack::sip::{Host, HostWithPort, Uri};
use rsipstack::transaction::endpoint::TargetLocator;
use rsipstack::transport::SipAddr;
use rsipstack::transport::transport_layer::DomainResolver;
use rsipstack::{Error, Result};

use super::super::Transport;
use super::Stack;

/// A name server that needs longer is none.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
/// What a connection to a trunk may take, its TLS handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const SIP_PORT: u16 = 5060;

impl Transport {
    pub(super) fn named(self) -> rsipstack::sip::Transport {
        match self {
            Self::Udp => rsipstack::sip::Transport::Udp,
            Self::Tcp => rsipstack::sip::Transport::Tcp,
            Self::Tls => rsipstack::sip::Transport::Tls,
        }
    }
}

/// A URI without a transport goes over its stack's own: there is one stack per transport.
pub(super) struct Targets {
    pub(super) transport: Transport,
}

#[async_trait]
impl TargetLocator for Targets {
    async fn locate(&self, uri: &Uri) -> Result<SipAddr> {
        let mut target = SipAddr::try_from(uri)?;
        target.r#type.get_or_insert(self.transport.named());
        Ok(target)
    }
}

/// Looks names up with the machine's own resolver.
pub(super) struct Names;

#[async_trait]
impl DomainResolver for Names {
    async fn resolve(&self, target: &SipAddr) -> Result<SipAddr> {
        let port = target.addr.port.as_ref().map_or(SIP_PORT, |port| port.value());
        let Host::Domain(name) = &target.addr.host else { return Ok(target.clone()) };
        let addresses = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name.to_string(), port))).await;
        let failed = |why: String| Error::DnsResolutionError(format!("{name}: {why}"));
        let mut addresses =
            addresses.map_err(|_| failed("no answer".to_owned()))?.map_err(|e| failed(e.to_string()))?;
        let first = addresses.next().ok_or_else(|| failed("no address".to_owned()))?;
        Ok(SipAddr { r#type: target.r#type, addr: HostWithPort::from(first) })
    }
}

impl Stack {
    /// Says early that a peer can't be reached; over TCP and TLS the connection is there afterwards. Its certificate names the host as it is
    /// written here.
    pub(in crate::engine::sip) async fn reach(&self, host: &str, port: u16) -> std::result::Result<(), String> {
        let host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => Host::IpAddr(ip),
            Err(_) => Host::Domain(host.to_owned().into()),
        };
        let addr = HostWithPort { host, port: Some(port.into()) };
        let target = SipAddr { r#type: Some(self.transport.named()), addr };
        let reached = tokio::time::timeout(CONNECT_LIMIT, self.endpoint.transport_layer.lookup(&target, None)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {} s", CONNECT_LIMIT.as_secs())),
        }
    }
}
