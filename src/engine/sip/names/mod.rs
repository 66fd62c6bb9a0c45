//! What the host of a far side leads to: [`Names`], one for each stack.
//!
//! | File | Holds |
//! |---|---|
//! | `servers` | [`Servers`]: which name servers are asked for SRV records |
//! | `ask` | one question to them |
//! | `failed` | the places of a host that nobody answered at lately |
//!
//! A name without a port has SRV records or none (RFC 3263 §4.2); the hosts of these, and names with a port, are looked up by the machine's
//! own resolver, which knows `/etc/hosts` too. Of all places the first is taken that our socket can speak to and that did not fail lately.
//!
//! Each name is asked for by one task at a time, and each question is bounded in time. When nobody answers, what was known last holds, and
//! while that goes on one request in half a minute waits for the next question. Names are bounded in number. What an answer means, and for
//! how long, is `sip::srv`'s.

mod ask;
mod failed;
mod servers;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Transport;
use super::dial::random;
use crate::engine::config::Host;
use crate::sip::dice::Dice;
use crate::sip::srv::{self, Known, Record, Service};
use failed::Failed;
pub use servers::Servers;

/// The machine's resolver may need longer; then it is none.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
/// All hosts of a name together.
const PATIENCE: Duration = Duration::from_secs(6);
/// Names that are remembered beside those of trunks: far ends may name hosts of all kinds.
const MOST_NAMES: usize = 256;
/// Addresses of one host.
const MOST_ADDRESSES: usize = 64;

/// Which of several places of the same priority comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// By chance, anew: of a call.
    Anew,
    /// As it was drawn when the records came: requests that belong together go together.
    Kept,
}

pub(super) struct Names {
    transport: Transport,
    /// Our socket's; `None`: there is none yet.
    ours: Option<IpAddr>,
    servers: Servers,
    names: Mutex<HashMap<String, Arc<Name>>>,
    dice: Mutex<Dice>,
}

#[derive(Default)]
struct Name {
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What is remembered of a name.
#[derive(Default)]
struct State {
    /// Its records, in an order that was drawn once.
    service: Known<Service>,
    addresses: Known<Vec<IpAddr>>,
    /// Why there are no addresses.
    error: Option<String>,
    failed: Failed,
    /// Of a trunk: it is never forgotten.
    is_kept: bool,
}

impl Name {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    pub(super) fn new(transport: Transport, ours: Option<IpAddr>, servers: Servers) -> Self {
        let seed = u64::from_str_radix(&random()[..16], 16).unwrap_or_default();
        Self { transport, ours, servers, names: Mutex::default(), dice: Mutex::new(Dice::new(seed)) }
    }

    fn name(&self, name: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains_key(name) && names.len() >= MOST_NAMES {
            names.retain(|_, name| name.state().is_kept);
        }
        Arc::clone(names.entry(name.to_owned()).or_default())
    }

