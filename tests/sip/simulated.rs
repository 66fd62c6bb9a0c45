//! The simulated phone over real SIP and RTP: what each number ending says on the wire, what is heard, and a stranger's call to it.

mod early;

use std::path::Path;
use std::time::{Duration, Instant};

use clutchcall::audio::{Encoder, Frame, Params, wav};
use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::leg::{Heard, Leg};
use clutchcall::engine::phone::{Clips, Phone, PhoneConfig, PhoneTrunk, Report};
use clutchcall::engine::sip::{Endpoints, Timers, Transport};
use clutchcall::engine::trunk::{Dial, FarEnd, Trunk, TrunkEvent, TrunkKind};
use tokio::sync::mpsc;

use crate::rig::{self, Caller, Far, LIMIT, free_port, towards};

const TICK: Duration = Duration::from_millis(20);
/// A tenth of RFC 3261's T1: who is not answered gives up within a test.
const SOON: Timers = Timers { t1: Duration::from_millis(50) };

const SID: &str = "CA1";

/// A phone, a trunk to it, and one call over it.
struct Call {
    phone: Phone,
    trunk: PhoneTrunk,
    events: mpsc::UnboundedReceiver<TrunkEvent>,
    told: Vec<String>,
    leg: Option<Box<dyn Leg>>,
}

impl Call {
    async fn dial(number: &str) -> Self {
        Self::with(number, PhoneConfig::default()).await
    }

    async fn with(number: &str, config: PhoneConfig) -> Self {
        Self::over_trunk(number, config, Endpoints::default()).await
    }

    /// By a trunk that gives up soon.
    async fn impatient(number: &str) -> Self {
        Self::over_trunk(number, PhoneConfig::default(), Endpoints::counting(SOON, Default::default())).await
    }

    async fn over_trunk(number: &str, config: PhoneConfig, endpoints: Endpoints) -> Self {
        let mut call = Self::idle(config, endpoints).await;
        call.place(SID, number, false);
        call
    }

    /// Of use is what is said before the answer, too.
    async fn listening(number: &str, config: PhoneConfig) -> Self {
        let mut call = Self::idle(config, Endpoints::default()).await;
        call.place(SID, number, true);
        call
    }

    async fn idle(config: PhoneConfig, mut endpoints: Endpoints) -> Self {
        let phone = Phone::open(config, ([127, 0, 0, 1], 0).into()).await.unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let trunk = PhoneTrunk::open(phone.address(), &mut endpoints, sender).await.unwrap();
        Self { phone, trunk, events, told: Vec::new(), leg: None }
    }

    fn place(&mut self, sid: &str, number: &str, hears_early: bool) {
        let (sid, to, from) = (sid.to_owned(), number.to_owned(), "+15558675309".to_owned());
        let dial = Dial { sid, to, from, ring_timeout: LIMIT, carried: Default::default(), hears_early };
        self.trunk.dial(dial, Instant::now());
    }

    /// What is told of both calls, until the other one was refused.
    async fn until_other_is_refused(&mut self) {
        loop {
            let event = tokio::time::timeout(LIMIT, self.events.recv()).await.unwrap().unwrap();
            match event.kind {
                kind if event.sid == SID => self.told.push(format!("{kind:?}")),
                TrunkKind::Rejected { .. } => return,
                _ => {}
            }
        }
    }

    /// Until it was told so.
    async fn until(&mut self, what: &str) {
        let limit = tokio::time::sleep(LIMIT);
        tokio::pin!(limit);
        while !self.told.iter().any(|told| told == what) {
            let event = tokio::select! {
                event = self.events.recv() => event.unwrap(),
                () = &mut limit => panic!("no {what}: {:?}", self.told),
            };
            assert_eq!(event.sid, SID);
            self.told.push(format!("{:?}", event.kind));
            match event.kind {
                TrunkKind::Early { leg } | TrunkKind::Answered { leg: Some(leg) } => self.leg = Some(leg),
                _ => {}
            }
        }
    }

