//! The skies in virtual time, and the proxy on loopback.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::{Climate, Direction, Loss, Proxy, Sky};

/// Nothing that passes comes near it.
const LIMIT: Duration = Duration::from_secs(20);
const MANY: u64 = 20_000;
const BYTES: u64 = 100;

fn climate(text: &str) -> Climate {
    text.parse().expect("a climate")
}

/// One datagram per millisecond; who arrived, and when.
fn carried(text: &str, seed: u64, count: u64) -> (Vec<(u64, u64)>, Sky<u64>) {
    let mut sky = Sky::new(seed);
    sky.change(climate(text));
    let mut arrived = Vec::new();
    for number in 0..count {
        let now_us = number * 1000;
        while let Some(due_us) = sky.due_us().filter(|due| *due <= now_us) {
            arrived.push((due_us, sky.pop(due_us).expect("it is due")));
        }
        sky.push(now_us, BYTES, number);
    }
    while let Some(due_us) = sky.due_us() {
        arrived.push((due_us, sky.pop(due_us).expect("it is due")));
    }
    (arrived, sky)
}

fn numbers(arrived: &[(u64, u64)]) -> Vec<u64> {
    arrived.iter().map(|(_, number)| *number).collect()
}

#[test]
fn a_clear_day_changes_nothing() {
    let (arrived, sky) = carried("", 7, 1000);
    assert!(arrived.iter().enumerate().all(|(n, (due_us, number))| *number == n as u64 && *due_us == number * 1000));
    let tally = sky.tally();
    assert_eq!((tally.came, tally.passed, tally.lost, tally.bytes_passed), (1000, 1000, 0, 100_000));
}

#[test]
fn the_same_seed_is_the_same_weather() {
    let text = "delay_us=20000 jitter_us=9000 loss=0.1 reorder=0.05 duplicate=0.05";
    assert_eq!(carried(text, 5, 2000).0, carried(text, 5, 2000).0);
    assert_ne!(carried(text, 5, 2000).0, carried(text, 6, 2000).0);
}

/// The fate of a datagram does not depend on what else the climate does.
#[test]
fn who_is_lost_depends_on_the_seed_and_the_number_alone() {
    let mut plain = numbers(&carried("loss=0.2", 9, 2000).0);
    let mut busy = numbers(&carried("loss=0.2 delay_us=5000 jitter_us=3000 reorder=0.3 duplicate=0.2", 9, 2000).0);
    for list in [&mut plain, &mut busy] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(plain, busy);
}

#[test]
fn uniform_loss_is_as_much_as_asked() {
    for rate in [0.02, 0.05, 0.3] {
        let (_, sky) = carried(&format!("loss={rate}"), 11, MANY);
        let lost = sky.tally().lost as f64 / MANY as f64;
        assert!((lost - rate).abs() < 0.1 * rate + 0.002, "{rate}: {lost}");
        assert_eq!(sky.tally().lost + sky.tally().passed, MANY);
    }
}

#[test]
fn bursts_are_as_long_and_as_many_as_asked() {
    let (arrived, sky) = carried("loss=0.1 burst=5", 3, MANY);
    let lost = sky.tally().lost as f64;
    assert!((lost / MANY as f64 - 0.1).abs() < 0.02, "{lost}");
    let heard = numbers(&arrived);
    let bursts = heard.windows(2).filter(|pair| pair[1] > pair[0] + 1).count() as f64;
    assert!((lost / bursts - 5.0).abs() < 0.7, "mean burst {}", lost / bursts);
}

#[test]
fn delay_and_jitter_keep_the_order() {
    let (arrived, _) = carried("delay_us=25000 jitter_us=15000", 2, 2000);
    assert_eq!(numbers(&arrived), (0..2000).collect::<Vec<_>>());
    let late: Vec<_> = arrived.iter().map(|(due_us, number)| due_us - number * 1000).collect();
    assert!(late.iter().all(|late_us| (25_000..40_000).contains(late_us)));
    assert!(late.iter().max() > Some(&38_000), "the jitter is used");
}

#[test]
fn reordered_ones_are_overtaken() {
    let (arrived, sky) = carried("reorder=0.1 reorder_us=3500", 2, 2000);
    let reordered = sky.tally().reordered;
    assert!((150..250).contains(&reordered), "{reordered}");
    let late = arrived.iter().filter(|(due_us, number)| due_us - number * 1000 == 3500).count() as u64;
    assert_eq!(late, reordered);
    assert_eq!(arrived.len(), 2000);
}

#[test]
fn duplicates_arrive_twice() {
    let (arrived, sky) = carried("duplicate=0.1", 2, 2000);
    let tally = sky.tally();
    assert!((150..250).contains(&tally.duplicated));
    assert_eq!(tally.passed, 2000 + tally.duplicated);
    let twice = arrived.windows(2).filter(|pair| pair[0].1 == pair[1].1).count() as u64;
    assert_eq!(twice, tally.duplicated);
}

/// 100 bytes per millisecond are 800 kbit/s; the line carries half, and its queue holds 20 ms of that.
#[test]
fn a_line_carries_its_rate_and_its_queue_is_bounded() {
    let (arrived, sky) = carried("rate_bps=400000 queue_bytes=1000", 1, 2000);
    let tally = sky.tally();
    assert_eq!(tally.passed + tally.overflowed, 2000);
    assert!((990..=1015).contains(&tally.passed), "{tally:?}");
    let most = arrived.iter().map(|(due_us, number)| due_us - number * 1000).max();
    assert!(most <= Some(20_000), "{most:?}");
}