    /// Where a request to this host goes now.
    pub(super) async fn place(&self, host: &Host, draw: Draw) -> Result<SocketAddr, String> {
        if let Ok(ip) = host.name.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, host.port.unwrap_or(self.transport.port())));
        }
        let (begun, name) = (Instant::now(), self.name(&host.name));
        let (mut failed, mut foreign, mut error) = (None, None, None);
        for (target, port) in self.targets(host, draw).await? {
            let addresses = self.addresses(&target).await;
            error = addresses.as_ref().err().cloned().or(error);
            for place in addresses.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)) {
                match self.ours.is_none_or(|ours| ours.is_ipv4() == place.is_ipv4()) {
                    // What can't be said is said by the socket.
                    false => _ = foreign.get_or_insert(place),
                    true if name.state().failed.has(place, Instant::now()) => _ = failed.get_or_insert(place),
                    true => return Ok(place),
                }
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
        }
        // All failed lately: in their order again.
        failed.or(foreign).ok_or_else(|| error.unwrap_or_else(|| format!("{}: no address", host.name)))
    }

    /// The place is left out for a while: nobody answers there. `false`: it was left out before, or is all that there is.
    pub(super) fn fail(&self, host: &str, place: SocketAddr) -> bool {
        if host.parse::<IpAddr>().is_ok() {
            return false;
        }
        self.name(host).state().failed.enter(place, Instant::now())
    }

    /// Every address that may be this host's, of a trunk.
    pub(super) async fn all(&self, host: &Host) -> Vec<IpAddr> {
        // Calls come from the addresses of the name itself as well.
        let mut hosts = vec![host.name.clone()];
        if let Ok(targets) = self.targets(host, Draw::Kept).await {
            hosts.extend(targets.into_iter().map(|(target, _)| target));
        }
        hosts.dedup();
        let mut all = Vec::new();
        self.name(&host.name).state().is_kept = true;
        for host in hosts {
            all.extend(self.addresses(&host).await.unwrap_or_default());
        }
        all
    }

    /// When the records of this name are to be asked for again.
    pub(super) fn due(&self, host: &Host) -> Option<Instant> {
        self.name(&host.name).state().service.due()
    }

    /// Why nobody is to be called there, as far as is known: its service is not offered.
    pub(super) fn refusal(&self, host: &Host) -> Option<String> {
        let is_refused =
            host.port.is_none() && self.name(&host.name).state().service.value() == Some(&Service::NotOffered);
        is_refused.then(|| self.not_offered(&host.name))
    }

    fn not_offered(&self, name: &str) -> String {
        format!(
            "{name} offers no SIP over {} (its record {} leads to \".\"): choose another transport, or ask the carrier",
            self.transport.as_str(),
            self.question(name)
        )
    }

    fn question(&self, name: &str) -> String {
        format!("{}.{name}", self.transport.service())
    }

    /// The hosts that are behind a host, with their ports, in the order in which they are tried.
    async fn targets(&self, host: &Host, draw: Draw) -> Result<Vec<(String, u16)>, String> {
        let itself = |port| vec![(host.name.clone(), port)];
        if let Some(port) = host.port {
            return Ok(itself(port));
        }
        match self.service(&host.name).await {
            Some(Service::At(mut records)) => {
                if draw == Draw::Anew {
                    records = self.drawn(records);
                }
                Ok(records.into_iter().map(|record| (record.target, record.port)).collect())
            }
            Some(Service::NotOffered) => Err(self.not_offered(&host.name)),
            Some(Service::Unsaid) | None => Ok(itself(self.transport.port())),
        }
    }

    fn drawn(&self, records: Vec<Record>) -> Vec<Record> {
        srv::ordered(records, &mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the name says of our transport; `None`: nobody ever told.
    async fn service(&self, host: &str) -> Option<Service> {
        let name = self.name(host);
        if let Some(_asking) =
            name.turn(|state| state.service.is_due(Instant::now()), |state| state.service.is_silent()).await
        {
            let found = ask::ask(&self.servers.now().await, &self.question(host)).await;
            let now = Instant::now();
            match found {
                Some((Service::At(records), lifetime)) => {
                    let mut state = name.state();
                    // The same ones stay in their order, however the server turns them round.
                    let same = state.service.value().filter(|known| is_same(known, &records)).cloned();
                    let service = same.unwrap_or_else(|| Service::At(self.drawn(records)));
                    state.service.handle_answer(service, lifetime, now);
                }
                Some((service, lifetime)) => name.state().service.handle_answer(service, lifetime, now),
                None => name.state().service.handle_silence(now),
            }
        }
        name.state().service.value().cloned()
    }

    /// By the machine's resolver, which says nothing of lifetimes.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let name = self.name(host);
        if let Some(_asking) =
            name.turn(|state| state.addresses.is_due(Instant::now()), |state| state.addresses.is_silent()).await
        {
            let found = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host, 0))).await;
            let found = found.map_err(|_| "no answer".to_owned()).and_then(|found| found.map_err(|e| e.to_string()));
            let (mut state, now) = (name.state(), Instant::now());
            match found {
                Ok(found) => {
                    let found = found.map(|address| address.ip()).take(MOST_ADDRESSES).collect();
                    state.addresses.handle_answer(found, Duration::ZERO, now);
                }
                Err(error) => {
                    state.addresses.handle_silence(now);
                    state.error = Some(format!("{host}: {error}"));
                }
            }
        }
        let state = name.state();
        let unknown = || state.error.clone().unwrap_or_else(|| format!("{host}: no address"));
        state.addresses.value().cloned().ok_or_else(unknown)
    }
}

