//! A line in virtual time: what it says and when, what it hears, what is on disk afterwards. Its calls over SIP: `tests/sip/simulated.rs`.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::line::{PhoneLine, SHY, Says, TICK, Told};
use super::recorder::{Recorder, Report};
use super::*;
use crate::audio::wav::Wav;
use crate::audio::{Codec, Decoder, Encoder, Frame, Params};
use crate::engine::leg::{Heard, Leg};
use crate::engine::rtp::silence;

#[derive(Default)]
struct Wire {
    /// What was pushed, and when.
    said: Vec<(Option<Frame>, Instant)>,
    heard: VecDeque<Heard>,
    params: Option<Params>,
}

/// A leg that notes what it is pushed, and hears what it is told to.
#[derive(Clone, Default)]
struct FakeLeg(Arc<Mutex<Wire>>);

impl FakeLeg {
    fn wire(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frames(&self) -> Vec<(Frame, Instant)> {
        self.wire().said.iter().filter_map(|(frame, at)| Some((frame.clone()?, *at))).collect()
    }
}

impl Leg for FakeLeg {
    fn params(&self) -> Params {
        self.wire().params.unwrap_or(Params::CALL)
    }

    fn push(&mut self, frame: Option<&Frame>, at: Instant) {
        self.wire().said.push((frame.cloned(), at));
    }

    fn poll_heard(&mut self) -> Option<Heard> {
        self.wire().heard.pop_front()
    }
}

/// One line and its clock.
struct Desk {
    leg: FakeLeg,
    line: Option<PhoneLine>,
    told: UnboundedReceiver<Told>,
    clips: Arc<Clips>,
    now: Instant,
}

impl Desk {
    fn new(says: fn(Arc<Clips>) -> Says, folder: Option<&Path>) -> Self {
        let (leg, clips, now) = (FakeLeg::default(), Arc::new(Clips::voice().unwrap()), Instant::now());
        let (teller, told) = unbounded_channel();
        let recorder = folder.map(|folder| {
            let config = PhoneConfig { record: Some(folder.to_owned()), ..PhoneConfig::default() };
            let (wav, report) = (config.recording("CA1").unwrap(), config.report("CA1").unwrap());
            Recorder::create(&wav, report, config.record_rate, Params::CALL).unwrap()
        });
        let line = PhoneLine::new(Box::new(leg.clone()), says(clips.clone()), recorder, teller, now);
        Self { leg, line: Some(line), told, clips, now }
    }

    fn line(&mut self) -> &mut PhoneLine {
        self.line.as_mut().unwrap()
    }

    /// Follows the line's own ticks for this long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.line().due() <= end {
            self.now = self.line().due();
            let now = self.now;
            self.line().handle_tick(now);
        }
        self.now = end;
    }

    /// A packet comes now, spoken at this time.
    fn hear_at(&mut self, frame: &Frame, at: Instant) {
        let now = self.now;
        self.leg.wire().heard.push_back(Heard::Frame { frame: frame.clone(), at });
        self.line().receive(0, now);
    }

    fn ack(&mut self) -> Instant {
        let now = self.now;
        self.line().handle_ack(now);
        now
    }

    fn hear(&mut self, frame: &Frame) {
        self.hear_at(frame, self.now);
    }

    fn end(&mut self) {
        self.line.take().unwrap().end(self.now);
    }
}

/// That speaks, and when it began.
pub(super) fn a_line() -> (PhoneLine, Instant) {
    let desk = Desk::new(speaks, None);
    (desk.line.unwrap(), desk.now)
}

fn speaks(clips: Arc<Clips>) -> Says {
    Says::Clip { clips, leaves: false }
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
fn a_recording_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = PhoneConfig { record: Some(folder.path().to_owned()), ..PhoneConfig::default() };
    let begin = |name: &str| drop(Recorder::begin(&config, name, Params::CALL).unwrap().unwrap());
    std::fs::write(folder.path().join("CA1.wav"), "another call's").unwrap();
    begin("CA1");
    begin("CA1");
    begin(&"x".repeat(100));
    begin(&"x".repeat(100));
    assert_eq!(std::fs::read(folder.path().join("CA1.wav")).unwrap(), b"another call's");
    for name in ["CA1-2".to_owned(), "CA1-3".to_owned(), "x".repeat(100), format!("{}-2", "x".repeat(90))] {
        assert!(["wav", "json"].iter().all(|end| folder.path().join(format!("{name}.{end}")).exists()), "{name}");
    }
    assert!(Recorder::begin(&PhoneConfig::default(), "CA1", Params::CALL).unwrap().is_none());
}

