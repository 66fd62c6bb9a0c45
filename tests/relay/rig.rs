//! What the tests stand on.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use clutchcall::moqt::Drafts;
use clutchcall::moqt::message::{Setup, Subscribe, SubscribeOk, Token};
use clutchcall::moqt::session::{Limits, RequestId, Role, SubgroupId};
use clutchcall::moqt::{Event, FullTrackName, Object, Session, SubgroupHeader, TrackNamespace};
use clutchcall::net::tls::Identity;
use clutchcall::net::{App, Dial, Down, LinkEvent, LinkId, Links, Trust, Waker, Worker, WorkerConfig};
use clutchcall::relay::{Config, Server};
use clutchcall::token::{Claims, Lease, SigningKey};
use clutchcall::tracks::{self, Pool};

/// No wait of a test is longer; none that passes comes near it.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How a session reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RawQuic,
    WebTransport,
    Port,
}

thread_local! {
    /// Shards of the relays that this test starts; a test's thread is its own.
    static SHARDS: Cell<usize> = const { Cell::new(1) };
}

/// Relays that are started from here on have so many shards, and links come to each in turn.
pub fn sharded(count: usize) {
    SHARDS.set(count);
}

/// Every kind of link, with relays of one shard and of two.
pub fn kinds() -> impl Iterator<Item = Kind> {
    [1, 2].into_iter().flat_map(|shards| KINDS.map(|kind| (shards, kind))).map(|(shards, kind)| {
        sharded(shards);
        kind
    })
}

pub const KINDS: [Kind; 3] = [Kind::RawQuic, Kind::WebTransport, Kind::Port];

pub fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970")
}

/// A relay, and the key whose tokens it takes.
pub struct Relay {
    pub server: Server,
    pub key: Arc<SigningKey>,
    pub hash: [u8; 32],
    /// As the relay was told; [`Relay::dial`] offers the same.
    drafts: Drafts,
    identity: Identity,
    links: AtomicU64,
}

impl Relay {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::keyed(|_, config| change(config))
    }

    /// `change` sees the key whose tokens it takes.
    pub fn keyed(change: impl FnOnce(&SigningKey, &mut Config)) -> Self {
        let key = SigningKey::generate(&ring::rand::SystemRandom::new()).expect("randomness").0;
        let identity = Identity::ephemeral();
        let hash = identity.certificate_hash();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(listen, identity.clone(), [key.public()].into_iter().collect());
        config.shards = SHARDS.get();
        change(&key, &mut config);
        let drafts = config.drafts.clone();
        Self {
            server: Server::start(config).expect("the relay starts"),
            key: Arc::new(key),
            hash,
            drafts,
            identity,
            links: AtomicU64::new(0),
        }
    }

    /// Another relay with the same keys and certificate.
    pub fn twin(&self) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(listen, self.identity.clone(), [self.key.public()].into_iter().collect());
        config.shards = SHARDS.get();
        let server = Server::start(config).expect("the relay starts");
        let (key, identity, drafts) = (self.key.clone(), self.identity.clone(), self.drafts.clone());
        Self { server, key, hash: self.hash, drafts, identity, links: AtomicU64::new(0) }
    }

    /// Ends the relay and starts it again at its address.
    pub fn restart(&mut self) {
        let address = self.server.address();
        // Another one stands in while the port must be free.
        std::mem::replace(&mut self.server, Relay::start().server).shutdown();
        let mut config = Config::new(address, self.identity.clone(), [self.key.public()].into_iter().collect());
        config.shards = SHARDS.get();
        self.server = Server::start(config).expect("the relay starts again");
    }

    /// Counts the links that come.
    fn turn(&self) -> usize {
        self.links.fetch_add(1, Ordering::Relaxed) as usize
    }

    /// A port to each shard in turn.
    pub fn port(&self) -> clutchcall::net::PortEnd {
        let ports = self.server.ports();
        ports.open_at(self.turn() % ports.shards())
    }

    pub fn claims(&self, publish: &[&str], subscribe: &[&str]) -> Claims {
        let patterns = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().expect("a pattern")).collect());
        let exp = unix().as_secs() + 3600;
        Claims {
            sub: "acme".into(),
            exp,
            publish: patterns(publish),
            subscribe: patterns(subscribe),
            ..Claims::default()
        }
    }

    pub fn token(&self, publish: &[&str], subscribe: &[&str]) -> Token {
        self.sign(&self.claims(publish, subscribe))
    }

    pub fn lease(&self, namespace: &str, track: &str, holder: &str, epoch: u64) -> Token {
        let lease = Some(Lease { track: track.into(), holder: holder.into(), epoch });
        self.sign(&Claims { lease, ..self.claims(&[namespace], &[]) })
    }

    pub fn sign(&self, claims: &Claims) -> Token {
        Token { kind: 0, value: Bytes::from(claims.encode(&self.key)) }
    }

    /// Waits for figures that another thread publishes.
    pub fn wait(&self, what: &str, mut reached: impl FnMut(&clutchcall::moqt::relay::Counters) -> bool) {
        let until = Instant::now() + LIMIT;
        while !reached(&self.server.counters()) {
            assert!(Instant::now() < until, "{what}: {:?}", self.server.counters());
            std::thread::yield_now();
        }
    }

    pub fn dial(&self, kind: Kind, setup: Setup) -> Dial {
        let addresses = self.server.addresses();
        let address = addresses[self.turn() % addresses.len()];
        let scheme = if kind == Kind::WebTransport { "https" } else { "moqt" };
        let url = format!("{scheme}://127.0.0.1:{}/", address.port()).parse().expect("a URL");
        Dial { url, address, trust: Trust::Hashes(vec![self.hash]), drafts: self.drafts.clone(), setup }
    }
}

