//! The simulated phone over real SIP and RTP: what each number ending says on the wire, what is heard, and a stranger's call to it.

use std::path::Path;
use std::time::{Duration, Instant};

use clutchcall::audio::{Encoder, Frame, Params};
use clutchcall::engine::leg::{Heard, Leg};
use clutchcall::engine::phone::{Clips, Phone, PhoneConfig, PhoneTrunk, Report};
use clutchcall::engine::sip::Endpoints;
use clutchcall::engine::trunk::{Dial, FarEnd, Trunk, TrunkEvent, TrunkKind};
use tokio::sync::mpsc;

use crate::rig::LIMIT;

const TICK: Duration = Duration::from_millis(20);

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
        let phone = Phone::open(config, ([127, 0, 0, 1], 0).into()).await.unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let mut trunk = PhoneTrunk::open(phone.address(), &mut Endpoints::default(), sender).await.unwrap();
        let (to, from) = (number.to_owned(), "+15558675309".to_owned());
        let dial = Dial {
            sid: "CA1".to_owned(),
            to,
            from,
            ring_timeout: LIMIT,
            carried: Default::default(),
            hears_early: false,
        };
        trunk.dial(dial, Instant::now());
        Self { phone, trunk, events, told: Vec::new(), leg: None }
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
            assert_eq!(event.sid, "CA1");
            self.told.push(format!("{:?}", event.kind));
            if let TrunkKind::Answered { leg } = event.kind {
                self.leg = leg;
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
async fn talk(mut leg: Box<dyn Leg>, said: Vec<Frame>, expected: usize) -> (Box<dyn Leg>, Vec<(Frame, Instant)>) {
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
            if heard.len() >= expected && said.len() == 0 {
                return (leg, heard);
            }
            assert!(begun.elapsed() < LIMIT, "{} of {expected} frames", heard.len());
            at += TICK;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn case<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
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
        call.trunk.cancel("CA1", Instant::now());
        call.over().await;

        let mut call = Call::dial("+15550009001").await;
        call.until("Placed").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(call.events.try_recv().is_err(), "not even 100, though the INVITE was repeated");

        let mut call = Call::dial("+15550009003").await;
        call.until("Unreachable").await;
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
        call.trunk.bye("CA1", Instant::now());
        call.over().await;
    });
}

#[test]
fn transfers_are_accepted_refused_and_ignored() {
    case(async || {
        let mut call = Call::dial("+15550009020").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer("CA1", "+15550001111", Instant::now());
        call.until("Bye").await;
        assert_eq!(call.told[3..], ["Answered(leg: true)", "TransferAccepted", "Bye"]);
        call.over().await;

        let mut call = Call::dial("+15550009021").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer("CA1", "+15550001111", Instant::now());
        call.until("TransferRefused(603)").await;
        assert_eq!(call.phone.lines(), 1, "the call goes on");
        call.trunk.bye("CA1", Instant::now());
        call.over().await;

        let mut call = Call::dial("+15550009022").await;
        call.until("Answered(leg: true)").await;
        call.trunk.transfer("CA1", "+15550001111", Instant::now());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(call.events.try_recv().is_err() && call.phone.lines() == 1);
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
        assert!(heard.iter().map(|(frame, _)| frame).eq(Clips::voice().unwrap().of(Params::CALL).frames()));
        assert!(are_whole_frames_apart(&heard), "by the phone's clock");
        let report = report(folder.path(), "CA1").await;
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
        call.trunk.bye("CA1", Instant::now());
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
