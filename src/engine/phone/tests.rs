//! Every ending in virtual time: what the trunk tells and when, what the legs say and hear, what is on disk afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::recorder::Report;
use super::*;
use crate::audio::wav::Wav;
use crate::audio::{Decoder, Encoder, Frame, Params};
use crate::engine::leg::Leg;
use crate::engine::trunk::{Dial, FarEnd, Trunk, TrunkEvent, TrunkKind};

const TICK: Duration = Duration::from_millis(20);

/// A phone, its clock, and what it told: (ms since the dial, what).
struct Desk {
    phone: Phone,
    events: UnboundedReceiver<TrunkEvent>,
    start: Instant,
    now: Instant,
    told: Vec<(u64, String)>,
    leg: Option<Box<dyn Leg>>,
}

impl Desk {
    fn new(config: PhoneConfig) -> Self {
        let (sender, events) = unbounded_channel();
        let start = Instant::now();
        let phone = Phone::new(config, sender).unwrap();
        Self { phone, events, start, now: start, told: Vec::new(), leg: None }
    }

    fn dial(number: &str) -> Self {
        Self::dial_with(number, PhoneConfig::default())
    }

    fn dial_with(number: &str, config: PhoneConfig) -> Self {
        let mut desk = Self::new(config);
        let ring_timeout = Duration::from_secs(30);
        let dial = Dial {
            sid: "CA1".to_owned(),
            to: number.to_owned(),
            from: "+15558675309".to_owned(),
            ring_timeout,
            carried: Default::default(),
            hears_early: true,
        };
        desk.phone.dial(dial, desk.now);
        desk.listen();
        desk
    }

    fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            assert_eq!(event.sid, "CA1");
            let at_ms = (self.now - self.start).as_millis() as u64;
            self.told.push((at_ms, format!("{:?}", event.kind)));
            if let TrunkKind::Answered { leg } = event.kind {
                self.leg = leg;
            }
        }
    }

    /// Follows the phone's own timers for this long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.phone.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now, "no time is in the past");
            self.now = at;
            self.phone.handle_timeout(at);
            self.listen();
        }
        self.now = end;
    }

    /// Ticks the leg as an audio thread does, pushing what `downlink` gives; returns what was pulled.
    fn tick(&mut self, ticks: usize, mut downlink: impl FnMut(usize) -> Option<Frame>) -> Vec<Option<Frame>> {
        let mut leg = self.leg.take().expect("the call was answered by a phone");
        let mut pulled = Vec::new();
        for n in 0..ticks {
            pulled.push(leg.pull(self.now));
            leg.push(downlink(n).as_ref(), self.now);
            self.run(TICK);
        }
        self.leg = Some(leg);
        pulled
    }

    fn told(&self) -> Vec<(u64, &str)> {
        self.told.iter().map(|(at_ms, what)| (*at_ms, what.as_str())).collect()
    }
}

const ANSWERED: [(u64, &str); 3] = [(0, "Trying"), (20, "Progress(180)"), (220, "Answered(leg: true)")];

fn recording(folder: &Path) -> PhoneConfig {
    PhoneConfig { record: Some(folder.to_owned()), ..PhoneConfig::default() }
}

fn report(folder: &Path) -> Report {
    serde_json::from_slice(&std::fs::read(folder.join("CA1.json")).unwrap()).unwrap()
}

fn heard(folder: &Path) -> Wav {
    Wav::parse(&std::fs::read(folder.join("CA1.wav")).unwrap()).unwrap()
}

/// Packets of a rising tone: every frame is louder than the one before.
fn packets(count: usize) -> Vec<Frame> {
    let mut encoder = Encoder::at(Params::CALL, 16_000).unwrap();
    let sample = |n: usize| {
        let loudness = 2000.0 + 20_000.0 * n as f64 / (count * 320) as f64;
        (loudness * (n as f64 * 440.0 * std::f64::consts::TAU / 16_000.0).sin()) as i16
    };
    let frame = |i: usize| (i * 320..(i + 1) * 320).map(sample).collect::<Vec<i16>>();
    (0..count).map(|i| encoder.encode(&frame(i)).unwrap()).collect()
}

