//! The audio thread's app and a relay that the test plays, turn by turn on one thread in virtual time: a port between two workers
//! that never wait.
#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::app::{Media, Start};
use super::{Caller, Command, Event, Gauges, Mint, Supply};
use crate::audio::{Codec, Params};
use crate::moqt::message::{RequestError, Setup, Subscribe};
use crate::moqt::session::{Limits, RequestId, Role};
use crate::moqt::{self, RequestErrorCode};
use crate::net::{App, LinkEvent, LinkId, Links, PortEnd, Waker, Worker, WorkerConfig};
use crate::relay::Ports;
use crate::tracks::{Side, names};

/// Longer than a port needs for any answer.
const TURNS: usize = 8;
const TURN: Duration = Duration::from_millis(1);

fn worker() -> (Worker, Waker) {
    let limits = Limits {
        setup_timeout: Duration::from_secs(5),
        requests: 4096,
        object_bytes: 64 * 1024,
        pending_bytes: 64 * 1024,
        pending_time: Duration::from_millis(500),
    };
    Worker::new(WorkerConfig { bind: (Ipv4Addr::LOCALHOST, 0).into(), listen: None, limits }).unwrap()
}

/// Takes the ports that are opened, and keeps what it hears. What it is to say is said in its own turn.
struct Relay {
    ends: crossbeam_channel::Receiver<PortEnd>,
    link: Option<LinkId>,
    subscribes: Vec<Subscribe>,
    asked: Vec<RequestId>,
    accepted: Vec<RequestId>,
    refused: Vec<(RequestId, RequestError)>,
}

impl App for Relay {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, _: Instant) {
        let Some(session) = links.session(link) else { return };
        match event {
            LinkEvent::Moqt(moqt::Event::PublishNamespace { request, .. }) => session.accept(request),
            LinkEvent::Moqt(moqt::Event::SubscribeOk { request, .. }) => self.accepted.push(request),
            LinkEvent::Moqt(moqt::Event::RequestError { request, error }) => self.refused.push((request, error)),
            _ => {}
        }
    }
    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        while let Ok(end) = self.ends.try_recv() {
            self.link = Some(links.attach(end, Role::Server, Setup::default(), now));
        }
        let Some(session) = self.link.and_then(|link| links.session(link)) else { return };
        self.asked.extend(self.subscribes.drain(..).map(|subscribe| session.subscribe(subscribe)));
    }
    fn handle_timeout(&mut self, _: &mut Links, _: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn flush(&mut self, _: Instant) {}
    fn is_done(&self) -> bool {
        false
    }
}

struct Stage {
    engine: (Worker, Waker, Media),
    relay: (Worker, Waker, Relay),
    commands: crossbeam_channel::Sender<Command>,
    gauges: Arc<Gauges>,
    _events: UnboundedReceiver<Event>,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let ((ours, our_waker), (theirs, their_waker)) = (worker(), worker());
        let (ports, ends) = Ports::played(their_waker.clone());
        let (commands, taken) = crossbeam_channel::bounded(64);
        let (told, events) = unbounded_channel();
        let gauges = Gauges::new(1);
        let start = Start {
            supply: Supply::Port(ports),
            mint: Mint { token: Arc::new(|| "a token".to_owned()), life: Duration::from_secs(3600) },
            events: told,
            commands: taken,
            ending: Arc::new(AtomicBool::new(false)),
            gauges: (gauges.clone(), 0),
            seed: 1,
            unix: Duration::from_secs(1_700_000_000),
            clock_us: 0,
        };
        let (link, subscribes, asked) = (None, Vec::new(), Vec::new());
        let relay = Relay { ends, link, subscribes, asked, accepted: Vec::new(), refused: Vec::new() };
        let engine = (ours, our_waker, Media::new(start, now));
        let relay = (theirs, their_waker, relay);
        let mut stage = Self { engine, relay, commands, gauges, _events: events, now };
        stage.engine.1.wake();
        stage.run();
        assert!(stage.relay.2.link.is_some(), "the engine opens its port");
        stage
    }

    fn engine_turn(&mut self) {
        let (worker, _, media) = &mut self.engine;
        worker.turn_at(media, self.now);
    }

    fn relay_turn(&mut self) {
        let (worker, _, relay) = &mut self.relay;
        worker.turn_at(relay, self.now);
    }

    fn run(&mut self) {
        for _ in 0..TURNS {
            self.now += TURN;
            self.engine_turn();
            self.relay_turn();
        }
    }

    /// As the control thread does it.
    fn command(&mut self, command: Command) {
        self.commands.send(command).expect("the app lives");
        self.engine.1.wake();
    }

    /// The command and the relay's SUBSCRIBE are found in one turn of the audio thread.
    fn at_once(&mut self, command: Command, rendition: &str) -> (RequestId, Vec<RequestId>) {
        let track = names::track("CA1", Side::Uplink, rendition).unwrap();
        self.relay.2.subscribes.push(Subscribe::new(track));
        self.relay.1.wake();
        self.now += TURN;
        self.relay_turn();
        self.command(command);
        self.run();
        (*self.relay.2.asked.last().expect("it was asked"), self.relay.2.accepted.clone())
    }
}

