//! SIPp as the far side, and a call of ours: its brain over a trunk, as the engine's board drives it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clutchcall::call::{
    Action, Call, CallRecord, Carried, Command, EndReason, Reject, Status, TransferMode, TransferState,
};
use clutchcall::engine::config::{self, Credentials, Host};
use clutchcall::engine::sip::{self, Counts, Endpoints, Servers, SipTrunk, Timers, Transactions, Transport};
use clutchcall::engine::trunk::{Asker, Dial, Keys, Trunk, TrunkEvent, TrunkKind};
use clutchcall::rtp::dtmf::strokes;
use tokio::sync::mpsc;

use crate::ports::is_taken;
pub(crate) use crate::ports::{free_port, free_ports};

/// Nothing in a test waits longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const T1: Duration = Duration::from_millis(50);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Between two looks at something that wakes nobody.
const LOOK: Duration = Duration::from_millis(10);

/// Runs one case; without SIPp it is left out and said, in CI it fails.
pub(crate) fn case<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    if Program::new("sipp")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(|mut child| child.wait())
        .is_err()
    {
        assert!(std::env::var_os("CI").is_none(), "sipp is missing: make packages");
        eprintln!("LEFT OUT: sipp is missing (make packages)");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(body());
}

/// One run of a scenario.
pub(crate) struct Far {
    child: Child,
    pub(crate) port: u16,
    transport: Transport,
    folder: tempfile::TempDir,
}

/// A message as SIPp saw it.
#[derive(Debug)]
pub(crate) struct Message {
    /// `2026-11-26 20:15:49.730388`, of the wall clock.
    at: String,
    /// It came from us.
    pub(crate) is_ours: bool,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Traffic(Vec<Message>);

impl Far {
    pub(crate) async fn start(scenario: &str, keys: &[(&str, &str)]) -> Self {
        Self::over(Transport::Udp, scenario, keys).await
    }

    pub(crate) async fn over(transport: Transport, scenario: &str, keys: &[(&str, &str)]) -> Self {
        Self::at(transport, free_port(), scenario, keys).await
    }

    /// On a port that another one has left.
    pub(crate) async fn at(transport: Transport, port: u16, scenario: &str, keys: &[(&str, &str)]) -> Self {
        let mut far = Self::run(transport, scenario, keys, &[&port.to_string()]);
        far.listening().await;
        far
    }

    /// It calls us here, from its own port.
    pub(crate) fn calls(scenario: &str, from: u16, to: SocketAddr, keys: &[(&str, &str)]) -> Self {
        Self::calls_over(Transport::Udp, scenario, from, to, keys)
    }

    pub(crate) fn calls_over(
        transport: Transport,
        scenario: &str,
        from: u16,
        to: SocketAddr,
        keys: &[(&str, &str)],
    ) -> Self {
        Self::run(transport, scenario, keys, &[&from.to_string(), &to.to_string()])
    }

