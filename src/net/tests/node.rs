//! A worker on a thread, with an app that reports every event and does what it is told.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::{Setup, Subscribe, SubscribeOk};
use crate::moqt::session::{Limits, RequestId, Role};
use crate::moqt::{Drafts, Event, FullTrackName, TrackNamespace};
use crate::net::tls::Identity;
use crate::net::{
    App, Dial, Down, LinkEvent, LinkId, Links, Listen, Peer, PortEnd, Trust, Waker, Worker, WorkerConfig,
};

/// Generous: the machine may be busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

type Command = Box<dyn FnOnce(&mut Links, Instant) -> bool + Send>;

pub(super) struct Node {
    pub(super) address: SocketAddr,
    commands: Sender<Command>,
    events: Receiver<(LinkId, LinkEvent)>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

struct Reporter {
    commands: Receiver<Command>,
    events: Sender<(LinkId, LinkEvent)>,
    done: bool,
}

impl App for Reporter {
    fn handle_event(&mut self, _links: &mut Links, link: LinkId, event: LinkEvent, _now: Instant) {
        let _ = self.events.send((link, event));
    }
    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            self.done |= command(links, now);
        }
    }
    fn handle_timeout(&mut self, _links: &mut Links, _now: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn flush(&mut self, _now: Instant) {}
    fn is_done(&self) -> bool {
        self.done
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        setup_timeout: PATIENCE,
        requests: 1_024,
        object_bytes: 1 << 20,
        pending_bytes: 1 << 20,
        pending_time: PATIENCE,
    }
}

impl Node {
    pub(super) fn server(identity: &Identity) -> Self {
        Self::server_at("127.0.0.1:0".parse().expect("an address"), identity)
    }

    pub(super) fn server_at(bind: SocketAddr, identity: &Identity) -> Self {
        let setup = Setup { implementation: Some("test server".into()), ..Setup::default() };
        let (drafts, handshakes) = Default::default();
        Self::start(bind, Some(Listen { identity: identity.clone(), drafts, setup, handshakes }))
    }

    pub(super) fn client() -> Self {
        Self::start("[::]:0".parse().expect("an address"), None)
    }

    fn start(bind: SocketAddr, listen: Option<Listen>) -> Self {
        let (worker, waker) = Worker::new(WorkerConfig { bind, listen, limits: limits() }).expect("loopback binds");
        let address = worker.local_addr();
        let (commands, inbox) = channel();
        let (outbox, events) = channel();
        let mut app = Reporter { commands: inbox, events: outbox, done: false };
        let thread = std::thread::spawn(move || worker.run(&mut app));
        Self { address, commands, events, waker, thread: Some(thread) }
    }

    /// Runs on the worker's thread, in a turn of its own.
    pub(super) fn with<T: Send + 'static>(&self, action: impl FnOnce(&mut Links, Instant) -> T + Send + 'static) -> T {
        let (sender, answer) = channel();
        let command: Command = Box::new(move |links, now| {
            let _ = sender.send(action(links, now));
            false
        });
        self.commands.send(command).expect("the worker runs");
        self.waker.wake();
        answer.recv_timeout(PATIENCE).expect("the worker answers")
    }

    pub(super) fn dial(&self, scheme: &str, to: SocketAddr, trust: Trust) -> LinkId {
        let url = format!("{scheme}://localhost:{}/live?x=1", to.port());
        self.dial_url(&url, to, trust)
    }

    pub(super) fn dial_url(&self, url: &str, address: SocketAddr, trust: Trust) -> LinkId {
        self.dial_with(url, address, trust, Drafts::default())
    }

    pub(super) fn dial_with(&self, url: &str, address: SocketAddr, trust: Trust, drafts: Drafts) -> LinkId {
        let url = url::Url::parse(url).expect("a URL");
        let dial = Dial { url, address, trust, drafts, setup: Setup::default() };
        self.with(move |links, now| links.dial(dial, now))
    }

    pub(super) fn attach(&self, end: PortEnd, role: Role) -> LinkId {
        self.with(move |links, now| links.attach(end, role, Setup::default(), now))
    }

    /// The first event that fits; those before it are gone.
    pub(super) fn expect<T>(&self, what: &str, mut fits: impl FnMut(LinkId, &LinkEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((link, event)) => match fits(link, &event) {
                    Some(found) => return found,
                    None => seen.push(event),
                },
                Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {what}; seen: {seen:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the worker ended before {what}; seen: {seen:?}"),
            }
        }
    }

    pub(super) fn up(&self) -> (LinkId, Peer) {
        self.expect("Up", |link, event| match event {
            LinkEvent::Up(peer) => Some((link, peer.clone())),
            _ => None,
        })
    }

    pub(super) fn setup(&self) -> Setup {
        self.moqt("SETUP", |event| match event {
            Event::Setup(setup) => Some(setup.clone()),
            _ => None,
        })
    }

    pub(super) fn down(&self, of: LinkId) -> Down {
        self.expect("Down", |link, event| match event {
            LinkEvent::Down(down) if link == of => Some(down.clone()),
            _ => None,
        })
    }

    pub(super) fn moqt<T>(&self, what: &str, mut fits: impl FnMut(&Event) -> Option<T>) -> T {
        self.expect(what, |_, event| match event {
            LinkEvent::Moqt(event) => fits(event),
            _ => None,
        })
    }

    /// Ends the worker without a word to its peers, as SIGKILL would.
    pub(super) fn kill(mut self) {
        self.with(|links, _| links.forget_all());
        self.stop();
    }

    /// Ends the worker; its links are closed.
    pub(super) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.commands.send(Box::new(|_, _| true));
            self.waker.wake();
            thread.join().expect("the worker does not panic");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(super) fn track(name: &'static str) -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["voice", "CA1", "uplink"]).expect("a name"), name).expect("a name")
}

pub(super) fn subscription(name: &'static str) -> Subscribe {
    Subscribe::new(track(name))
}

/// `client` subscribes on its link, `server` accepts on its own; the request as both know it.
pub(super) fn subscribed(client: (&Node, LinkId), server: (&Node, LinkId), name: &'static str) -> RequestId {
    let ((client, near), (server, far)) = (client, server);
    let asked = client.with(move |links, _| links.session(near).expect("live").subscribe(subscription(name)));
    let request = server.moqt("SUBSCRIBE", |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    assert_eq!(asked, request);
    server.with(move |links, _| links.session(far).expect("live").accept_subscribe(request, SubscribeOk::default()));
    client.moqt("SUBSCRIBE_OK", |event| matches!(event, Event::SubscribeOk { .. }).then_some(()));
    request
}

pub(super) fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}