fn loudness(samples: &[i16]) -> f64 {
    (samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

#[test]
fn statuses_come_as_the_number_says() {
    for (number, code) in [("+15550009486", 486), ("+15550009404", 404), ("+15550009302", 302), ("+15550009699", 699)] {
        let mut desk = Desk::dial(number);
        desk.run(Duration::from_secs(60));
        assert_eq!(desk.told(), [(0, "Trying"), (20, &format!("Rejected({code})"))]);
        assert_eq!((desk.phone.lines(), desk.phone.poll_timeout()), (0, None));
    }
    for (number, code) in [("+15550009603", 603), ("+15550009408", 408)] {
        let mut desk = Desk::dial(number);
        desk.run(Duration::from_secs(60));
        assert_eq!(desk.told(), [(0, "Trying"), (20, "Progress(180)"), (220, &format!("Rejected({code})"))]);
    }
}

#[test]
fn phones_that_do_not_answer() {
    let mut desk = Desk::dial("+15550009000");
    desk.run(Duration::from_secs(600));
    assert_eq!(desk.told(), [(0, "Trying"), (20, "Progress(180)")]);
    desk.phone.cancel("CA1", desk.now);
    desk.listen();
    assert_eq!(desk.told()[2], (600_000, "Rejected(487)"));

    let mut desk = Desk::dial("+15550009001");
    desk.run(Duration::from_secs(600));
    desk.phone.cancel("CA1", desk.now);
    desk.listen();
    assert!(desk.told().is_empty() && desk.phone.lines() == 0);

    let mut desk = Desk::dial("+15550009003");
    desk.run(Duration::from_secs(600));
    assert_eq!(desk.told(), [(20, "Unreachable")]);
}

#[test]
fn a_late_phone_rings_three_seconds_longer() {
    let mut desk = Desk::dial("+15550009002");
    desk.run(Duration::from_secs(60));
    assert_eq!(desk.told(), [(0, "Trying"), (20, "Progress(180)"), (3220, "Answered(leg: true)")]);
}

#[test]
fn it_says_its_clip_then_silence() {
    let mut desk = Desk::dial("+15550009010");
    desk.run(Duration::from_millis(220));
    assert_eq!(desk.told(), ANSWERED);
    let clip = desk.phone.clip().frames().to_vec();
    assert_eq!(clip.len(), 201, "four seconds and what the encoder holds back");
    let pulled: Vec<Frame> = desk.tick(260, |_| None).into_iter().map(Option::unwrap).collect();
    assert_eq!(pulled[..201], clip[..]);
    let (mut decoder, mut samples) = (Decoder::at(Params::CALL, 16_000, 1).unwrap(), Vec::new());
    pulled.iter().for_each(|frame| decoder.decode(Some(frame), &mut samples).unwrap());
    assert!(loudness(&samples[..201 * 320]) > 1000.0, "{}", loudness(&samples[..201 * 320]));
    assert!(loudness(&samples[206 * 320..]) < 10.0, "{}", loudness(&samples[206 * 320..]));
    desk.phone.bye("CA1", desk.now);
    desk.run(Duration::from_secs(60));
    assert_eq!((desk.told(), desk.phone.lines()), (ANSWERED.to_vec(), 0));
}

#[test]
fn a_clip_from_a_file_is_said_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.wav");
    let samples: Vec<i16> = (0..8000 * 3 + 5).map(|n| ((n * 37) % 9000) as i16 - 4500).collect();
    let mut bytes = crate::audio::wav::header(8000, 1, samples.len() as u32 * 2).to_vec();
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(&path, &bytes).unwrap();
    let desk = Desk::dial_with("+15550009010", PhoneConfig { clip: Some(path.clone()), ..PhoneConfig::default() });
    assert_eq!(desk.phone.clip().frames().len(), 151);
    std::fs::write(&path, b"RIFF").unwrap();
    let config = PhoneConfig { clip: Some(path), ..PhoneConfig::default() };
    let error = Phone::new(config, unbounded_channel().0).err().unwrap().to_string();
    assert!(error.contains("clip.wav") && error.contains("RIFF/WAVE"), "{error}");
}

#[test]
fn it_keeps_every_frame_it_hears() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::dial_with("+15550009011", recording(folder.path()));
    desk.run(Duration::from_millis(220));
    let packets = packets(1500);
    // Silence before the first frame is no gap.
    let pulled = desk.tick(1530, |n| n.checked_sub(10).and_then(|n| packets.get(n)).cloned());
    assert!(pulled.iter().all(Option::is_none), "it says nothing");
    let growing = heard(folder.path());
    assert!(growing.samples.len() >= 1470 * 320, "the file is whole while the call lives");
    assert!(!folder.path().join("CA1.json").exists());
    desk.leg = None;

    let (report, heard) = (report(folder.path()), heard(folder.path()));
    assert_eq!((report.frames_heard, report.gaps, report.ticks_after_last, report.malformed), (1500, 0, 20, 0));
    assert_eq!((report.frames_said, report.recorded_samples, report.lost_samples), (0, 1520 * 320, 0));
    assert!(report.heard_at_us.windows(2).all(|pair| pair[1] - pair[0] == 20_000), "20 ms apart");
    assert_eq!((heard.sample_rate, heard.samples.len()), (16_000, 1520 * 320));
    // In order: a second later it is always louder.
    let seconds: Vec<f64> = heard.samples[..1500 * 320].chunks(16_000).map(loudness).collect();
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "{seconds:?}");
}

