//! Which name servers are asked for SRV records: those of the config, or the machine's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::files;

/// Where the C library reads them (resolv.conf(5)); read again for each question, since they change with the network.
const MACHINES: &str = "/etc/resolv.conf";
/// RFC 1035 §4.2.
const PORT: u16 = 53;
/// As many as the C library asks.
const MOST: usize = 3;

/// Cheap to clone. The default: the machine's.
#[derive(Clone, Debug, Default)]
pub struct Servers(Vec<SocketAddr>);

impl Servers {
    /// None: the machine's own.
    pub fn new(mut written: Vec<SocketAddr>) -> Self {
        written.truncate(MOST);
        Self(written)
    }

    pub(super) async fn now(&self) -> Vec<SocketAddr> {
        if !self.0.is_empty() {
            return self.0.clone();
        }
        let read = || files::text(Path::new(MACHINES), files::SETTINGS).unwrap_or_default();
        machines(&tokio::task::spawn_blocking(read).await.unwrap_or_default())
    }
}

/// Lines `nameserver ADDRESS`. Without any it is this machine itself, as for the C library.
fn machines(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()
    };
    let mut servers: Vec<SocketAddr> =
        text.lines().filter_map(address).map(|ip| SocketAddr::new(ip, PORT)).take(MOST).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_name_servers() {
        let text = "# of a network\nsearch example.com\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53  \n\
            ;nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver\nnameserver 192.0.2.54\nnameserver 192.0.2.55\n";
        let expected = ["192.0.2.53:53", "[2001:db8::53]:53", "192.0.2.54:53"].map(|text| text.parse().unwrap());
        assert_eq!(machines(text), expected);
        assert_eq!(machines("options edns0\n"), ["127.0.0.1:53".parse().unwrap()]);
    }
}
