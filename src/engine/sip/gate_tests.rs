//! The table of who may speak, by a clock of its own.

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

struct Bench {
    gate: Arc<Gate>,
    peer: PeerId,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let (gate, now) = (Arc::<Gate>::default(), Instant::now());
        let peer = gate.enter([PEER]);
        Self { gate, peer, now }
    }

    /// Of so many requests at once, those that are taken.
    fn taken(&self, from: IpAddr, requests: usize) -> usize {
        (0..requests).filter(|_| self.gate.takes(from, true, self.now)).count()
    }

    fn counted(&self, name: &str) -> u64 {
        self.gate.counts.all().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_stranger_is_dropped_and_counted_and_a_peer_is_heard() {
    let bench = Bench::new();
    assert_eq!((bench.taken(PEER, 10), bench.taken(STRANGER, 10)), (10, 0));
    assert!(bench.gate.takes(PEER, false, bench.now) && !bench.gate.takes(STRANGER, false, bench.now));
    assert_eq!(bench.counted("stranger"), 11);
    assert!(bench.gate.takes(address("::ffff:192.0.2.1"), true, bench.now), "the same address in an IPv6 socket");
    bench.gate.leave(bench.peer);
    assert_eq!(bench.taken(PEER, 1), 0);
}

#[test]
fn strangers_who_may_try_are_bounded_each_and_together() {
    let mut bench = Bench::new();
    bench.gate.welcome(bench.peer, true);
    assert_eq!(bench.taken(STRANGER, 1000), 30);
    assert!(!bench.gate.takes(STRANGER, false, bench.now), "nobody asked him");
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.taken(STRANGER, 1000), 10);
    // A thousand of them get no more than all strangers may have, and a peer is none of them.
    let all: usize = (0..1000u32).map(|i| bench.taken(IpAddr::from((0xCB00_0000 + i).to_be_bytes()), 5)).sum();
    assert!((1..=400).contains(&all), "{all}");
    assert_eq!(bench.taken(PEER, 100), 100);
    assert!(bench.counted("stranger_rate") > 0);
}

#[test]
fn hosts_of_one_ipv6_network_are_one_source() {
    let bench = Bench::new();
    bench.gate.welcome(bench.peer, true);
    assert_eq!(bench.taken(address("2001:db8::1"), 20) + bench.taken(address("2001:db8::2"), 20), 30);
    assert_eq!(bench.taken(address("2001:db8:0:1::1"), 20), 20);
}

#[test]
fn a_peer_gone_wild_is_bounded_in_requests_and_heard_in_responses() {
    let bench = Bench::new();
    assert_eq!(bench.taken(PEER, 10_000), 2000);
    assert_eq!(bench.counted("peer_rate"), 8000);
    assert!(bench.gate.takes(PEER, false, bench.now));
}

#[test]
fn more_sources_than_are_remembered_cost_no_memory() {
    let mut bench = Bench::new();
    bench.gate.welcome(bench.peer, true);
    for i in 0..20_000u32 {
        bench.gate.takes(IpAddr::from((0x0A00_0000 + i).to_be_bytes()), true, bench.now);
    }
    assert_eq!(bench.gate.table().sources.len(), MOST_SOURCES);
    assert_eq!(bench.taken(PEER, 1), 1, "a peer is heard all the same");
    bench.now += Duration::from_secs(10);
    bench.gate.takes(STRANGER, true, bench.now);
    assert_eq!(bench.gate.table().sources.len(), 1);
}

#[test]
fn addresses_of_a_name_change_and_the_old_ones_are_known_for_a_while() {
    let mut bench = Bench::new();
    let (first, moved) = (address("192.0.2.2"), address("192.0.2.3"));
    bench.gate.tell(bench.peer, [first], bench.now);
    bench.now += Duration::from_secs(60);
    bench.gate.tell(bench.peer, [moved], bench.now);
    assert!([PEER, first, moved].into_iter().all(|address| bench.gate.knows(address)));
    bench.now += KEEP;
    bench.gate.tell(bench.peer, [moved], bench.now);
    // What is written stays.
    assert!(bench.gate.knows(PEER) && bench.gate.knows(moved) && !bench.gate.knows(first));
}

#[test]
fn which_trunks_an_address_has() {
    let bench = Bench::new();
    let other = bench.gate.enter([]);
    bench.gate.allow(other, vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    assert_eq!(bench.gate.peers_of(PEER), [bench.peer, other]);
    assert_eq!(bench.gate.peers_of(address("192.0.2.99")), [other]);
    assert_eq!(bench.gate.peers_of(address("2001:db8:7::1")), [other]);
    assert_eq!(bench.gate.peers_of(STRANGER), []);
}

#[test]
fn networks() {
    let holds = |network: &str, one: &str| network.parse::<Network>().unwrap().holds(address(one));
    assert!(holds("192.0.2.5", "192.0.2.5") && !holds("192.0.2.5", "192.0.2.6"));
    assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
    assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
    assert!(
        holds("::/0", "::1") && holds("2001:db8::/33", "2001:db8:7fff::") && !holds("2001:db8::/33", "2001:db8:8000::")
    );
    for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "host/8", "10.0.0.0/-1"] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
}

#[test]
fn connections_have_seats() {
    let bench = Bench::new();
    assert!(bench.gate.seat(STRANGER).is_none());
    let mut own: Vec<Seat> = (0..SEATS_OF_A_PEER).map(|_| bench.gate.seat(PEER).unwrap()).collect();
    assert!(bench.gate.seat(PEER).is_none());
    own.pop();
    assert!(bench.gate.seat(PEER).is_some(), "a seat that is left is free");
    bench.gate.welcome(bench.peer, true);
    let guests = |source: u32| [IpAddr::from((0xCB00_0000 + source).to_be_bytes()); 10];
    let seats: Vec<Seat> = (0..100).flat_map(guests).filter_map(|from| bench.gate.seat(from)).collect();
    assert_eq!(seats.len(), SEATS_OF_STRANGERS);
    assert_eq!(bench.counted("connection"), 2 + 1000 - SEATS_OF_STRANGERS as u64);
    drop((own, seats));
    let table = bench.gate.table();
    assert_eq!((table.taken, table.seats.len()), (0, 0));
}