#[test]
fn gaps_and_nonsense_are_counted_and_keep_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::dial_with("+15550009010", recording(folder.path()));
    desk.run(Duration::from_millis(220));
    let packets = packets(100);
    desk.tick(100, |n| match n % 20 {
        5..=7 => None,
        11 => Some(Frame::from_static(&[0x03])),
        _ => Some(packets[n].clone()),
    });
    desk.leg = None;
    let report = report(folder.path());
    assert_eq!((report.frames_heard, report.gaps, report.malformed), (85, 15, 5));
    assert_eq!((report.frames_said, report.clip_frames_said), (100, 100));
    assert_eq!(heard(folder.path()).samples.len(), 100 * 320);
}

#[test]
fn a_recording_that_cannot_begin_does_not_hurt_the_call() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("CA1.wav")).unwrap();
    let mut desk = Desk::dial_with("+15550009010", recording(folder.path()));
    desk.run(Duration::from_millis(220));
    assert_eq!((desk.told(), desk.phone.unrecorded()), (ANSWERED.to_vec(), 1));
    assert!(desk.tick(5, |_| Some(Frame::from_static(&[0]))).iter().all(Option::is_some));
    // A sid with a path in it is no name of a file.
    assert_eq!(recording(folder.path()).recording("../CA1"), None);
    assert_eq!(recording(folder.path()).report("CA1"), Some(folder.path().join("CA1.json")));
}

#[test]
fn an_echo_gives_back_the_very_frames() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::dial_with("+15550009012", recording(folder.path()));
    desk.run(Duration::from_millis(220));
    let packets = packets(50);
    let pulled = desk.tick(51, |n| packets.get(n).cloned());
    assert_eq!(pulled[0], None);
    for (said, back) in packets.iter().zip(&pulled[1..]) {
        assert_eq!(back.as_ref().unwrap().as_ptr(), said.as_ptr());
    }
    desk.leg = None;
    let report = report(folder.path());
    assert_eq!((report.frames_heard, report.frames_said, report.gaps), (50, 50, 0));
}

