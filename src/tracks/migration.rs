//! Where a relay that says GOAWAY may send us (draft-18 §"Session Migration"): pure, a URI in, a URL or a refusal out.
//!
//! The new session shows the same tokens as the old one. They go to nobody whom the user has not named: to the same host, whatever
//! its port and path, or to whoever shows the certificate that the user pinned (decision 0048).

use std::net::SocketAddr;

use url::Url;

use crate::net::Trust;
use crate::net::shown::shown;

/// Schemes by what carries them: a peer that spoke one may not speak the other to us.
const RAW: [&str; 3] = ["moqt", "moq", "quic"];

/// What to dial in place of `current`. The error says why it is not what the relay asked for.
pub fn follow(current: &Url, trust: &Trust, uri: &str) -> Result<Url, String> {
    let url = Url::parse(uri).map_err(|_| format!("the relay sends us to {:?}, which is no URL", shown(uri)))?;
    let raw = |url: &Url| RAW.contains(&url.scheme());
    if raw(&url) != raw(current) || !(raw(&url) || url.scheme() == "https") {
        return Err(format!("the relay sends us to {}, and we came by {}://", shown(uri), current.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("the relay sends us to {}, which names no host alone", shown(uri)));
    }
    let is_pinned = matches!(trust, Trust::Hashes(hashes) if !hashes.is_empty());
    let (host, before) = (url.host_str().unwrap_or_default(), current.host_str().unwrap_or_default());
    if !host.eq_ignore_ascii_case(before) && !is_pinned {
        return Err(format!("the relay sends us to {host}, which may not see our tokens: no certificate is pinned"));
    }
    Ok(url)
}

/// The same for whoever asks no name server: another port or path of the same host, whose `address` is known, or an address.
/// `default_port`: of a URL that names none.
pub fn follow_to(
    (current, address): (&Url, SocketAddr),
    trust: &Trust,
    uri: &str,
    default_port: u16,
) -> Result<(Url, SocketAddr), String> {
    let moved = follow(current, trust, uri)?;
    let port = moved.port_or_known_default().unwrap_or(default_port);
    let host = moved.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(ip) => Ok((moved, SocketAddr::new(ip, port))),
        Err(_) if current.host_str().is_some_and(|before| before.eq_ignore_ascii_case(host)) => {
            Ok((moved, SocketAddr::new(address.ip(), port)))
        }
        Err(_) => Err(format!("the relay sends us to {host}, another name, and only addresses are followed here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(current: &str, trust: &Trust, uri: &str) -> Option<String> {
        follow(&Url::parse(current).unwrap(), trust, uri).ok().map(Into::into)
    }

    #[test]
    fn another_port_or_path_of_the_same_host_is_followed() {
        let relay = "moqt://relay.example:4433/voice";
        for uri in ["moqt://relay.example:4434/voice", "moq://relay.example/", "quic://RELAY.example:4433/other?x=1"] {
            for trust in [Trust::System, Trust::Roots(vec![]), Trust::Anything] {
                assert!(from(relay, &trust, uri).is_some(), "{uri} {trust:?}");
            }
        }
        assert!(from("https://r:1/", &Trust::System, "https://r:2/x").is_some());
        assert!(from("moqt://127.0.0.1:1", &Trust::System, "moqt://127.0.0.1:2").is_some());
    }

    #[test]
    fn tokens_go_to_another_host_only_under_a_pinned_certificate() {
        let (relay, other) = ("moqt://relay.example:4433", "moqt://other.example:4433");
        for trust in [Trust::System, Trust::Roots(vec![]), Trust::Anything, Trust::Hashes(vec![])] {
            assert_eq!(from(relay, &trust, other), None, "{trust:?}");
        }
        assert_eq!(from(relay, &Trust::Hashes(vec![[7; 32]]), other).as_deref(), Some(other));
    }

    #[test]
    fn what_is_no_address_of_ours_is_refused() {
        let pinned = Trust::Hashes(vec![[7; 32]]);
        for uri in ["", "relay.example:1", "https://relay.example", "http://relay.example", "moqt://u:p@relay.example"]
        {
            assert_eq!(from("moqt://relay.example", &pinned, uri), None, "{uri}");
        }
        assert_eq!(from("https://relay.example", &pinned, "moqt://relay.example"), None);
        let relay = Url::parse("moqt://relay.example").unwrap();
        for uri in ["moqt://u:pa55@relay.example", "moqt://u:pa/55@relay.example", "ftp://u:pa55@relay.example"] {
            let told = follow(&relay, &pinned, uri).unwrap_err();
            assert!(!told.contains("55"), "{told}");
        }
    }
}