    /// Until phone and trunk have nothing more to say to each other.
    async fn over(&mut self) {
        let begun = Instant::now();
        while self.phone.lines() > 0 || self.trunk.lines() > 0 {
            assert!(
                begun.elapsed() < LIMIT,
                "{} at the phone, {} at the trunk",
                self.phone.lines(),
                self.trunk.lines()
            );
            tokio::time::sleep(TICK / 4).await;
        }
        assert!(self.events.try_recv().is_err(), "nothing follows");
    }
}

/// An audio thread in small: says these frames, one per tick, and goes on until so many were heard.
async fn talk(leg: Box<dyn Leg>, said: Vec<Frame>, expected: usize) -> (Box<dyn Leg>, Vec<(Frame, Instant)>) {
    talk_until(leg, said, move |heard| heard.len() >= expected).await
}

/// The same, until this was heard.
async fn talk_until(
    mut leg: Box<dyn Leg>,
    said: Vec<Frame>,
    is_all: impl Fn(&[(Frame, Instant)]) -> bool + Send + 'static,
) -> (Box<dyn Leg>, Vec<(Frame, Instant)>) {
    let run = move || {
        let (begun, mut heard) = (Instant::now(), Vec::new());
        let (mut said, mut at) = (said.into_iter(), Instant::now());
        loop {
            leg.push(said.next().as_ref(), at);
            (0..2).for_each(|socket| leg.receive(socket, Instant::now()));
            while let Some(event) = leg.poll_heard() {
                if let Heard::Frame { frame, at } = event {
                    heard.push((frame, at));
                }
            }
            if said.len() == 0 && is_all(&heard) {
                return (leg, heard);
            }
            assert!(begun.elapsed() < LIMIT, "{} frames, and not all", heard.len());
            at += TICK;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn case<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
}

/// What the phone says.
fn clip() -> Vec<Frame> {
    Clips::voice().unwrap().of(Params::CALL).frames().to_vec()
}

/// It says less than half a second.
pub(crate) fn brief(folder: &Path) -> PhoneConfig {
    let (path, samples) = (folder.join("clip.wav"), [0x55; 6400]);
    std::fs::write(&path, [&wav::header(8000, 1, samples.len() as u32)[..], &samples].concat()).unwrap();
    PhoneConfig { clip: Some(path), ..PhoneConfig::default() }
}

fn recording(folder: &Path) -> PhoneConfig {
    PhoneConfig { record: Some(folder.to_owned()), ..PhoneConfig::default() }
}

async fn report(folder: &Path, name: &str) -> Report {
    let (begun, path) = (Instant::now(), folder.join(format!("{name}.json")));
    while !path.exists() {
        assert!(begun.elapsed() < LIMIT, "no report");
        tokio::time::sleep(TICK).await;
    }
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// One, but where the machine had no time for the phone.
fn are_whole_frames_apart(heard: &[(Frame, Instant)]) -> bool {
    heard.windows(2).all(|pair| {
        let apart = pair[1].1 - pair[0].1;
        !apart.is_zero() && apart.as_micros().is_multiple_of(TICK.as_micros())
    })
}

/// No two alike.
fn packets(count: usize) -> Vec<Frame> {
    let mut encoder = Encoder::at(Params::CALL, 16_000).unwrap();
    let sample = |n: usize| (((n * n) % 7919) as i16 - 3959) * 4;
    let frame = |i: usize| (i * 320..(i + 1) * 320).map(sample).collect::<Vec<i16>>();
    (0..count).map(|i| encoder.encode(&frame(i)).unwrap()).collect()
}

#[test]
fn machines_refuse_at_once_and_people_after_ringing() {
    case(async || {
        for code in [302, 401, 404, 407, 480, 486, 503, 600, 699] {
            let mut call = Call::dial(&format!("+1555000{}", 9000 + code)).await;
            call.until(&format!("Rejected({code})")).await;
            assert_eq!(call.told, ["Placed", "Trying", &format!("Rejected({code})")]);
            call.over().await;
        }
        for code in [408, 603] {
            let mut call = Call::dial(&format!("+1555000{}", 9000 + code)).await;
            call.until(&format!("Rejected({code})")).await;
            assert_eq!(call.told, ["Placed", "Trying", "Progress(180)", &format!("Rejected({code})")]);
            call.over().await;
        }
    });
}

#[test]
fn phones_that_do_not_answer() {
    case(async || {
        let mut call = Call::dial("+15550009000").await;
        call.until("Progress(180)").await;
        call.trunk.cancel(SID, Instant::now());
        call.over().await;

        // It is asked first, and again while the other one rings; the other one is answered.
        let mut call = Call::impatient("+15550009001").await;
        call.until("Placed").await;
        call.place("CA2", "+15550009603", false);
        call.until_other_is_refused().await;
        assert_eq!(call.told, ["Placed"], "not even 100");
        call.trunk.cancel(SID, Instant::now());
        call.over().await;

        let mut call = Call::dial("+15550009003").await;
        call.until("Unreachable(Connection refused (os error 111))").await;
        call.over().await;
    });
}

#[test]
fn an_empty_far_end_is_known_from_its_number_and_has_no_audio() {
    case(async || {
        let mut call = Call::dial("+15550009030").await;
        assert_eq!(call.trunk.far_end("+15550009030"), FarEnd::Empty);
        assert_eq!(call.trunk.far_end("+15550009010"), FarEnd::Phone);
        call.until("Answered(leg: false)").await;
        call.trunk.bye(SID, Instant::now());
        call.over().await;
    });
}

#[test]
fn transfers_are_accepted_refused_and_ignored() {
    case(async || {
        let mut call = Call::dial("+15550009020").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer(SID, "+15550001111", Instant::now());
        call.until("Bye").await;
        assert_eq!(call.told[3..], ["Answered(leg: true)", "TransferAccepted", "Bye"]);
        call.over().await;

        let mut call = Call::dial("+15550009021").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer(SID, "+15550001111", Instant::now());
        call.until("TransferRefused(603)").await;
        assert_eq!(call.phone.lines(), 1, "the call goes on");
        call.trunk.bye(SID, Instant::now());
        call.over().await;

        let mut call = Call::impatient("+15550009022").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer(SID, "+15550001111", Instant::now());
        // By whoever waited for an answer: there was none in 64·T1.
        call.until("TransferRefused(408)").await;
        assert_eq!(call.told[3..], ["Answered(leg: true)", "TransferRefused(408)"]);
        assert_eq!(call.phone.lines(), 1, "the call goes on");
        call.trunk.bye(SID, Instant::now());
        call.over().await;
    });
}

#[test]
fn the_whole_clip_is_heard_then_it_hangs_up_and_has_kept_what_it_heard() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let mut call = Call::with("+15550009013", recording(folder.path())).await;
        call.until("Answered(leg: true)").await;
        assert_eq!(call.told, ["Placed", "Trying", "Progress(180)", "Answered(leg: true)"]);
        let (leg, said) = (call.leg.take().unwrap(), packets(50));
        let (_leg, heard) = talk(leg, said.clone(), 201).await;
        call.until("Bye").await;
        assert!(heard.iter().map(|(frame, _)| frame).eq(&clip()));
        assert!(are_whole_frames_apart(&heard), "by the phone's clock");
        let report = report(folder.path(), SID).await;
        assert_eq!((report.frames_said, report.clip_frames_said, report.malformed), (201, 201, 0));
        // The first packet opens the line; if it was one of ours, it was heard.
        assert_eq!((report.frames_heard, report.gaps), (50, 0));
        call.over().await;
    });
}