/// What happened on the links of a client, in order; the test takes out what it waits for.
#[derive(Default)]
struct Log {
    links: Vec<(LinkId, LinkEvent)>,
    pool: Vec<tracks::Event>,
    ended: bool,
}

type Step = Box<dyn FnOnce(&mut Hands<'_>) + Send>;

/// A worker on a thread of its own; its app does what the test says and writes down what it hears.
pub struct Client {
    steps: crossbeam_channel::Sender<Step>,
    waker: Waker,
    log: Arc<(Mutex<Log>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// What a step works with, on the client's thread.
pub struct Hands<'a> {
    pub links: &'a mut Links,
    pub now: Instant,
    pool: &'a mut Option<Pool>,
    done: &'a mut bool,
    supplies: &'a mut Option<Supplier>,
}

impl Hands<'_> {
    /// The client's pool, with the links it works on. Made when a test first wants it: most speak to sessions.
    pub fn pool(&mut self) -> (&mut Pool, &mut Links) {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let now = self.now;
        let make = || Pool::new(SEED.fetch_add(1, Ordering::Relaxed), now, unix());
        (self.pool.get_or_insert_with(make), self.links)
    }
}

/// Answers the pool's wishes for a link.
pub type Supplier = Box<dyn FnMut() -> tracks::Supply + Send>;

struct TestApp {
    steps: crossbeam_channel::Receiver<Step>,
    log: Arc<(Mutex<Log>, Condvar)>,
    pool: Option<Pool>,
    supplies: Option<Supplier>,
    done: bool,
}

impl TestApp {
    fn drain(&mut self, links: &mut Links, now: Instant) {
        let Some(pool) = &mut self.pool else { return self.log.1.notify_all() };
        while let Some(event) = pool.poll_event() {
            if let tracks::Event::WantDial { id, .. } = &event
                && let Some(supply) = &mut self.supplies
            {
                let supply = supply();
                pool.supply(links, *id, Ok(supply), now);
            }
            self.log.0.lock().expect("no test panics inside").pool.push(event);
        }
        self.log.1.notify_all();
    }
}

impl App for TestApp {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant) {
        self.log.0.lock().expect("no test panics inside").links.push((link, event.clone()));
        if let Some(pool) = &mut self.pool {
            pool.handle_event(links, link, event, now);
        }
        self.drain(links, now);
    }
    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        while let Ok(step) = self.steps.try_recv() {
            let (pool, done, supplies) = (&mut self.pool, &mut self.done, &mut self.supplies);
            step(&mut Hands { links, pool, now, done, supplies });
            self.drain(links, now);
        }
    }
    fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        if let Some(pool) = &mut self.pool {
            pool.handle_timeout(links, now);
        }
        self.drain(links, now);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.pool.as_ref()?.poll_timeout()
    }
    fn flush(&mut self, _now: Instant) {}
    fn is_done(&self) -> bool {
        self.done
    }
}

impl Client {
    pub fn start() -> Self {
        let limits = Limits {
            setup_timeout: LIMIT,
            requests: 1024,
            object_bytes: 1 << 20,
            pending_bytes: 1 << 20,
            pending_time: Duration::from_secs(2),
        };
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let (worker, waker) = Worker::new(WorkerConfig { bind, listen: None, limits }).expect("a loopback socket");
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let (steps, taken) = crossbeam_channel::unbounded();
        let theirs = log.clone();
        let run = move || {
            let log = theirs.clone();
            worker.run(&mut TestApp { steps: taken, log, pool: None, supplies: None, done: false });
            theirs.0.lock().expect("no test panics inside").ended = true;
            theirs.1.notify_all();
        };
        Self { steps, waker, log, thread: Some(std::thread::spawn(run)) }
    }

