//! Two connections with our settings over a path that loses packets, in virtual time: what of a link's audio arrives, and when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, StreamEvent, StreamId, Transmit};

use crate::moqt::session::tests::pair::{Rng, config as config_of};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Draft, Session};
use crate::net::congestion::{Demand, Meter};
use crate::net::datagrams::{Datagrams, Told};
use crate::net::quiet::Quiet;
use crate::net::tls::{Identity, QuicKeys};
use crate::net::{Counters, LinkEvent, Trust, transport, verify};

const STEP: Duration = Duration::from_millis(1);
const FRAME_MS: u64 = 20;
const FRAME_BYTES: usize = 172;
/// Slots of the engine's clock that the tracks of one link share.
const SLOTS: u64 = 4;
/// Which packets are lost is another draw in each run, since those of a handshake differ. What is asserted holds but for so many standard
/// deviations: one run of 30,000 is beyond them.
const CHANCE: f64 = 4.0;

#[derive(Clone, Copy, Debug)]
struct Load {
    tracks: u64,
    streams: bool,
    /// Of a thousand packets, each way.
    loss: u64,
    one_way: Duration,
    /// Bytes in a millisecond, and how much waits for them; what does not fit is lost.
    rate: Option<(u64, Duration)>,
    /// Whether the controller is told of the audio: without it is CUBIC.
    floor: bool,
    seconds: u64,
}

struct End {
    address: SocketAddr,
    endpoint: Endpoint,
    server: Option<quinn_proto::ServerConfig>,
    connection: Option<(ConnectionHandle, Connection)>,
    demand: Demand,
    quiet: Quiet,
    is_quiet: bool,
}

struct World {
    load: Load,
    start: Instant,
    now: Instant,
    rng: Rng,
    ends: [End; 2],
    /// By time of arrival.
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    busy_until: Instant,
    meter: Meter,
    datagrams: Datagrams,
    /// Hears which datagrams were dropped.
    session: Session,
    counters: Counters,
    streams: Vec<Option<StreamId>>,
    reading: BTreeMap<StreamId, BytesMut>,
    /// Datagrams as they came.
    raw: Vec<Bytes>,
    /// How late each frame came.
    delays: Vec<Duration>,
    said: u64,
    is_up: bool,
    /// Nothing gets through.
    is_cut: bool,
}

impl World {
    fn new(load: Load) -> Self {
        let now = Instant::now();
        let identity = Identity::ephemeral();
        let config = transport::server(&identity, &Default::default()).expect("an identity");
        let addresses = ["10.0.0.1:1000", "10.0.0.2:2000"].map(|text| text.parse().expect("an address"));
        let client = transport::endpoint(&QuicKeys::random().expect("randomness"), None, true);
        let server = transport::endpoint(identity.quic_keys(), Some(config.clone()), true);
        let end = |address, endpoint, server| End {
            address,
            endpoint,
            server,
            connection: None,
            demand: Demand::default(),
            quiet: Quiet::default(),
            is_quiet: false,
        };
        let mut ends = [end(addresses[0], client, None), end(addresses[1], server, Some(config))];
        let crypto = verify::client(&Trust::Anything, &[Draft::ALL[0].alpn()]).expect("settings");
        let config = transport::client(crypto, &ends[0].demand);
        ends[0].connection =
            Some(ends[0].endpoint.connect(now, config, addresses[1], "relay.test").expect("a connection"));
        let meter = Meter::new(ends[0].demand.clone(), now);
        Self {
            load,
            start: now,
            now,
            rng: Rng(load.loss + load.tracks * 1_000 + u64::from(load.streams)),
            ends,
            flying: BTreeMap::new(),
            sent: 0,
            busy_until: now,
            meter,
            datagrams: Datagrams::default(),
            session: Session::new(config_of(Role::Client), now),
            counters: Counters::default(),
            streams: vec![None; load.tracks as usize],
            reading: BTreeMap::new(),
            raw: Vec::new(),
            delays: Vec::new(),
            said: 0,
            is_up: false,
            is_cut: false,
        }
    }

    /// The client speaks for so long, and is heard to the end.
    fn run(mut self) -> Heard {
        let mut ms = 0;
        while ms < self.load.seconds * 1_000 {
            if self.is_up {
                self.speak(ms);
                ms += 1;
            }
            self.step();
        }
        // What is repeated comes in the end; what was lost for good does not.
        let end = self.now + Duration::from_secs(10);
        while (self.delays.len() as u64) < self.said && self.now < end {
            self.step();
        }
        let (said, mut delays) = (self.said, self.delays);
        delays.sort();
        let within = delays.iter().filter(|delay| **delay <= Duration::from_millis(120)).count();
        let percent = |part: usize| part as f64 * 100.0 / said as f64;
        let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or_default();
        let dropped = self.counters.datagrams_dropped;
        Heard { heard: percent(delays.len()), in_time: percent(within), p99, last: delays.last().copied(), dropped }
    }