#[test]
fn an_echo_is_the_very_packets_that_were_said() {
    case(async || {
        let mut call = Call::dial("+15550009012").await;
        call.until("Answered(leg: true)").await;
        let (leg, said) = (call.leg.take().unwrap(), packets(40));
        let (_leg, heard) = talk(leg, said.clone(), 40).await;
        assert!(heard.iter().map(|(frame, _)| frame).eq(&said));
        assert!(heard.windows(2).all(|pair| pair[1].1 - pair[0].1 == TICK), "20 ms apart by our own clock");
        call.trunk.bye(SID, Instant::now());
        call.over().await;
    });
}

#[test]
fn a_phone_that_is_switched_off_hangs_up() {
    case(async || {
        let mut call = Call::dial("+15550009011").await;
        call.until("Answered(leg: true)").await;
        let Call { phone, trunk: _trunk, events: mut heard, .. } = call;
        phone.switch_off().await;
        assert!(matches!(heard.recv().await.unwrap().kind, TrunkKind::Bye { q850: Some(16) }));
    });
}

/// By BYE, since its caller may well hear it (RFC 3261 §13.3.1.4).
#[test]
fn a_phone_whose_answer_is_never_acknowledged_hangs_up() {
    rig::case(async || {
        let phone = Phone::with_timers(PhoneConfig::default(), ([127, 0, 0, 1], 0).into(), SOON).await.unwrap();
        let far = Far::calls("caller_never_acks", free_port(), phone.address(), &[("number", "+15550009010")]);
        let traffic = far.played().await;
        assert!(traffic.ours("SIP/2.0 200").len() >= 4, "it was not repeated: {traffic:?}");
        traffic.our("BYE");
        let begun = Instant::now();
        while phone.lines() > 0 {
            assert!(begun.elapsed() < LIMIT, "the call is not over");
            tokio::time::sleep(TICK / 4).await;
        }
    });
}

