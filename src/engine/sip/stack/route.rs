//! Where a request goes. Of a trunk it is one place of its host, known before a word is said; what is left are the Contacts and Record-Routes
//! of far ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Host, HostWithPort, Uri, typed};
use rsipstack::transaction::endpoint::TargetLocator;
use rsipstack::transport::SipAddr;
use rsipstack::transport::transport_layer::DomainResolver;
use rsipstack::{Error, Result};

use super::super::Transport;
use super::super::names::{Draw, Names};
use super::Stack;
use super::connections::Connections;
use crate::engine::config;

/// Places that one call tries.
const MOST_TRIES: usize = 4;
/// Ends a Route that says where a call goes, to the crate alone: `mend` takes it out of every request.
pub(super) const PLACE: &str = ";x-clutchcall-place";

/// Why nobody is there, and where nobody is, as far as that was found out.
#[derive(Debug)]
pub(in crate::engine::sip) struct Unreached {
    pub(in crate::engine::sip) place: Option<SocketAddr>,
    pub(in crate::engine::sip) error: String,
}

impl Transport {
    pub(super) fn named(self) -> rsipstack::sip::Transport {
        match self {
            Self::Udp => rsipstack::sip::Transport::Udp,
            Self::Tcp => rsipstack::sip::Transport::Tcp,
            Self::Tls => rsipstack::sip::Transport::Tls,
        }
    }
}

impl Connections {
    /// A URI without a transport goes over its stack's own: there is one stack per transport. Over TLS everything goes over TLS.
    pub(super) fn target(&self, uri: &Uri) -> SipAddr {
        let own = self.transport.named();
        let named = uri.transport().copied().filter(|_| self.transport != Transport::Tls);
        SipAddr { r#type: Some(named.unwrap_or(own)), addr: uri.host_with_port.clone() }
    }
}

/// Where a connection is needed it is there afterwards.
pub(super) struct Targets(pub(super) Arc<Connections>);

#[async_trait]
impl TargetLocator for Targets {
    async fn locate(&self, uri: &Uri) -> Result<SipAddr> {
        let target = self.0.target(uri);
        if !matches!(target.r#type, Some(rsipstack::sip::Transport::Tcp | rsipstack::sip::Transport::Tls)) {
            return Ok(target);
        }
        Ok(self.0.reach(&target).await.unwrap_or_else(|error| {
            tracing::debug!(%uri, error, "a far side can't be reached");
            // The crate finds no way there, opens no connection of its own, and asks here again until the transaction's time is over.
            SipAddr { r#type: None, ..target }
        }))
    }
}

/// The crate's way to [`Names`].
#[derive(Clone)]
pub(super) struct Resolver(pub(super) Arc<Names>);

#[async_trait]
impl DomainResolver for Resolver {
    async fn resolve(&self, target: &SipAddr) -> Result<SipAddr> {
        self.find(target).await
    }
}

impl Resolver {
    pub(super) async fn find(&self, target: &SipAddr) -> Result<SipAddr> {
        let Host::Domain(name) = &target.addr.host else { return Ok(target.clone()) };
        let port = target.addr.port.as_ref().map(|port| port.value());
        let host = config::Host { name: name.to_string(), port };
        let place = self.0.place(&host, Draw::Kept).await.map_err(Error::DnsResolutionError)?;
        Ok(SipAddr { r#type: target.r#type, addr: HostWithPort::from(place) })
    }
}

impl Stack {
    /// The place of this host where somebody can be spoken to; over TCP and TLS the connection is there afterwards. Its certificate names the
    /// host as it is written here, whatever its records say (RFC 5922 §4).
    pub(in crate::engine::sip) async fn reach(
        &self,
        host: &config::Host,
        draw: Draw,
    ) -> std::result::Result<SocketAddr, Unreached> {
        let mut unreached = Unreached { place: None, error: String::new() };
        for _ in 0..MOST_TRIES {
            let tried = unreached.place;
            let place = self.names.place(host, draw).await.map_err(|error| Unreached { place: tried, error })?;
            if Some(place) == tried {
                break;
            }
            let Err(error) = self.connect(&host.name, place).await else { return Ok(place) };
            unreached = Unreached { place: Some(place), error };
            // Another place of the same host, if there is one that was not tried.
            if !self.pass_over(&host.name, place) {
                break;
            }
        }
        Err(unreached)
    }

    pub(super) async fn connect(&self, name: &str, place: SocketAddr) -> std::result::Result<(), String> {
        if self.transport == Transport::Udp {
            return Ok(());
        }
        let host = match name.parse::<IpAddr>() {
            Ok(ip) => Host::IpAddr(ip),
            Err(_) => Host::Domain(name.to_owned().into()),
        };
        self.connections.reach_at(&self.at(place), &host).await
    }

    /// This place of the host is left out for a while: nobody answers there. `false`: it was left out before.
    pub(in crate::engine::sip) fn pass_over(&self, host: &str, place: SocketAddr) -> bool {
        self.names.fail(host, place)
    }

    pub(in crate::engine::sip) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    pub(super) fn at(&self, place: SocketAddr) -> SipAddr {
        SipAddr { r#type: Some(self.transport.named()), addr: place.into() }
    }

    /// INVITE and CANCEL find the same place by it (RFC 3263 §4): a name that is asked again may lead to another one.
    pub(super) fn pinned(&self, place: SocketAddr) -> std::result::Result<typed::Route, String> {
        let text = format!("sip:{place}{};lr{PLACE}", self.transport.parameter());
        let uri = Uri::try_from(text.as_str()).map_err(|error| format!("{text:?} is no SIP URI: {error}"))?;
        Ok(typed::Route { display_name: None, uri, params: Vec::new() })
    }
}