    fn speak(&mut self, ms: u64) {
        let Some((_, connection)) = &mut self.ends[0].connection else { return };
        let stamp = self.now.duration_since(self.start).as_micros() as u64;
        let mut frame = stamp.to_be_bytes().to_vec();
        frame.resize(FRAME_BYTES, 7);
        for track in (0..self.load.tracks).filter(|track| track % SLOTS == ms % FRAME_MS) {
            self.said += 1;
            if self.load.floor {
                self.meter.said(FRAME_BYTES);
            }
            if !self.load.streams {
                let mut told = Told { session: &mut self.session, counters: &mut self.counters };
                let datagram = (RequestId(track), Bytes::from(frame.clone()));
                self.datagrams.say(connection, datagram, &mut told, self.now);
                continue;
            }
            let open = &mut self.streams[track as usize];
            let group_begins = (ms / FRAME_MS + track).is_multiple_of(50);
            if let Some(before) = open.take_if(|_| group_begins) {
                let _ = connection.send_stream(before).finish();
            }
            *open = open.or_else(|| connection.streams().open(Dir::Uni));
            if let Some(open) = *open {
                // A session is given room as its window grows (`streams`).
                connection.set_send_window(transport::SEND_WINDOW_MAX);
                let _ = connection.send_stream(open).write_chunks(&mut [Bytes::from(frame.clone())]);
            }
        }
        self.meter.roll(self.now);
    }

    /// The other end speaks a little too: its packets say again what it had received before the path died.
    fn answer(&mut self, ms: u64) {
        if let Some((_, connection)) = self.ends[1].connection.as_mut().filter(|_| ms.is_multiple_of(FRAME_MS)) {
            let _ = connection.datagrams().send(Bytes::from_static(&[0; 100]), true);
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            self.arrive(to, packet);
        }
        for end in 0..2 {
            self.look_at_quiet(end);
            if let Some((_, connection)) = &mut self.ends[end].connection {
                while connection.poll_timeout().is_some_and(|at| at <= self.now) {
                    connection.handle_timeout(self.now);
                }
            }
            self.settle(end);
            self.transmit(end);
        }
    }

    /// As a link does.
    fn look_at_quiet(&mut self, at: usize) {
        let End { connection: Some((_, connection)), quiet, is_quiet, .. } = &mut self.ends[at] else { return };
        let told = quiet.received(connection, self.now).or_else(|| quiet.handle_timeout(connection, self.now));
        match told {
            Some(LinkEvent::Quiet) => *is_quiet = true,
            Some(LinkEvent::Alive) => *is_quiet = false,
            _ => {}
        }
    }

    /// The listener's.
    fn pings(&self) -> u64 {
        self.ends[1].connection.as_ref().map_or(0, |(_, connection)| connection.stats().frame_tx.ping)
    }

    fn arrive(&mut self, to: usize, packet: Vec<u8>) {
        let from = self.ends[1 - to].address;
        let (now, mut buffer) = (self.now, Vec::new());
        let end = &mut self.ends[to];
        match end.endpoint.handle(now, from, None, None, BytesMut::from(&packet[..]), &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut end.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let config = end.server.as_ref().map(|base| transport::accepted(base, &end.demand));
                end.connection = end.endpoint.accept(incoming, now, &mut buffer, config).ok();
            }
            _ => {}
        }
        self.settle(to);
    }

    fn settle(&mut self, at: usize) {
        let mut readable = Vec::new();
        let end = &mut self.ends[at];
        let Some((handle, connection)) = &mut end.connection else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = end.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.is_up |= at == 0,
                Event::ConnectionLost { reason } => panic!("the connection is lost: {reason}"),
                Event::Stream(StreamEvent::Opened { dir }) => {
                    while let Some(id) = connection.streams().accept(dir) {
                        readable.push(id);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => readable.push(id),
                _ => {}
            }
        }
        let mut frames = Vec::new();
        while let Some(datagram) = connection.datagrams().recv() {
            frames.push(datagram);
        }
        for id in readable {
            let held = self.reading.entry(id).or_default();
            let mut stream = connection.recv_stream(id);
            let Ok(mut chunks) = stream.read(true) else { continue };
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                held.extend_from_slice(&chunk.bytes);
            }
            let _ = chunks.finalize();
            while held.len() >= FRAME_BYTES {
                frames.push(held.split_to(FRAME_BYTES).freeze());
            }
        }
        for frame in frames.iter().filter(|_| at == 1) {
            let stamp = u64::from_be_bytes(frame[..8].try_into().expect("eight bytes"));
            self.delays.push(self.now.duration_since(self.start).saturating_sub(Duration::from_micros(stamp)));
        }
        self.raw.extend(frames);
    }

    fn transmit(&mut self, from: usize) {
        let End { connection: Some((_, connection)), quiet, demand, .. } = &mut self.ends[from] else { return };
        let mut out = Vec::new();
        loop {
            let mut buffer = Vec::new();
            if from == 0 {
                let mut told = Told { session: &mut self.session, counters: &mut self.counters };
                self.datagrams.feed(connection, &mut told, self.now);
            }
            let question = quiet.take_question();
            demand.exempt(question);
            let segments = if question { 1 } else { 16 };
            let transmit = connection.poll_transmit(self.now, segments, &mut buffer);
            demand.exempt(false);
            let Some(Transmit { size, segment_size, .. }) = transmit else { break };
            out.extend(buffer[..size].chunks(segment_size.unwrap_or(size)).map(<[u8]>::to_vec));
        }
        if from == 0 {
            self.datagrams.settle(connection);
        }
        quiet.sent(connection, self.now);
        for packet in out {
            self.fly(1 - from, packet);
        }
    }

    fn fly(&mut self, to: usize, packet: Vec<u8>) {
        let mut leaves = self.now;
        if let Some((rate, queue)) = self.load.rate.filter(|_| to == 1) {
            leaves = leaves.max(self.busy_until);
            if leaves - self.now > queue {
                return;
            }
            leaves += Duration::from_micros((packet.len() as u64 + 28) * 1_000 / rate);
            self.busy_until = leaves;
        }
        // The handshake is not what is looked at.
        if self.is_cut || self.is_up && self.rng.below(1_000) < self.load.loss {
            return;
        }
        self.sent += 1;
        self.flying.insert((leaves + self.load.one_way, self.sent), (to, packet));
    }
}