/// RFC 3261 §18.2.1.
#[test]
fn a_trunk_reaches_it_over_tcp_at_the_same_port() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let config = PhoneConfig { record: Some(folder.path().to_owned()), ..brief(folder.path()) };
        let phone = Phone::open(config, ([127, 0, 0, 1], 0).into()).await.unwrap();
        let mut caller = Caller::idle(towards(Transport::Tcp, phone.address().port())).await;
        caller.place_to("+15550009013", 20);
        caller.until(Status::InProgress).await;
        assert_eq!(caller.legs, 1);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        assert_eq!(caller.record().ended_by, Some(EndedBy::Remote), "its BYE came over our connection");
        let call_id = caller.record().sip_call_id.clone().unwrap();
        let report = report(folder.path(), call_id.split('@').next().unwrap()).await;
        assert!(report.clip_frames_said > 0 && report.frames_said == report.clip_frames_said, "{report:?}");

        caller.place_to("+15550009486", 20);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Busy, Some(486), Some(17)));
        caller.place_to("+15550009011", 20);
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.record().ended_by, Some(EndedBy::Local));
    });
}

#[test]
fn strangers_call_it_over_udp_and_over_tcp() {
    rig::case(async || {
        let phone = Phone::open(PhoneConfig::default(), ([127, 0, 0, 1], 0).into()).await.unwrap();
        for (transport, via) in [(Transport::Udp, "SIP/2.0/UDP"), (Transport::Tcp, "SIP/2.0/TCP")] {
            let keys = [("number", "+15550009010")];
            let far = Far::calls_over(transport, "caller_leaves", free_port(), phone.address(), &keys);
            let traffic = far.played().await;
            let answer = traffic.ours("SIP/2.0 200")[0];
            assert!(answer.header("Via").starts_with(via), "{}", answer.text);
            let is_named = answer.header("Contact").to_ascii_lowercase().contains(";transport=tcp");
            assert_eq!(is_named, transport == Transport::Tcp, "{}", answer.text);
        }
    });
}

#[test]
fn a_port_that_is_taken_over_tcp_is_named() {
    case(async || {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Phone::open(PhoneConfig::default(), address).await.err().unwrap();
        assert!(error.contains(&format!("tcp {address} can't be bound")), "{error}");
    });
}