    /// Does `step` on the client's thread and gives back what it says.
    pub fn run<R: Send + 'static>(&self, step: impl FnOnce(&mut Hands<'_>) -> R + Send + 'static) -> R {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.send(move |hands| {
            let _ = answer.send(step(hands));
        });
        answered.recv_timeout(LIMIT).expect("the client's thread does what it is told")
    }

    /// The same without waiting for it.
    pub fn send(&self, step: impl FnOnce(&mut Hands<'_>) + Send + 'static) {
        self.steps.send(Box::new(step)).expect("the client's thread lives");
        self.waker.wake();
    }

    fn wait<R>(&self, what: &str, mut look: impl FnMut(&mut Log) -> Option<R>) -> R {
        let until = Instant::now() + LIMIT;
        let mut log = self.log.0.lock().expect("no test panics inside");
        loop {
            if let Some(found) = look(&mut log) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; heard {:?} {:?}", log.links, log.pool);
            log = self.log.1.wait_timeout(log, left).expect("no test panics inside").0;
        }
    }

    /// Takes the first event of a link that `pick` wants.
    pub fn on<R>(&self, link: LinkId, what: &str, mut pick: impl FnMut(&LinkEvent) -> Option<R>) -> R {
        self.wait(what, |log| {
            let found = log.links.iter().enumerate().filter(|(_, (id, _))| *id == link);
            let (at, picked) = found.filter_map(|(at, (_, event))| Some((at, pick(event)?))).next()?;
            log.links.remove(at);
            Some(picked)
        })
    }

    /// Takes the first word of the pool that `pick` wants.
    pub fn on_pool<R>(&self, what: &str, mut pick: impl FnMut(&tracks::Event) -> Option<R>) -> R {
        self.wait(what, |log| {
            let (at, picked) = log.pool.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?)))?;
            log.pool.remove(at);
            Some(picked)
        })
    }

    pub fn down(&self, link: LinkId) -> Down {
        self.on(link, "the link's end", |event| match event {
            LinkEvent::Down(down) => Some(down.clone()),
            _ => None,
        })
    }

    /// A link that is up on both sides; `tokens` go into our SETUP.
    pub fn connect(&self, relay: &Relay, kind: Kind, tokens: Vec<Token>) -> Link<'_> {
        let link = self.dial(relay, kind, Setup { tokens, ..Setup::default() });
        link.up();
        link
    }

    /// A link on its way.
    pub fn dial(&self, relay: &Relay, kind: Kind, setup: Setup) -> Link<'_> {
        let id = if kind == Kind::Port {
            let end = relay.port();
            self.run(move |hands| hands.links.attach(end, Role::Client, setup, hands.now))
        } else {
            let dial = relay.dial(kind, setup);
            self.run(move |hands| hands.links.dial(dial, hands.now))
        };
        Link { client: self, id }
    }

    /// A link on its way, dialled as the test says.
    pub fn link(&self, dial: Dial) -> Link<'_> {
        let id = self.run(move |hands| hands.links.dial(dial, hands.now));
        Link { client: self, id }
    }

    /// The pool's links go to this relay, with this token.
    pub fn supply(&self, relay: &Relay, kind: Kind, token: &Token) {
        let setup = Setup { tokens: vec![token.clone()], ..Setup::default() };
        let (ports, dial) = (relay.server.ports(), relay.dial(kind, setup.clone()));
        self.run(move |hands| {
            *hands.supplies = Some(Box::new(move || match kind {
                Kind::Port => tracks::Supply::Port(ports.open(), setup.clone()),
                _ => tracks::Supply::Dial(Box::new(dial.clone())),
            }));
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.steps.send(Box::new(|hands| *hands.done = true));
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("a client's thread panicked");
        }
    }
}

/// One session of a client.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    client: &'a Client,
    pub id: LinkId,
}

/// The end of a request, as its asker hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    Error { code: u64, reason: String, retries: bool },
}