#[derive(Debug)]
struct Heard {
    /// Of a hundred frames.
    heard: f64,
    in_time: f64,
    p99: Duration,
    last: Option<Duration>,
    /// Before they left.
    dropped: u64,
}

const POOLED: Load = Load {
    tracks: 32,
    streams: false,
    loss: 20,
    one_way: Duration::from_millis(25),
    rate: None,
    floor: true,
    seconds: 20,
};

fn run(load: Load) -> Heard {
    let heard = World::new(load).run();
    println!("{load:?}\n    {heard:?}");
    heard
}

#[test]
fn a_pooled_link_loses_what_the_path_loses_and_no_more() {
    let packets = (POOLED.seconds * 1_000 / FRAME_MS * SLOTS) as f64;
    for loss in [20, 50, 300] {
        let heard = run(Load { loss, ..POOLED });
        let lost = loss as f64 / 1_000.0;
        let chance = CHANCE * (lost * (1.0 - lost) / packets).sqrt();
        let arrive = 100.0 * (1.0 - lost - chance);
        assert!(heard.heard >= arrive, "{loss}: {heard:?}, of {arrive}");
        assert!(heard.in_time >= arrive - 0.2, "nothing waits: {loss}: {heard:?}, of {arrive}");
        assert!(heard.p99 <= Duration::from_millis(60), "{loss}: {heard:?}");
        let said = packets as u64 * POOLED.tracks / SLOTS;
        assert!(heard.dropped * 100 <= said || loss > 50, "{loss}: {heard:?}");
    }
}

#[test]
fn the_floor_is_what_holds_it_up() {
    let heard = run(Load { loss: 50, floor: false, ..POOLED });
    assert!(heard.heard < 0.9 * 95.0, "CUBIC alone would do: {heard:?}");
}

#[test]
fn streams_of_a_pooled_link_bring_everything() {
    // The latest of 32,000: at 30 % one of 25 runs has a frame whose repetitions were lost too, each behind twice the time.
    for (loss, in_time, last_s) in [(20, 99.0, 1), (50, 98.0, 1), (300, 60.0, 5)] {
        let heard = run(Load { loss, streams: true, ..POOLED });
        assert!(heard.heard == 100.0, "{loss}: {heard:?}");
        assert!(heard.in_time >= in_time, "{loss}: {heard:?}");
        assert!(heard.last.is_some_and(|last| last < Duration::from_secs(last_s)), "{loss}: {heard:?}");
    }
}

/// One call on a link of its own, heard only: goal R2 at 5 % and 40 ms is 98 % within 120 ms. Of 80 draws it was 99.2 % with a
/// deviation of 0.19; at 2 % 99.9 and 0.06, at 30 % 68.1 and 1.6.
#[test]
fn a_stream_alone_on_its_link_learns_of_a_loss_with_the_next_frame() {
    for (loss, in_time) in [(20, 99.4), (50, 98.0), (300, 60.0)] {
        let one_way = Duration::from_millis(20);
        let heard = run(Load { tracks: 1, loss, one_way, streams: true, seconds: 100, ..POOLED });
        assert!(heard.heard == 100.0 && heard.in_time >= in_time, "{loss}: {heard:?}");
    }
}

