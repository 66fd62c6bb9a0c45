//! Where a request goes. A trunk's own peer is an address already; what is left are the Contacts and Record-Routes of far ends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
/// How long an address that failed is left out, how many of a name are, and of how many names this is known.
const AVOIDED: Duration = Duration::from_secs(60);
const MOST_FAILED: usize = 32;
const MOST_NAMES: usize = 256;
/// Addresses that one call tries.
const MOST_TRIES: usize = 4;

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

/// Looks names up with the machine's own resolver. Of several addresses the first is taken that our socket can speak to and that did not
/// fail lately; where all did, they are tried again in their order.
pub(super) struct Names {
    ours: IpAddr,
    known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a name.
#[derive(Default)]
struct Known {
    taken: Option<IpAddr>,
    failed: Vec<(IpAddr, Instant)>,
}

impl Names {
    pub(super) fn new(ours: IpAddr) -> Arc<Self> {
        Arc::new(Self { ours, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address that was taken last is left out for a while. `false`: there was none that did not fail before.
    fn fail(&self, name: &str, now: Instant) -> bool {
        let mut known = self.known();
        let Some(Known { taken: Some(taken), failed }) = known.get_mut(name) else { return false };
        failed.retain(|(_, at)| now.saturating_duration_since(*at) < AVOIDED);
        let is_new = failed.iter().all(|(address, _)| address != taken);
        if is_new && failed.len() < MOST_FAILED {
            failed.push((*taken, now));
        }
        is_new
    }

    fn take(&self, name: &str, addresses: &[SocketAddr], now: Instant) -> Option<SocketAddr> {
        let mut known = self.known();
        if !known.contains_key(name) && known.len() >= MOST_NAMES {
            // Far ends may name hosts of all kinds; those of trunks come back by themselves.
            known.clear();
        }
        let known = known.entry(name.to_owned()).or_default();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < AVOIDED;
        let failed = |ip: IpAddr| known.failed.iter().any(|(address, at)| *address == ip && is_fresh(*at));
        let speaks = |address: &&SocketAddr| address.is_ipv4() == self.ours.is_ipv4();
        let best = addresses.iter().filter(speaks).find(|address| !failed(address.ip()));
        let taken = best.or_else(|| addresses.iter().find(speaks)).or(addresses.first()).copied();
        known.taken = taken.map(|address| address.ip());
        taken
    }
}

/// The crate's way to [`Names`].
pub(super) struct Resolver(pub(super) Arc<Names>);

#[async_trait]
impl DomainResolver for Resolver {
    async fn resolve(&self, target: &SipAddr) -> Result<SipAddr> {
        let port = target.addr.port.as_ref().map_or(SIP_PORT, |port| port.value());
        let Host::Domain(name) = &target.addr.host else { return Ok(target.clone()) };
        let name = name.to_string();
        let addresses = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name.as_str(), port))).await;
        let failed = |why: String| Error::DnsResolutionError(format!("{name}: {why}"));
        let addresses = addresses.map_err(|_| failed("no answer".to_owned()))?.map_err(|e| failed(e.to_string()))?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        let taken = self.0.take(&name, &addresses, Instant::now()).ok_or_else(|| failed("no address".to_owned()))?;
        Ok(SipAddr { r#type: target.r#type, addr: HostWithPort::from(taken) })
    }
}

impl Stack {
    /// Says early that a peer can't be reached; over TCP and TLS the connection is there afterwards. Its certificate names the host as it is
    /// written here.
    pub(in crate::engine::sip) async fn reach(&self, host: &str, port: u16) -> std::result::Result<(), String> {
        let name = host.to_owned();
        let host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => Host::IpAddr(ip),
            Err(_) => Host::Domain(host.to_owned().into()),
        };
        let addr = HostWithPort { host, port: Some(port.into()) };
        let target = SipAddr { r#type: Some(self.transport.named()), addr };
        for _ in 0..MOST_TRIES {
            let reached = self.endpoint.transport_layer.lookup(&target, None);
            let error = match tokio::time::timeout(CONNECT_LIMIT, reached).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no connection within {} s", CONNECT_LIMIT.as_secs()),
            };
            // Another address of the same name, if there is one that was not tried.
            if !self.pass_over(&name) {
                return Err(error);
            }
        }
        Err("none of its addresses can be reached".to_owned())
    }

    /// The host's address of now is left out for a while: nobody answers there. `false`: it was left out before.
    pub(in crate::engine::sip) fn pass_over(&self, host: &str) -> bool {
        self.names.fail(host, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_name_take_turns_when_they_fail() {
        let names = Names::new(IpAddr::from([127, 0, 0, 1]));
        let all = ["[2001:db8::1]:5060", "192.0.2.1:5060", "192.0.2.2:5060"].map(|text| text.parse().unwrap());
        let (one, other) = (all[1], all[2]);
        let mut now = Instant::now();
        assert_eq!(names.take("h", &all, now), Some(one), "an IPv4 socket speaks to no IPv6 address");
        assert!(names.fail("h", now));
        assert_eq!(names.take("h", &all, now), Some(other));
        assert!(names.fail("h", now));
        // All have failed: in their order again.
        assert_eq!(names.take("h", &all, now), Some(one));
        assert!(!names.fail("h", now), "nobody goes round and round");
        now += AVOIDED;
        assert!(names.fail("h", now));
        assert_eq!(names.take("h", &all, now), Some(other));
        assert_eq!(names.take("g", &all, now), Some(one), "another name has addresses of its own");
        assert_eq!(names.take("v6", &all[..1], now), Some(all[0]), "what can't be said is said by the socket");
        assert_eq!(names.take("none", &[], now), None);
        assert!(!names.fail("none", now) && !names.fail("never", now));
    }

    #[test]
    fn names_of_strangers_cost_no_memory() {
        let names = Names::new(IpAddr::from([127, 0, 0, 1]));
        let address = ["192.0.2.1:5060".parse().unwrap()];
        for i in 0..10_000 {
            names.take(&format!("h{i}"), &address, Instant::now());
        }
        assert!(names.known().len() <= MOST_NAMES);
    }
}