#[test]
fn it_says_its_clip_then_silence_half_a_frame_behind_what_it_hears() {
    let mut desk = Desk::new(speaks, None);
    desk.run(Duration::from_millis(70));
    assert!(desk.leg.frames().is_empty(), "nobody listens yet");
    desk.hear(&silence(Codec::Opus));
    let opened = desk.now;
    desk.run(TICK * 260);
    let said = desk.leg.frames();
    let clip = desk.clips.of(Params::CALL).clone();
    assert_eq!((clip.frames().len(), said.len()), (201, 260), "four seconds and what the encoder holds back");
    assert!(said.iter().enumerate().all(|(n, (_, at))| *at == opened + TICK / 2 + TICK * n as u32), "20 ms apart");
    assert!(said[..201].iter().map(|(frame, _)| frame).eq(clip.frames()));
    let (mut decoder, mut samples) = (Decoder::at(Params::CALL, 16_000, 1).unwrap(), Vec::new());
    said.iter().for_each(|(frame, _)| decoder.decode(Some(frame), &mut samples).unwrap());
    assert!(loudness(&samples[..201 * 320]) > 1000.0, "{}", loudness(&samples[..201 * 320]));
    assert!(loudness(&samples[206 * 320..]) < 10.0, "{}", loudness(&samples[206 * 320..]));
    assert_eq!((desk.told.try_recv().ok(), desk.told.try_recv().ok()), (Some(Told::ClipEnded), None));
}

#[test]
fn who_says_nothing_is_spoken_to_all_the_same_and_who_leaves_falls_silent() {
    let mut desk = Desk::new(|clips| Says::Clip { clips, leaves: true }, None);
    desk.run(SHY * 3);
    assert!(desk.leg.frames().is_empty(), "she may not know of the answer yet");
    let acked = desk.ack();
    desk.run(SHY + TICK * 300);
    let said = desk.leg.frames();
    assert_eq!((said.len(), said[0].1), (201, acked + SHY));
    assert_eq!(desk.told.try_recv().ok(), Some(Told::ClipEnded));
}

#[test]
fn before_the_answer_it_speaks_by_itself_and_once_more_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(|clips| Says::Early { clips }, Some(folder.path()));
    let began = desk.now;
    desk.run(TICK * 300);
    let clip = desk.clips.of(Params::CALL).clone();
    let said = desk.leg.frames();
    assert!(said.iter().map(|(frame, _)| frame).eq(clip.frames()), "once, and no silence behind it");
    assert!(said.iter().enumerate().all(|(n, (_, at))| *at == began + TICK * (n as u32 + 5)), "a moment later");
    assert_eq!(desk.told.try_recv().ok(), Some(Told::ClipEnded));

    desk.ack();
    desk.run(TICK * 3);
    assert_eq!(desk.leg.frames().len(), said.len(), "she has yet to say that she listens");
    desk.hear(&silence(Codec::Opus));
    desk.run(TICK * 210);
    let again = desk.leg.frames().split_off(said.len());
    assert!(again[..201].iter().map(|(frame, _)| frame).eq(clip.frames()), "from its beginning");
    assert!(again.len() > 201 && again[201..].iter().all(|(frame, _)| frame == clip.silence()));
    // An ACK that is repeated, or another one's, begins nothing.
    desk.ack();
    desk.run(TICK * 3);
    assert!(desk.leg.frames().iter().rev().take(3).all(|(frame, _)| frame == clip.silence()));
    desk.end();
    assert_eq!(report(folder.path()).clip_frames_said, 402);
}

#[test]
fn an_answer_in_the_middle_of_what_is_said_before_it_begins_anew() {
    let mut desk = Desk::new(|clips| Says::Early { clips }, None);
    desk.run(TICK * 20);
    let before = desk.leg.frames().len();
    assert!(before > 0);
    desk.ack();
    desk.hear(&silence(Codec::Opus));
    desk.run(TICK * 205);
    let clip = desk.clips.of(Params::CALL).clone();
    assert!(desk.leg.frames()[before..][..201].iter().map(|(frame, _)| frame).eq(clip.frames()));
}

#[test]
fn a_g711_call_hears_the_same_clip() {
    let mut desk = Desk::new(speaks, None);
    let params = Params { codec: Codec::G711Alaw, sample_rate: 8000, channels: 1, frame_ms: 20 };
    desk.leg.wire().params = Some(params);
    desk.ack();
    desk.run(SHY + TICK * 220);
    let (mut decoder, mut samples) = (Decoder::new(params).unwrap(), Vec::new());
    desk.leg.frames().iter().for_each(|(frame, _)| decoder.decode(Some(frame), &mut samples).unwrap());
    assert!(loudness(&samples[..200 * 160]) > 1000.0 && loudness(&samples[205 * 160..]) < 10.0);
}