/// More is said than the path carries: its queue is not filled by the floor, and what waits here is fresh.
#[test]
fn a_narrow_path_is_not_flooded_and_nothing_old_goes_into_it() {
    for (rate, queue) in [(8, 100), (8, 400), (6, 200)] {
        let heard = run(Load { tracks: 1, loss: 0, rate: Some((rate, Duration::from_millis(queue))), ..POOLED });
        let carried = rate as f64 * 100.0 / (FRAME_BYTES + 28 + 38) as f64 * FRAME_MS as f64;
        assert!(heard.heard >= 0.9 * carried, "{heard:?}: what it carries is heard ({carried} %)");
        // The path's queue, 100 ms here, the way, and two packets.
        let latest = Duration::from_millis(queue + 100 + 25 + 2 * 1_200 / rate);
        assert!(heard.last.is_some_and(|last| last <= latest), "{heard:?}: {latest:?}");
    }
}

/// A call that says too much loses its own frames: 40 times as much as the others, on a path that carries a tenth of it.
#[test]
fn who_says_too_much_loses_his_own() {
    let mut world = World::new(Load { tracks: 4, loss: 0, rate: Some((60, Duration::from_millis(50))), ..POOLED });
    while !world.is_up {
        world.step();
    }
    let mut heard = [0; 2];
    for ms in 0..4_000_u64 {
        let Some((_, connection)) = &mut world.ends[0].connection else { panic!("it is up") };
        let mut told = Told { session: &mut world.session, counters: &mut world.counters };
        for (request, bytes) in [(0, 1_000), (1, 150)] {
            if request == 0 || ms.is_multiple_of(FRAME_MS) {
                let data = Bytes::from(vec![request as u8; bytes]);
                world.datagrams.say(connection, (RequestId(request), data), &mut told, world.now);
            }
        }
        world.step();
        for datagram in world.raw.drain(..) {
            heard[usize::from(datagram[0])] += 1;
        }
    }
    assert!(world.counters.datagrams_dropped > 3_000, "{:?}", world.counters);
    assert!(heard[1] >= 140 && heard[0] >= 100, "{heard:?} of 200 and 4000");
}

/// Before it died the path took a whole window, and nothing of it will be answered. The transport's own probes double their
/// distance; a question leaves all the same.
#[test]
fn a_path_that_heals_is_known_to_live_at_once_however_full_it_was() {
    for outage_ms in (700..3_000).step_by(190) {
        let mut world = World::new(Load { streams: true, loss: 0, one_way: Duration::from_millis(2), ..POOLED });
        let mut ms = 0;
        let mut run = |world: &mut World, time: u64| {
            for _ in 0..time {
                ms += 1;
                world.speak(ms);
                world.answer(ms);
                world.step();
            }
        };
        while !world.is_up {
            world.step();
        }
        run(&mut world, 2_000);
        world.is_cut = true;
        run(&mut world, outage_ms);
        assert!(world.ends[0].is_quiet, "{outage_ms}");
        world.is_cut = false;
        run(&mut world, 120);
        assert!(!world.ends[0].is_quiet, "{outage_ms}: a question every 50 ms");
        let heard = world.delays.len();
        run(&mut world, 120);
        assert!(world.delays.len() > heard + 100, "{outage_ms}: what was lost is known to be lost");
    }
}

/// Whoever says nothing himself has nothing outstanding. Yet what the path held up is not to be heard when it heals.
#[test]
fn who_only_listens_knows_of_a_dead_path_too() {
    for streams in [true, false] {
        let mut world = World::new(Load { streams, loss: 0, one_way: Duration::from_millis(2), ..POOLED });
        while !world.is_up {
            world.step();
        }
        let run = |world: &mut World, from: u64, time: u64| {
            for ms in from..from + time {
                world.speak(ms);
                world.step();
            }
        };
        run(&mut world, 0, 2_000);
        world.is_cut = true;
        run(&mut world, 2_000, 150);
        assert!(!world.ends[1].is_quiet, "{streams}: a pause");
        run(&mut world, 2_150, 650);
        assert!(world.ends[1].is_quiet, "{streams}");
        world.is_cut = false;
        run(&mut world, 2_800, 120);
        assert!(!world.ends[1].is_quiet, "{streams}");

        // He pauses, and the path is well: he is asked once.
        (0..400).for_each(|_| world.step());
        let asked = world.pings();
        (0..1_500).for_each(|_| world.step());
        assert_eq!(world.pings(), asked, "{streams}");
        assert!(!world.ends[1].is_quiet, "{streams}");
    }
}
