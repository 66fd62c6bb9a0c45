//! A [`Dial`] made ready: its wire, server name, TLS and SETUP.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn_proto::{ConnectionId, ConnectionIdGenerator as _, RandomConnectionIdGenerator};
use url::{Host, Url};

use super::congestion::Demand;
use super::shown::shown;
use super::{Dial, transport, verify};
use crate::moqt::message::Setup;
use crate::moqt::{Draft, Drafts};

/// The longest that version 1 has.
const FIRST_ID_BYTES: usize = 20;

pub(super) struct Ready {
    pub(super) url: Url,
    pub(super) address: SocketAddr,
    /// For the certificate.
    pub(super) name: String,
    pub(super) config: quinn_proto::ClientConfig,
    pub(super) drafts: Drafts,
    pub(super) setup: Setup,
    pub(super) demand: Demand,
    /// What the first packets of the connection are addressed to, until the server has chosen (RFC 9000 §7.2).
    pub(super) first_id: ConnectionId,
}

pub(super) fn prepare(dial: Dial) -> Result<Ready, String> {
    let Dial { url, address, trust, drafts, mut setup } = dial;
    let name = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(format!("{} names no host: write moqt://host:port", shown(url.as_str()))),
    };
    let alpn: Vec<&str> = match url.scheme() {
        "moqt" | "moq" | "quic" => {
            // Over raw QUIC the SETUP says what the URL says (§10.3.1.1–2).
            setup.authority.get_or_insert_with(|| authority(&url, &name));
            if setup.path.is_none() {
                setup.path = path(&url);
            }
            drafts.iter().map(Draft::alpn).collect()
        }
        "https" => {
            // Over WebTransport it must not: the CONNECT does.
            (setup.path, setup.authority) = (None, None);
            vec![transport::H3]
        }
        other => return Err(format!("{other}:// is not a MoQT address: write moqt:// or https://")),
    };
    let demand = Demand::default();
    let mut config = transport::client(verify::client(&trust, &alpn)?, &demand);
    let first_id = RandomConnectionIdGenerator::new(FIRST_ID_BYTES).generate_cid();
    config.initial_dst_cid_provider(Arc::new(move || first_id));
    Ok(Ready { url, address, name, config, drafts, setup, demand, first_id })
}

fn authority(url: &Url, name: &str) -> String {
    let host = url.host_str().unwrap_or(name);
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn path(url: &Url) -> Option<String> {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}{query}", url.path())).filter(|path| !path.is_empty())
}