#[test]
fn a_cut_loses_what_is_under_way_too() {
    let mut sky = Sky::new(1);
    sky.change(climate("delay_us=1000"));
    sky.push(0, BYTES, 0);
    sky.cut();
    sky.push(10, BYTES, 1);
    assert_eq!((sky.due_us(), sky.tally().cut), (None, 2));
    sky.heal();
    sky.push(20, BYTES, 2);
    assert_eq!((sky.pop(1019), sky.pop(1020)), (None, Some(2)));
}

#[test]
fn climates_are_read_and_refused() {
    assert_eq!(climate("loss=0.05").loss, Loss::Uniform(0.05));
    assert_eq!(climate("loss=0.05 burst=3").loss, Loss::Bursts { rate: 0.05, burst: 3.0 });
    assert_eq!(climate("rate_bps=64000 queue_bytes=8000").rate_bps, Some(64_000));
    let wrong = ["loss", "loss=2", "loss=-1", "loss=nan", "delay_us=1.5", "wind=3", "loss=0.9 burst=1", "burst=0.5"];
    for text in wrong {
        assert!(text.parse::<Climate>().is_err(), "{text}");
    }
}

/// A server that gives back what it hears, and says from where it came.
struct Echo {
    socket: UdpSocket,
}

impl Echo {
    fn new() -> Self {
        Self { socket: bound() }
    }
    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }
    fn answer(&self) -> SocketAddr {
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a datagram in time");
        self.socket.send_to(&buffer[..length], from).expect("loopback takes it");
        from
    }
}

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    socket
}

fn client(proxy: &Proxy) -> UdpSocket {
    let socket = bound();
    socket.connect(proxy.address()).expect("loopback");
    socket
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).expect("a datagram in time");
    buffer[..length].to_vec()
}

fn proxy(echo: &Echo) -> Proxy {
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).expect("a proxy");
    proxy.lead_to(echo.address()).expect("it lives");
    proxy
}

#[test]
fn each_client_has_a_port_of_its_own_towards_the_server() {
    let echo = Echo::new();
    let proxy = proxy(&echo);
    let clients: Vec<_> = (0..200).map(|_| client(&proxy)).collect();
    let mut ports = std::collections::BTreeSet::new();
    for (number, client) in clients.iter().enumerate() {
        client.send(&number.to_be_bytes()).expect("loopback");
        ports.insert(echo.answer());
        assert_eq!(heard(client), number.to_be_bytes(), "an answer finds the one who asked");
    }
    assert_eq!(ports.len(), clients.len());
    let counts = proxy.counts().expect("it lives");
    assert_eq!((counts.there.passed, counts.back.passed), (200, 200));
}

#[test]
fn a_client_moves_and_the_way_back_follows() {
    let echo = Echo::new();
    let proxy = proxy(&echo);
    let client = client(&proxy);
    client.send(b"one").expect("loopback");
    let first = echo.answer();
    assert_eq!(heard(&client), b"one");
    proxy.rebind(None).expect("another port");
    client.send(b"two").expect("loopback");
    let second = echo.answer();
    assert_eq!(heard(&client), b"two");
    proxy.rebind(Some(Ipv4Addr::new(127, 0, 0, 2).into())).expect("another address");
    client.send(b"three").expect("loopback");
    let third = echo.answer();
    assert_eq!(heard(&client), b"three");
    assert!(first.ip() == second.ip() && first.port() != second.port());
    assert_eq!(third.ip(), Ipv4Addr::new(127, 0, 0, 2));
}

#[test]
fn a_cut_path_passes_nothing_and_heals() {
    let echo = Echo::new();
    let proxy = proxy(&echo);
    let client = client(&proxy);
    for direction in [None, Some(Direction::There)] {
        let before = proxy.cut(direction).expect("it lives").there;
        client.send(b"lost").expect("loopback");
        while proxy.counts().expect("it lives").there.cut == before.cut {
            std::thread::yield_now();
        }
        proxy.heal().expect("it lives");
        client.send(b"heard").expect("loopback");
        echo.answer();
        assert_eq!(heard(&client), b"heard");
        assert_eq!(proxy.counts().expect("it lives").there.passed, before.passed + 1);
    }
}

/// The server's port is closed for a while: what is sent meanwhile is lost, and the flow lives on.
#[test]
fn a_server_that_comes_back_is_heard_again() {
    let echo = Echo::new();
    let address = echo.address();
    let proxy = proxy(&echo);
    let client = client(&proxy);
    drop(echo);
    for _ in 0..3 {
        let before = proxy.counts().expect("it lives").there.came;
        client.send(b"into the void").expect("loopback");
        while proxy.counts().expect("it lives").there.came == before {
            std::thread::yield_now();
        }
    }
    let echo = Echo { socket: UdpSocket::bind(address).expect("the port is free again") };
    echo.socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    client.send(b"back").expect("loopback");
    echo.answer();
    assert_eq!(heard(&client), b"back");
}