#[test]
fn it_hangs_up_when_the_clip_was_said() {
    let mut desk = Desk::dial("+15550009013");
    desk.run(Duration::from_millis(220));
    // The audio thread begins half a second late: the clip is said whole all the same.
    desk.run(Duration::from_millis(500));
    let clip = desk.phone.clip().frames().len();
    let pulled = desk.tick(clip, |_| None);
    assert_eq!(pulled.iter().flatten().count(), clip);
    desk.run(Duration::from_millis(100));
    let (at_ms, last) = desk.told()[3];
    assert_eq!(last, "Bye");
    assert!((4720..=4780).contains(&at_ms), "{at_ms}");
    assert_eq!((desk.phone.lines(), desk.phone.poll_timeout()), (0, None));
    // Nobody ever pulls: it does not wait for ever.
    let mut desk = Desk::dial("+15550009013");
    desk.run(Duration::from_secs(60));
    assert_eq!(desk.told()[3], (14_240, "Bye"));
}

#[test]
fn transfers_are_accepted_refused_and_ignored() {
    let transferred = |number: &str| {
        let mut desk = Desk::dial(number);
        desk.phone.transfer("CA1", "+15550001111", desk.now);
        desk.run(Duration::from_millis(300));
        assert_eq!(desk.told(), ANSWERED, "before the answer there is nothing to transfer");
        desk.phone.transfer("CA1", "+15550001111", desk.now);
        desk.run(Duration::from_secs(60));
        let lines = desk.phone.lines();
        (desk.told.split_off(3), lines)
    };
    let told = |words: &[(u64, &str)]| words.iter().map(|(at, word)| (*at, (*word).to_owned())).collect::<Vec<_>>();
    let accepted = told(&[(320, "TransferAccepted"), (420, "Bye")]);
    assert_eq!(transferred("+15550009020"), (accepted.clone(), 0));
    assert_eq!(transferred("+15551234567"), (accepted, 0));
    assert_eq!(transferred("+15550009021"), (told(&[(320, "TransferRefused(603)")]), 1));
    assert_eq!(transferred("+15550009022"), (told(&[]), 1));
}

#[test]
fn an_empty_far_end_is_known_from_its_number() {
    let mut desk = Desk::dial("+15550009030");
    assert_eq!(desk.phone.far_end("+15550009030"), FarEnd::Empty);
    assert_eq!(desk.phone.far_end("+15550009010"), FarEnd::Phone);
    desk.run(Duration::from_secs(1));
    assert_eq!(desk.told()[2], (220, "Answered(leg: false)"));
}

#[test]
fn commands_for_strangers_and_repeated_dials_do_nothing() {
    let mut desk = Desk::dial("+15550009010");
    let again = Dial {
        sid: "CA1".to_owned(),
        to: "9486".to_owned(),
        from: String::new(),
        ring_timeout: TICK,
        carried: Default::default(),
        hears_early: true,
    };
    desk.phone.dial(again, desk.now);
    for stranger in ["CA2", ""] {
        desk.phone.cancel(stranger, desk.now);
        desk.phone.bye(stranger, desk.now);
        desk.phone.transfer(stranger, "+1", desk.now);
    }
    desk.run(Duration::from_secs(1));
    assert_eq!((desk.told(), desk.phone.lines()), (ANSWERED.to_vec(), 1));
    // A CANCEL that crosses the answer hangs up; nothing is told about the call after that.
    desk.phone.cancel("CA1", desk.now);
    desk.run(Duration::from_secs(9));
    assert_eq!((desk.told(), desk.phone.lines()), (ANSWERED.to_vec(), 0));
}

#[test]
fn a_late_owner_finds_the_script_where_it_should_be() {
    let mut desk = Desk::dial("+15550009010");
    desk.now += Duration::from_secs(2);
    desk.phone.handle_timeout(desk.now);
    desk.listen();
    let told = desk.told();
    assert_eq!((told.len(), told[2]), (3, (2000, "Answered(leg: true)")));
}