#[test]
fn a_track_that_was_opened_before_it_was_asked_for_is_there() {
    let sid: Arc<str> = "CA1".into();
    let mut stage = Stage::new();
    let (request, accepted) = stage.at_once(Command::Open { sid: sid.clone(), caller: Caller::Leg }, names::AUDIO);
    assert_eq!((accepted, &stage.relay.2.refused[..]), (vec![request], &[][..]));
    let params = Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap();
    let rendition = Command::Rendition { sid: sid.clone(), side: Side::Uplink, params };
    let (request, accepted) = stage.at_once(rendition, &params.rendition());
    assert_eq!((accepted.last(), &stage.relay.2.refused[..]), (Some(&request), &[][..]));
    // Nobody opened this one.
    let (request, _) = stage.at_once(Command::Open { sid, caller: Caller::Leg }, "audio.unheard-of");
    let refused: Vec<_> = stage.relay.2.refused.iter().map(|(request, error)| (*request, error.code)).collect();
    assert_eq!(refused, [(request, RequestErrorCode::DoesNotExist as u64)]);
}

/// More calls end at once than are said goodbye to.
#[test]
fn farewells_are_bounded_and_counted() {
    const MOST: usize = 1024;
    let mut stage = Stage::new();
    assert_eq!((stage.gauges.links_down(), stage.gauges.dials()), (0, 1));
    for n in 0..MOST + 10 {
        let sid: Arc<str> = format!("CA{n}").into();
        stage.command(Command::Open { sid: sid.clone(), caller: Caller::Leg });
        stage.command(Command::Close { sid });
        stage.engine_turn();
        let (leaving, calls) = stage.engine.2.sizes();
        assert_eq!(leaving, calls, "nothing else is left of them");
        assert_eq!(leaving, (n + 1).min(MOST));
    }
    assert_eq!(stage.gauges.farewells_cut(), 10);
    // What was cut short was the oldest; the youngest is told to who comes now.
    let mut ask = |sid: &str| {
        stage.relay.2.subscribes.push(Subscribe::new(names::track(sid, Side::Uplink, names::AUDIO).unwrap()));
        stage.relay.1.wake();
        stage.run();
        let request = *stage.relay.2.asked.last().expect("it was asked");
        stage.relay.2.accepted.contains(&request)
    };
    assert_eq!((ask("CA3"), ask(&format!("CA{}", MOST + 9))), (false, true));
    stage.now += Duration::from_secs(3);
    stage.run();
    assert_eq!((stage.engine.2.sizes(), stage.gauges.farewells_cut()), ((0, 0), 10));
}