impl Link<'_> {
    /// Speaks to the session.
    pub fn session<R: Send + 'static>(&self, step: impl FnOnce(&mut Session) -> R + Send + 'static) -> R {
        let id = self.id;
        self.client.run(move |hands| step(hands.links.session(id).expect("the session lives")))
    }

    pub fn on<R>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<R>) -> R {
        self.client.on(self.id, what, |event| match event {
            LinkEvent::Moqt(event) => pick(event),
            _ => None,
        })
    }

    pub fn down(&self) -> Down {
        self.client.down(self.id)
    }

    /// Waits until both sides have said SETUP.
    pub fn up(&self) {
        self.on("the relay's SETUP", |event| matches!(event, Event::Setup(_)).then_some(()));
    }

    /// Whether the relay answers with its SETUP or with a close; a close behind a SETUP counts too.
    pub fn is_let_in(&self) -> bool {
        let gone = |event: &LinkEvent| matches!(event, LinkEvent::Down(_));
        if self.client.on(self.id, "up or down", |event| match event {
            LinkEvent::Up(_) => Some(false),
            event => gone(event).then_some(true),
        }) {
            return false;
        }
        let (id, nowhere) = (self.id, namespace_of("nowhere"));
        let request = self
            .client
            .run(move |hands| hands.links.session(id).map(|session| session.subscribe_namespace(nowhere, vec![])));
        self.client.on(self.id, "an answer or the end", |event| match event {
            LinkEvent::Moqt(Event::RequestOk { request: r } | Event::RequestError { request: r, .. })
                if Some(*r) == request =>
            {
                Some(true)
            }
            LinkEvent::Down(_) => Some(false),
            _ => None,
        })
    }

    pub fn close(&self) {
        let id = self.id;
        self.client.run(move |hands| hands.links.close(id, 0, "the test is over"));
    }

    fn answer(&self, request: RequestId) -> Answer {
        self.on("an answer", |event| match event {
            Event::SubscribeOk { request: r, .. } | Event::RequestOk { request: r } if *r == request => {
                Some(Answer::Ok)
            }
            Event::RequestError { request: r, error } if *r == request => Some(Answer::Error {
                code: error.code,
                reason: error.reason.clone(),
                retries: error.retry_after.is_some(),
            }),
            _ => None,
        })
    }

    pub fn announce(&self, namespace: &str, tokens: Vec<Token>) -> Answer {
        let namespace = namespace_of(namespace);
        let request = self.session(move |session| session.publish_namespace(namespace, tokens));
        self.answer(request)
    }

    /// SUBSCRIBE, not answered yet.
    pub fn ask(&self, namespace: &str, rendezvous: Option<Duration>, tokens: Vec<Token>) -> RequestId {
        let subscribe = Subscribe { rendezvous_timeout: rendezvous, tokens, ..Subscribe::live(track_of(namespace)) };
        self.session(move |session| session.subscribe(subscribe))
    }

    pub fn subscribe(&self, namespace: &str) -> (RequestId, Answer) {
        let request = self.ask(namespace, None, Vec::new());
        (request, self.answer(request))
    }

    pub fn answered(&self, request: RequestId) -> Answer {
        self.answer(request)
    }

    /// Waits for the relay's SUBSCRIBE and accepts it.
    pub fn serve(&self, namespace: &str) -> RequestId {
        let track = track_of(namespace);
        let request = self.on("the relay's SUBSCRIBE", |event| match event {
            Event::Subscribe { request, subscribe } if subscribe.track == track => Some(*request),
            _ => None,
        });
        self.session(move |session| session.accept_subscribe(request, SubscribeOk::default()));
        request
    }

    pub fn open(&self, request: RequestId, group: u64) -> SubgroupId {
        let header = SubgroupHeader { group, properties: true, first_object: true, ..SubgroupHeader::default() };
        self.session(move |session| session.open_subgroup(request, &header)).expect("somebody listens")
    }

    pub fn send(&self, subgroup: SubgroupId, object: Object) {
        self.session(move |session| session.send_object(subgroup, &object));
    }

    /// The next object of a subscription.
    pub fn object(&self, request: RequestId) -> Object {
        self.on("an object", |event| match event {
            Event::Object { request: r, object, .. } if *r == request => Some(object.clone()),
            _ => None,
        })
    }

    /// Why a subscription ended.
    pub fn done(&self, request: RequestId) -> u64 {
        self.on("the subscription's end", |event| match event {
            Event::PublishDone { request: r, done } if *r == request => Some(done.code),
            _ => None,
        })
    }
}

pub fn object(group: u64, id: u64, payload: impl Into<Bytes>) -> Object {
    let properties = clutchcall::moqt::properties::timestamp(id * 20_000);
    Object { group, id, payload: payload.into(), properties, ..Object::default() }
}

/// Slashes part the fields.
pub fn namespace_of(text: &str) -> TrackNamespace {
    TrackNamespace::new(text.split('/').map(|field| Bytes::copy_from_slice(field.as_bytes()))).expect("a namespace")
}

/// The track `audio` of a namespace.
pub fn track_of(namespace: &str) -> FullTrackName {
    FullTrackName { namespace: namespace_of(namespace), name: Bytes::from_static(b"audio") }
}