#[test]
fn a_late_thread_makes_up_for_what_is_not_long_ago() {
    let mut desk = Desk::new(speaks, None);
    desk.ack();
    desk.run(SHY);
    let before = desk.leg.frames().len();
    let (due, late) = (desk.line().due(), desk.now + Duration::from_millis(130));
    while desk.line().due() <= late {
        desk.line().handle_tick(late);
    }
    let said = desk.leg.frames().split_off(before);
    assert!(said.len() >= 6 && said.iter().enumerate().all(|(n, (_, at))| *at == due + TICK * n as u32));
    let later = late + Duration::from_secs(2);
    desk.line().handle_tick(later);
    assert_eq!(desk.line().due(), later + TICK, "two seconds are not said at once");
    let said = desk.leg.frames();
    let clip = desk.clips.of(Params::CALL).clone();
    assert!(said.iter().map(|(frame, _)| frame).eq(&clip.frames()[..said.len()]), "nothing of the clip is left out");
}

#[test]
fn an_echo_gives_each_frame_back_as_it_comes() {
    let mut desk = Desk::new(|_| Says::Echo, None);
    desk.run(Duration::from_millis(30));
    desk.hear(&silence(Codec::Opus));
    let (packets, began) = (packets(50), desk.now);
    for (n, packet) in packets.iter().enumerate() {
        desk.run(TICK);
        // Packets come late, and are given back by their own time.
        desk.hear_at(packet, began + TICK * n as u32);
    }
    desk.run(TICK * 10);
    let said = desk.leg.frames();
    assert!(said.iter().map(|(frame, _)| frame).eq(&packets), "all of them, and nothing else");
    assert!(said.iter().enumerate().all(|(n, (_, at))| *at == began + TICK * n as u32));
}

#[test]
fn it_keeps_every_frame_it_hears() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(|_| Says::Nothing, Some(folder.path()));
    // Silence before the first frame is no gap.
    desk.hear(&silence(Codec::Opus));
    desk.run(Duration::from_millis(300));
    for packet in packets(1500) {
        desk.run(TICK);
        desk.hear(&packet);
    }
    desk.run(TICK * 20);
    assert!(desk.leg.frames().is_empty(), "it says nothing");
    let growing = heard(folder.path());
    assert!(growing.samples.len() >= 1400 * 320, "the file is whole while the call lives");
    assert!(!folder.path().join("CA1.json").exists());
    desk.end();

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
    let mut desk = Desk::new(|_| Says::Nothing, Some(folder.path()));
    let packets = packets(100);
    for (n, packet) in packets.iter().enumerate() {
        desk.run(TICK);
        match n % 20 {
            5..=7 => {}
            11 => desk.hear(&Frame::from_static(&[0x03])),
            _ => desk.hear(packet),
        }
    }
    desk.run(Duration::from_secs(5));
    let growing = heard(folder.path()).samples.len() / 320;
    assert!(growing >= 100 + 150, "a pause is recorded while it lasts: {growing}");
    desk.end();
    let (report, heard) = (report(folder.path()), heard(folder.path()));
    assert_eq!((report.frames_heard, report.gaps, report.malformed), (85, 15, 5));
    assert_eq!((report.ticks_after_last, report.recorded_samples), (250, 350 * 320));
    assert_eq!(heard.samples.len(), 350 * 320);
    assert!(loudness(&heard.samples[5 * 320..6 * 320]) > 500.0, "the first frame of a gap is made up");
    assert!(loudness(&heard.samples[120 * 320..]) < 1.0, "a long one is silent");
}

#[test]
fn keys_are_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(|_| Says::Nothing, Some(folder.path()));
    for key in "1#".chars() {
        desk.leg.wire().heard.push_back(Heard::Key { key, ended_ms: None });
        desk.leg.wire().heard.push_back(Heard::Key { key, ended_ms: Some(100) });
    }
    desk.run(TICK);
    desk.end();
    assert_eq!(report(folder.path()).keys, "1#");
}

#[test]
fn a_clip_from_a_file_is_said_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.wav");
    let samples: Vec<i16> = (0..8000 * 3 + 5).map(|n| ((n * 37) % 9000) as i16 - 4500).collect();
    let mut bytes = crate::audio::wav::header(8000, 1, samples.len() as u32 * 2).to_vec();
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Clips::read(&path).unwrap().of(Params::CALL).frames().len(), 151);
    std::fs::write(&path, b"RIFF").unwrap();
    let error = Clips::read(&path).err().unwrap().to_string();
    assert!(error.contains("clip.wav") && error.contains("RIFF/WAVE"), "{error}");
}

#[test]
fn files_are_named_by_a_call_id_and_never_leave_their_folder() {
    assert_eq!(name_of("CA17f0a9@127.0.0.1").as_deref(), Some("CA17f0a9"));
    assert_eq!(name_of("1-2.3/../x@h").as_deref(), Some("1-2-3----x"));
    assert_eq!((name_of("@h"), name_of("")), (None, None));
    assert_eq!(name_of(&"a".repeat(1000)).unwrap().len(), MOST_NAME);
    let config = PhoneConfig { record: Some("/r".into()), ..PhoneConfig::default() };
    for bad in ["", "..", "a/b", "a.b"] {
        assert_eq!(config.recording(bad), None, "{bad:?}");
    }
    assert_eq!(config.report("CA1"), Some("/r/CA1.json".into()));
}