fn is_same(known: &Service, records: &[Record]) -> bool {
    let Service::At(known) = known else { return false };
    known.len() == records.len() && records.iter().all(|record| known.contains(record))
}

impl Name {
    /// Somebody's turn to ask; `None`: nothing is to be asked, or somebody asks who may be in vain once more.
    async fn turn(
        &self,
        is_due: impl Fn(&State) -> bool,
        is_silent: impl Fn(&State) -> bool,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if !is_due(&self.state()) {
            return None;
        }
        let asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if is_silent(&self.state()) => return None,
            Err(_) => self.asking.lock().await,
        };
        // It was asked while we waited.
        is_due(&self.state()).then_some(asking)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::UdpSocket;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn names(server: SocketAddr) -> Names {
        Names::new(Transport::Udp, Some(LOOPBACK), Servers::new(vec![server]))
    }

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    /// A name server that says what it is told to, each time that it is asked; `None`: nothing.
    async fn serve(answers: Vec<Option<&'static [u8]>>) -> (SocketAddr, tokio::task::JoinHandle<usize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut bytes = [0; 512];
            for (asked, answer) in answers.iter().enumerate() {
                let Ok(Ok((length, from))) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut bytes)).await else {
                    return asked;
                };
                let Some(records) = answer else { continue };
                let mut message = bytes[..length].to_vec();
                message[2] = 0x81;
                message[7] = (records.len() / LOCAL.len()).max(usize::from(!records.is_empty())) as u8;
                message.extend(*records);
                socket.send_to(&message, from).await.unwrap();
            }
            answers.len()
        });
        (address, serving)
    }

    /// To `localhost`, port 5080, for a minute; and to the root.
    const LOCAL: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0";
    const NOWHERE: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x07\0\0\0\0\0\0\0";

    #[tokio::test]
    async fn a_port_or_an_address_asks_nobody() {
        let (server, serving) = serve(vec![Some(LOCAL)]).await;
        let names = names(server);
        for (written, place) in [
            ("192.0.2.1", "192.0.2.1:5060"),
            ("192.0.2.1:5070", "192.0.2.1:5070"),
            ("localhost:5070", "127.0.0.1:5070"),
        ] {
            assert_eq!(names.place(&host(written), Draw::Anew).await, Ok(place.parse().unwrap()));
        }
        assert!(!serving.is_finished(), "the name server was asked");
        assert_eq!(names.place(&host("carrier.test"), Draw::Anew).await, Ok("127.0.0.1:5080".parse().unwrap()));
        assert_eq!(serving.await.unwrap(), 1);
        let tls = Names::new(Transport::Tls, Some(LOOPBACK), Servers::new(vec![server]));
        assert_eq!(tls.place(&host("192.0.2.1"), Draw::Anew).await, Ok("192.0.2.1:5061".parse().unwrap()));
    }

    #[tokio::test]
    async fn many_that_come_at_once_ask_once() {
        let (server, serving) = serve(vec![Some(LOCAL)]).await;
        let (names, carrier) = (names(server), host("carrier.test"));
        let place = || names.place(&carrier, Draw::Anew);
        let (one, two, three) = tokio::join!(place(), place(), place());
        assert!([one, two, three].into_iter().all(|place| place == Ok("127.0.0.1:5080".parse().unwrap())));
        assert_eq!(serving.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn requests_that_belong_together_go_together() {
        const ONE: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0\
            \xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd9\x09localhost\0";
        const OTHER: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd9\x09localhost\0\
            \xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0";
        let (server, serving) = serve([Some(ONE), Some(OTHER)].repeat(10)).await;
        let (names, carrier) = (names(server), host("carrier.test"));
        let first = names.place(&carrier, Draw::Kept).await.unwrap();
        for _ in 1..20 {
            let known = names.name("carrier.test").state().service.value().cloned().unwrap();
            let long_ago = Instant::now() - Duration::from_secs(6);
            names.name("carrier.test").state().service.handle_answer(known, Duration::ZERO, long_ago);
            assert_eq!(names.place(&carrier, Draw::Kept).await, Ok(first), "each time that it is asked");
        }
        assert_eq!(serving.await.unwrap(), 20);
        let mut drawn = std::collections::HashSet::new();
        for _ in 0..100 {
            drawn.insert(names.place(&carrier, Draw::Anew).await.unwrap());
        }
        assert_eq!(drawn.len(), 2, "calls share them");
        assert!(names.fail("carrier.test", first));
        let next = names.place(&carrier, Draw::Kept).await.unwrap();
        assert!(next != first && names.fail("carrier.test", next));
        assert_eq!(names.place(&carrier, Draw::Kept).await, Ok(first), "where all failed they are tried again");
        assert!(!names.fail("carrier.test", first), "nobody goes round and round");
        assert!(!names.fail("192.0.2.1", "192.0.2.1:5060".parse().unwrap()), "an address has no other");
    }

    #[tokio::test]
    async fn without_records_the_names_own_addresses_are_meant() {
        let (server, serving) = serve(vec![Some(b"")]).await;
        assert_eq!(names(server).place(&host("localhost"), Draw::Anew).await, Ok("127.0.0.1:5060".parse().unwrap()));
        assert_eq!(serving.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_service_that_is_not_offered_says_so() {
        let (server, _serving) = serve(vec![Some(NOWHERE)]).await;
        let (names, local) = (names(server), host("localhost"));
        assert_eq!(names.refusal(&local), None, "nobody knows yet");
        let error = names.place(&local, Draw::Anew).await.unwrap_err();
        assert!(error.contains("localhost offers no SIP over udp (its record _sip._udp.localhost"), "{error}");
        assert_eq!(names.refusal(&local), Some(error));
        assert_eq!(names.refusal(&host("localhost:5060")), None);
        assert!(names.all(&local).await.contains(&LOOPBACK), "its own addresses may call");
    }

    #[tokio::test]
    async fn what_was_known_holds_while_the_name_server_is_silent() {
        let (server, serving) = serve(vec![Some(LOCAL), None, None, None]).await;
        let (names, carrier) = (names(server), host("carrier.test"));
        let known = Ok("127.0.0.1:5080".parse().unwrap());
        assert_eq!(names.place(&carrier, Draw::Anew).await, known);
        // Its minute is over.
        names.name("carrier.test").state().service.handle_answer(
            Service::At(vec![Record { priority: 1, weight: 1, port: 5080, target: "localhost".to_owned() }]),
            Duration::ZERO,
            Instant::now() - Duration::from_secs(6),
        );
        assert_eq!(names.place(&carrier, Draw::Anew).await, known);
        assert!(names.name("carrier.test").state().service.is_silent());
        serving.abort();
    }

    #[tokio::test]
    async fn names_of_strangers_cost_no_memory_and_those_of_trunks_stay() {
        let names = names("127.0.0.1:9".parse().unwrap());
        names.name("trunk").state().is_kept = true;
        for i in 0..10_000 {
            names.fail(&format!("h{i}"), "192.0.2.1:5060".parse().unwrap());
        }
        let remembered = names.names.lock().unwrap();
        assert!(remembered.len() <= MOST_NAMES && remembered.contains_key("trunk"));
    }
}