    /// `places`: its port, and where it calls.
    fn run(transport: Transport, scenario: &str, keys: &[(&str, &str)], places: &[&str]) -> Self {
        let (port, media_port) = (places[0].parse().unwrap(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut program = Program::new("sipp");
        // Its clock is nobody's business.
        program.env_remove("LD_PRELOAD");
        program.arg("-sf").arg(written(scenario, keys, &path("scenario.xml")));
        program.args([
            "-i",
            "127.0.0.1",
            "-mi",
            "127.0.0.1",
            "-nostdin",
            // A repeated message is one that it does not know any more once it has said two things behind it. It goes on, and
            // `played` tells repeated ones from those that nobody expects.
            "-default_behaviors",
            "none",
            "-m",
            keys.iter().find(|(name, _)| *name == "calls").map_or("1", |(_, count)| *count),
            "-timeout",
            "30s",
            "-timeout_error",
        ]);
        program.args(&places[1..]);
        program.args(["-p", places[0], "-mp", &media_port.to_string(), "-recv_timeout", "15000", "-rtp_echo"]);
        program.args(["-t", if transport == Transport::Tcp { "t1" } else { "u1" }]);
        program.arg("-trace_msg").arg("-message_file").arg(path("messages"));
        program.arg("-trace_err").arg("-error_file").arg(path("errors"));
        let out = std::fs::File::create(path("out")).unwrap();
        program.current_dir(folder.path()).stdout(out).stderr(Stdio::null());
        let child = program.spawn().unwrap();
        Self { child, port, transport, folder }
    }

    /// Its port is taken: it listens.
    async fn listening(&mut self) {
        let begun = Instant::now();
        while !is_taken(self.transport != Transport::Udp, self.port) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < LIMIT, "sipp does not listen: {ended:?}\n{}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the scenario has been played, and asserts that it went as written.
    pub(crate) async fn played(mut self) -> Traffic {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "the scenario does not end:\n{}", self.said());
            tokio::time::sleep(LOOK).await;
        };
        assert!(status.success(), "the scenario went otherwise:\n{}", self.said());
        let traffic = self.traffic();
        let errors = read(&self.folder.path().join("errors"));
        for at in unexpected(&errors) {
            assert!(traffic.was_repeated(&at), "what came at {at} was not expected:\n{}", self.said());
        }
        traffic
    }

    fn said(&self) -> String {
        let read = |name: &str| read(&self.folder.path().join(name));
        format!("{}\n{}", read("errors"), read("messages"))
    }

    pub(crate) fn traffic(&self) -> Traffic {
        // The file comes with the first message.
        let text = read(&self.folder.path().join("messages"));
        let messages = text.split("-----------------------------------------------").filter_map(|part| {
            let (head, text) =
                part.split_once("bytes").and_then(|(head, rest)| Some((head, rest.split_once('\n')?.1)))?;
            let (at, is_ours) = (head.lines().next()?.trim().to_owned(), head.contains("received"));
            Some(Message { at, is_ours, text: text.trim_start().replace('\r', "") })
        });
        Traffic(messages.collect())
    }
}

/// What SIPp wrote, in whatever letters; nothing while it has not.
fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The scenario with its keys filled in: SIPp takes a key for anything but a code. In Latin-1, as its first line says.
fn written(scenario: &str, keys: &[(&str, &str)], path: &Path) -> PathBuf {
    let source = format!("{}/tests/data/sipp/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(source).unwrap();
    for (name, value) in keys {
        text = text.replace(&format!("[{name}]"), value);
    }
    let latin_1: Vec<u8> = text.chars().map(|letter| u8::try_from(letter).expect("a letter of Latin-1")).collect();
    std::fs::write(path, latin_1).unwrap();
    path.to_owned()
}

impl Drop for Far {
    fn drop(&mut self) {
        // It has ended by itself, or nobody waits for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When something came that the scenario did not expect there: `2026-11-26\t20:15:49.730388\t1795724149.730388: Continuing call on …`,
/// perhaps behind another warning in the same line.
fn unexpected(errors: &str) -> impl Iterator<Item = String> {
    errors.match_indices(": Continuing call on ").map(|(at, _)| {
        let mut fields = errors[..at].rsplit('\t').skip(1);
        let (time, date) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        format!("{} {time}", &date[date.len().saturating_sub(10)..])
    })
}

impl Traffic {
    /// What was received last by then had come before, letter by letter. An ACK that is new may be one too many all the same: a
    /// repeated one has stood for it.
    fn was_repeated(&self, at: &str) -> bool {
        let mut ours: Vec<_> = self.0.iter().filter(|message| message.is_ours && message.at.as_str() <= at).collect();
        let last = ours.pop().unwrap_or_else(|| panic!("nothing had come by {at}: {self:?}"));
        let is_again = |text: &str, times| ours.iter().filter(|message| message.text == text).count() >= times;
        let is_ack = |text: &str| text.starts_with("ACK ");
        is_again(&last.text, 1)
            || is_ack(&last.text) && ours.iter().any(|message| is_ack(&message.text) && is_again(&message.text, 2))
    }

    /// Ours that begin so: a method, or `SIP/2.0 200`.
    pub(crate) fn ours(&self, begins: &str) -> Vec<&Message> {
        self.0.iter().filter(|message| message.is_ours && message.text.starts_with(begins)).collect()
    }

    /// The same, each once, however often it was repeated.
    pub(crate) fn each(&self, begins: &str) -> Vec<&Message> {
        let mut ours = self.ours(begins);
        let mut known = HashSet::new();
        ours.retain(|message| known.insert(&message.text));
        ours
    }

    pub(crate) fn all(&self) -> &[Message] {
        &self.0
    }

    pub(crate) fn has_sent(&self, begins: &str) -> bool {
        self.0.iter().any(|message| !message.is_ours && message.text.starts_with(begins))
    }

    /// The one of ours that begins so, however often it was repeated.
    pub(crate) fn our(&self, begins: &str) -> &Message {
        let ours = self.ours(begins);
        let first = ours.first().unwrap_or_else(|| panic!("no {begins} of ours: {self:?}"));
        assert!(ours.iter().all(|message| message.text == first.text), "several {begins} of ours: {self:?}");
        first
    }
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    pub(crate) fn is_response_of_ours(&self) -> bool {
        self.is_ours && self.text.starts_with("SIP/2.0")
    }

    /// Its first line.
    pub(crate) fn line(&self) -> String {
        self.text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn lacks(&self, name: &str) -> bool {
        !self.text.lines().any(|line| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name)))
    }
}

/// A trunk to this port of this machine.
pub(crate) fn towards(transport: Transport, port: u16) -> config::SipTrunk {
    config::SipTrunk {
        transport: match transport {
            Transport::Udp => config::Transport::Udp,
            Transport::Tcp => config::Transport::Tcp,
            Transport::Tls => config::Transport::Tls,
        },
        source_pbx_port: 0,
        // Scenarios wait for calls.
        options_interval: None,
        ..config::SipTrunk::to(Host { name: LOOPBACK.to_string(), port: Some(port) })
    }
}

/// One call over one trunk.
pub(crate) struct Caller {
    pub(crate) trunk: SipTrunk,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What was not let in.
    pub(crate) counts: Arc<Counts>,
    events: mpsc::UnboundedReceiver<TrunkEvent>,
    /// What its INVITE carries.
    pub(crate) carried: Carried,
    max_duration: Option<Duration>,
    call: Option<Call>,
    /// Which legs the call was given.
    pub(crate) legs: usize,
}

/// How a call is placed where the plainest is not meant.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) ring_timeout_s: Option<u32>,
    pub(crate) max_duration: Option<Duration>,
}

impl Caller {
    pub(crate) async fn dial(far: &Far) -> Self {
        Self::with(far, Wishes::default()).await
    }

    pub(crate) async fn with(far: &Far, wishes: Wishes) -> Self {
        let settings = config::SipTrunk { credentials: wishes.credentials, ..towards(far.transport, far.port) };
        let mut caller = Self::idle(settings).await;
        caller.max_duration = wishes.max_duration;
        caller.place(wishes.ring_timeout_s.unwrap_or(20));
        caller
    }

    pub(crate) async fn idle(settings: config::SipTrunk) -> Self {
        Self::at(T1, settings).await
    }

    pub(crate) async fn at(t1: Duration, settings: config::SipTrunk) -> Self {
        Self::with_servers(t1, Servers::default(), settings).await
    }

    /// These name servers are asked.
    pub(crate) async fn asking(servers: Servers, settings: config::SipTrunk) -> Self {
        Self::with_servers(T1, servers, settings).await
    }

    async fn with_servers(t1: Duration, servers: Servers, settings: config::SipTrunk) -> Self {
        let counts = Arc::<Counts>::default();
        let mut endpoints = Endpoints::counting(Timers { t1 }, Arc::clone(&counts)).asking(servers.clone());
        Self::at_one_of(&mut endpoints, (counts, servers), settings).await
    }

    /// Trunks with the same address share it.
    pub(crate) async fn among(endpoints: &mut Endpoints, counts: Arc<Counts>, settings: config::SipTrunk) -> Self {
        Self::at_one_of(endpoints, (counts, Servers::default()), settings).await
    }

    async fn at_one_of(
        endpoints: &mut Endpoints,
        (counts, servers): (Arc<Counts>, Servers),
        settings: config::SipTrunk,
    ) -> Self {
        let local = sip::local(&settings, &servers).await.unwrap();
        let endpoint = endpoints.at(&local).await.unwrap();
        let talks = sip::talks(&settings, local.bind.ip()).unwrap();
        let address = endpoint.address();
        let (sender, events) = mpsc::unbounded_channel();
        let trunk = SipTrunk::new(endpoint, settings, talks, sender);
        Self { trunk, address, counts, events, carried: Carried::default(), max_duration: None, call: None, legs: 0 }
    }

    pub(crate) fn place(&mut self, ring_timeout_s: u32) {
        self.place_to("+15550001234", ring_timeout_s);
    }

    pub(crate) fn place_to(&mut self, to: &str, ring_timeout_s: u32) {
        let record = CallRecord {
            to: to.to_owned(),
            from: "+15558675309".to_owned(),
            ring_timeout_s,
            ..CallRecord::dialing("CA1".to_owned(), 1_700_000_000_000)
        };
        self.call = Some(Call::dial(record, self.max_duration, Instant::now()));
        self.act();
    }

    /// Somebody calls: taken in, and rung.
    pub(crate) async fn is_called(&mut self) {
        let event = tokio::time::timeout(LIMIT, self.events.recv()).await.unwrap().unwrap();
        let TrunkKind::Arrived(arrival) = event.kind else { panic!("{:?}", event.kind) };
        let record = CallRecord {
            to: arrival.to.clone(),
            from: arrival.from.clone(),
            ..CallRecord::ringing("CA1".to_owned(), 1_700_000_000_000)
        };
        self.trunk.take_in(arrival.key, "CA1", Instant::now());
        self.call = Some(Call::ring(record, None, Instant::now()));
        self.act();
    }

    pub(crate) fn pick_up(&mut self) {
        self.call.as_mut().unwrap().handle_command(Command::Answer, Instant::now()).unwrap();
        self.act();
    }

    /// 603.
    pub(crate) fn turn_down(&mut self) {
        self.call.as_mut().unwrap().handle_command(Command::Reject(Reject::Declined), Instant::now()).unwrap();
        self.act();
    }

    pub(crate) fn record(&self) -> &CallRecord {
        self.call.as_ref().unwrap().record()
    }

    pub(crate) fn transfer(&mut self, mode: TransferMode) {
        self.transfer_to("+15557654321", mode);
    }

    pub(crate) fn transfer_to(&mut self, to: &str, mode: TransferMode) {
        let call = self.call.as_mut().unwrap();
        call.transfers_by(mode);
        call.handle_command(Command::Transfer { to: to.to_owned() }, Instant::now()).unwrap();
        self.act();
    }

    /// What the record says of its transfer, once it is not pending.
    pub(crate) async fn until_transfer(&mut self, state: TransferState) {
        let begun = Instant::now();
        while self.record().transfer.as_ref().unwrap().state != state {
            assert!(begun.elapsed() < LIMIT, "it is {:?}", self.record());
            self.turn().await;
        }
    }

    /// Keys of 100 ms; what is said of them.
    pub(crate) async fn press(&mut self, digits: &str) -> Result<(), String> {
        let (sender, told) = std::sync::mpsc::channel();
        let keys = Keys { strokes: strokes(digits).unwrap(), duration_ms: 100 };
        let asker = Asker::new(move |done| sender.send(done).unwrap());
        self.trunk.press("CA1", keys, asker, Instant::now());
        let begun = Instant::now();
        loop {
            if let Ok(done) = told.try_recv() {
                return done;
            }
            assert!(begun.elapsed() < LIMIT, "nothing is said of keys");
            self.turn().await;
        }
    }

    pub(crate) fn hangup(&mut self) {
        self.call.as_mut().unwrap().handle_command(Command::Hangup, Instant::now()).unwrap();
        self.act();
    }

    pub(crate) async fn until(&mut self, status: Status) {
        let begun = Instant::now();
        while self.record().status != status {
            assert!(begun.elapsed() < LIMIT && !self.record().status.is_terminal(), "it is {:?}", self.record());
            self.turn().await;
        }
    }

    pub(crate) async fn ended(&mut self) -> &CallRecord {
        let begun = Instant::now();
        while !self.record().status.is_terminal() {
            assert!(begun.elapsed() < LIMIT, "it is {:?}", self.record());
            self.turn().await;
        }
        self.record()
    }

    /// The call is over, and the wire is done with it; what its record said at the end it says still.
    pub(crate) async fn settled(&mut self) {
        let ended = self.ended().await.clone();
        let begun = Instant::now();
        while self.trunk.lines() > 0 {
            assert!(begun.elapsed() < LIMIT, "the trunk is not done with the call");
            self.turn().await;
        }
        assert_eq!(*self.record(), ended);
    }

    /// So much is in memory of its address's transactions.
    pub(crate) async fn until_kept(&self, expected: Transactions) {
        let begun = Instant::now();
        while self.trunk.transactions() != expected {
            assert!(begun.elapsed() < LIMIT, "it is {:?}", self.trunk.transactions());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets the call go on until the far side has had a message of ours that begins so.
    pub(crate) async fn until_heard(&mut self, far: &Far, begins: &str) {
        self.until_heard_times(far, begins, 1).await;
    }

    pub(crate) async fn until_heard_times(&mut self, far: &Far, begins: &str, times: usize) {
        let begun = Instant::now();
        while far.traffic().ours(begins).len() < times {
            assert!(begun.elapsed() < LIMIT, "fewer than {times} {begins} came:\n{}", far.said());
            self.turn().await;
        }
    }

    /// Status, reason, SIP code and Q.850 cause.
    pub(crate) fn ending(&self) -> (Status, EndReason, Option<u16>, Option<u8>) {
        let record = self.record();
        (record.status, record.end_reason.unwrap(), record.sip_code, record.q850)
    }

    async fn turn(&mut self) {
        let call = self.call.as_mut().unwrap();
        let look = Instant::now() + LOOK;
        let at = call.poll_timeout().map_or(look, |at| at.min(look));
        tokio::select! {
            event = self.events.recv() => {
                let kind = event.unwrap().kind;
                assert!(!matches!(kind, TrunkKind::Arrived(_)), "nobody calls");
                let (event, leg) = kind.parted();
                self.legs += usize::from(leg.is_some());
                event.into_iter().for_each(|event| call.handle_event(event, Instant::now()));
            }
            () = tokio::time::sleep_until(at.into()) => call.handle_timeout(Instant::now()),
        }
        self.act();
    }

    fn act(&mut self) {
        let call = self.call.as_mut().unwrap();
        let (sid, now) = (call.record().sid.clone(), Instant::now());
        while let Some(action) = call.poll_action() {
            match action {
                Action::Dial => {
                    let record = call.record();
                    let ring_timeout = Duration::from_secs(u64::from(record.ring_timeout_s));
                    let (to, from) = (record.to.clone(), record.from.clone());
                    let carried = self.carried.clone();
                    self.trunk.dial(Dial { sid: sid.clone(), to, from, ring_timeout, carried, hears_early: true }, now);
                }
                Action::Cancel => self.trunk.cancel(&sid, now),
                Action::Bye => self.trunk.bye(&sid, now),
                Action::Ring => self.trunk.ring(&sid, now),
                Action::Answer => self.trunk.answer(&sid, now),
                Action::Reject { code } => self.trunk.reject(&sid, code, now),
                Action::Transfer { to } => self.trunk.transfer(&sid, &to, now),
                // Of the audio, and of the record.
                _ => {}
            }
        }
    }
}
