//! Where a request goes. Of a trunk it is one place of its host, known before a word is said; what is left are the Contacts and Record-Routes
//! of far ends.
//!
//! The crate goes to a Route by itself where it is an address, and opens a connection if it finds none that is written in the same way: one
//! without a port or transport is never found. What is a name it asks for ([`Targets`]), so that addresses have a name for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Header, Headers, Host, HostWithPort, SipMessage, Uri, typed};
use rsipstack::transaction::endpoint::TargetLocator;
use rsipstack::transport::SipAddr;
use rsipstack::transport::transport_layer::DomainResolver;
use rsipstack::{Error, Result};

use super::super::Transport;
use super::super::names::{Draw, Names};
use super::connections::{Connections, is_tls};
use super::{Stack, users};
use crate::engine::config;

/// Places that one call tries.
const MOST_TRIES: usize = 4;
/// Ends a Route that says where a call goes, to the crate alone: `mend` takes it out of every request.
pub(super) const PLACE: &str = ";x-clutchcall-place";
const SIP_PORT: u16 = 5060;
const SIPS_PORT: u16 = 5061;
/// Ends the address in a Route, to the crate alone.
const NAMED: &str = ".x-clutchcall";

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
        self.place(&SipAddr { r#type: uri.transport().copied(), addr: uri.host_with_port.clone() })
    }

    /// The same for a place, with its address again.
    pub(super) fn place(&self, place: &SipAddr) -> SipAddr {
        let own = self.transport.named();
        let named = place.r#type.filter(|_| self.transport != Transport::Tls);
        let mut addr = place.addr.clone();
        if let Host::Domain(name) = &addr.host
            && let Some(ip) = address_of(&name.to_string())
        {
            addr.host = Host::IpAddr(ip);
        }
        let mut place = SipAddr { r#type: Some(named.unwrap_or(own)), addr };
        if is_stream(&place) && matches!(place.addr.host, Host::IpAddr(_)) {
            place.addr.port.get_or_insert(if is_tls(&place) { SIPS_PORT } else { SIP_PORT }.into());
        }
        place
    }
}

pub(super) fn is_stream(place: &SipAddr) -> bool {
    matches!(place.r#type, Some(rsipstack::sip::Transport::Tcp | rsipstack::sip::Transport::Tls))
}

/// Gives the addresses in what is recorded of the way a name, and hides the users. Addresses of IPv6 stay what they are.
pub(super) fn name(message: &mut SipMessage) {
    let headers = match message {
        SipMessage::Request(request) => &mut request.headers,
        SipMessage::Response(response) => &mut response.headers,
    };
    for header in headers.iter_mut() {
        let Header::RecordRoute(value) = header else { continue };
        let mut text = users::hidden(value.value());
        let routes = typed::RecordRoute::parse_header_list(&text).unwrap_or_default();
        for route in routes {
            if let Host::IpAddr(ip @ IpAddr::V4(_)) = route.uri.host_with_port.host
                && !text.contains(&format!("{ip}{NAMED}"))
            {
                text = text.replace(&ip.to_string(), &format!("{ip}{NAMED}"));
            }
        }
        *value = text.into();
    }
}

/// Whose name it is. One address may be the begin of another.
fn address_of(name: &str) -> Option<IpAddr> {
    name.contains(NAMED).then(|| name.replace(NAMED, "").parse().ok())?
}

/// As the far side wrote it.
pub(super) fn name_no_more(headers: &mut Headers) {
    for header in headers.iter_mut() {
        match header {
            Header::RecordRoute(value) => *value = users::shown(value.value()).replace(NAMED, "").into(),
            Header::Route(value) => *value = users::shown(value.value()).replace(NAMED, "").into(),
            _ => {}
        }
    }
}

/// Where a connection is needed it is there afterwards.
pub(super) struct Targets(pub(super) Arc<Connections>);

#[async_trait]
impl TargetLocator for Targets {
    async fn locate(&self, uri: &Uri) -> Result<SipAddr> {
        let target = self.0.target(uri);
        if !is_stream(&target) {
            return Ok(target);
        }
        Ok(self.0.reach(&target).await.unwrap_or_else(|error| {
            tracing::debug!(%uri, error, "a far side can't be reached");
            // The crate finds no way there, opens no connection of its own, and asks here again until the transaction's time is over.
            SipAddr { r#type: None, ..target }
        }))
    }
}

/// Of a name.
#[async_trait]
impl DomainResolver for Targets {
    async fn resolve(&self, target: &SipAddr) -> Result<SipAddr> {
        let target = self.0.place(target);
        match is_stream(&target) {
            true => self.0.reach(&target).await.map_err(Error::DnsResolutionError),
            false => self.0.resolver.find(&target).await,
        }
    }
}

/// The way to [`Names`].
#[derive(Clone)]
pub(super) struct Resolver(pub(super) Arc<Names>);

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

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(record_route: &str) -> (String, Headers) {
        let text = format!("SIP/2.0 200 OK\r\nRecord-Route: {record_route}\r\nContent-Length: 0\r\n\r\n");
        let mut message = SipMessage::try_from(text.as_str()).unwrap();
        name(&mut message);
        let SipMessage::Response(response) = message else { unreachable!("it was written as one") };
        let values = response.headers.iter().find_map(|header| match header {
            Header::RecordRoute(value) => Some(value.value().to_owned()),
            _ => None,
        });
        (values.unwrap(), response.headers)
    }

    #[test]
    fn an_address_in_a_route_is_a_name_for_the_crate_and_as_it_was_for_others() {
        for (written, told) in [
            ("<sip:10.0.0.1;lr>", "<sip:10.0.0.1.x-clutchcall;lr>"),
            (
                "\"a, b\" <sip:10.0.0.1:5070;transport=tcp;lr>, <sip:p.test;lr>;x=1",
                "\"a, b\" <sip:10.0.0.1.x-clutchcall:5070;transport=tcp;lr>, <sip:p.test;lr>;x=1",
            ),
            (
                "<sip:10.0.0.1;lr>,<sip:10.0.0.1;r2=on;lr>",
                "<sip:10.0.0.1.x-clutchcall;lr>,<sip:10.0.0.1.x-clutchcall;r2=on;lr>",
            ),
            (
                "<sip:10.0.0.1;lr>, <sip:10.0.0.12;lr>",
                "<sip:10.0.0.1.x-clutchcall;lr>, <sip:10.0.0.1.x-clutchcall2;lr>",
            ),
            ("<sip:[2001:db8::1]:5060;lr>", "<sip:[2001:db8::1]:5060;lr>"),
            (
                "<sip:p;x=%3A@10.0.0.1;lr;y=%41>, <sip:q@p.test;lr>",
                "<sip:p\u{1}x=\u{2}3A@10.0.0.1.x-clutchcall;lr;y=%41>, <sip:q@p.test;lr>",
            ),
            ("<sip:", "<sip:"),
        ] {
            let (names, mut headers) = recorded(written);
            assert_eq!(names, told);
            name_no_more(&mut headers);
            assert!(
                headers.iter().any(|header| matches!(header, Header::RecordRoute(value) if value.value() == written))
            );
        }
        let ip = |text: &str| text.parse().ok();
        assert_eq!(address_of("10.0.0.1.x-clutchcall"), ip("10.0.0.1"));
        assert_eq!(address_of("10.0.0.1.x-clutchcall2"), ip("10.0.0.12"));
        assert_eq!((address_of("10.0.0.1"), address_of("p.test.x-clutchcall")), (None, None));
    }
}
