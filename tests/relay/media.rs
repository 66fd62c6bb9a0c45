//! The engine's audio threads: a scripted leg on one side, bridges' tracks over real links on the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clutchcall::audio::{Codec, Frame, Params};
use clutchcall::engine::agents::Agent;
use clutchcall::engine::leg::Leg;
use clutchcall::engine::media::{AudioThreads, Caller, Command, Event, Mint, Stats, Supply};
use clutchcall::moqt::FullTrackName;
use clutchcall::tracks::{self, Delivery, PublishTrack, RouteKind, Side, TrackId, Written, names};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::rig::{Client, Kind, LIMIT, Relay};

pub(super) const SID: &str = "CA00000000000000000000000000000001";

/// What a leg says and has heard, for the test's eyes.
#[derive(Default)]
struct Script {
    says: VecDeque<Frame>,
    heard: Vec<Frame>,
    pulls: Vec<Instant>,
    silent: usize,
    gone: bool,
}

/// A leg that says what it is told, frame by frame, and keeps what it hears.
struct Scripted {
    params: Params,
    script: Arc<Mutex<Script>>,
}

impl Leg for Scripted {
    fn params(&self) -> Params {
        self.params
    }
    fn pull(&mut self, now: Instant) -> Option<Frame> {
        let mut script = self.script.lock().unwrap();
        script.pulls.push(now);
        script.says.pop_front()
    }
    fn push(&mut self, frame: Option<&Frame>, _now: Instant) {
        let mut script = self.script.lock().unwrap();
        match frame {
            Some(frame) => script.heard.push(frame.clone()),
            None => script.silent += 1,
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.script.lock().unwrap().gone = true;
    }
}

/// Says back what it hears.
struct Echo(VecDeque<Frame>);

impl Agent for Echo {
    fn params(&self, call: Params) -> Params {
        call
    }
    fn hear(&mut self, frame: &Frame, _now: Instant) {
        self.0.push_back(frame.clone());
    }
    fn say(&mut self, _now: Instant) -> Option<Frame> {
        self.0.pop_front()
    }
}

/// A relay, an audio thread on a link of `kind`, and a client that plays the bridges.
pub(super) struct Stage {
    client: Arc<Client>,
    threads: Mutex<Option<AudioThreads>>,
    events: Mutex<UnboundedReceiver<Event>>,
    relay: Relay,
}

impl Stage {
    pub(super) fn new(kind: Kind) -> Self {
        let relay = Relay::start();
        let (tell, events) = unbounded_channel();
        let every_call = relay.claims(&["voice/**"], &["voice/**"]);
        let key = relay.key.clone();
        let mint = Mint { token: Arc::new(move || every_call.encode(&key)), life: Duration::from_secs(3600) };
        let dial = relay.dial(kind, Default::default());
        let supply = match kind {
            Kind::Port => Supply::Port(relay.server.ports()),
            _ => {
                let (_, address) = tokio::sync::watch::channel(Ok(dial.address));
                Supply::Dial { url: dial.url, trust: dial.trust, drafts: dial.drafts, address }
            }
        };
        let threads = AudioThreads::start(2, supply, mint, tell).expect("audio threads start");
        let client = Arc::new(Client::start());
        let token = relay.token(&["voice/**"], &["voice/**"]);
        client.supply(&relay, Kind::RawQuic, &token);
        Self { client, threads: Mutex::new(Some(threads)), events: Mutex::new(events), relay }
    }

    pub(super) fn send(&self, command: Command) {
        self.threads.lock().unwrap().as_ref().expect("the threads run").send(command);
    }

    pub(super) fn open(&self, caller: Caller) {
        self.send(Command::Open { sid: SID.into(), caller });
        self.event("the call is open", |event| matches!(event, Event::Opened { .. }).then_some(()));
    }

    /// The call is answered by a leg that will say `says`.
    fn answer(&self, params: Params, says: Vec<Frame>) -> Arc<Mutex<Script>> {
        let script = Arc::new(Mutex::new(Script { says: says.into(), ..Script::default() }));
        let leg = Scripted { params, script: script.clone() };
        self.send(Command::Start { sid: SID.into(), leg: Some(Box::new(leg)) });
        script
    }

    pub(super) fn rendition(&self, side: Side, params: Params) {
        self.send(Command::Rendition { sid: SID.into(), side, params });
    }

    fn agent(&self, agent: Option<Box<dyn Agent>>) {
        self.send(Command::Agent { sid: SID.into(), agent });
    }

    pub(super) fn close(&self) -> Stats {
        self.send(Command::Close { sid: SID.into() });
        *self.event("the call's figures", |event| match event {
            Event::Closed { stats, .. } => Some(stats.clone()),
            _ => None,
        })
    }

    /// Takes events until `pick` wants one; the others are of no interest.
    pub(super) fn event<R>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<R>) -> R {
        let until = Instant::now() + LIMIT;
        let mut events = self.events.lock().unwrap();
        let mut passed = Vec::new();
        loop {
            match events.try_recv() {
                Ok(event) => match pick(&event) {
                    Some(found) => return found,
                    None => passed.push(event),
                },
                Err(_) => std::thread::yield_now(),
            }
            assert!(Instant::now() < until, "waited in vain for {what}; heard {passed:?}");
        }
    }

    pub(super) fn speaking(&self, rendition: &str, expected: bool) {
        self.event("who speaks", |event| match event {
            Event::Speaking { rendition: r, live, .. } if r == rendition && *live == expected => Some(()),
            _ => None,
        });
    }

    /// A bridge hears this rendition.
    pub(super) fn hear(&self, side: Side, params: Params) -> Heard {
        self.hear_track(names::track(SID, side, &params.rendition()).unwrap())
    }

    pub(super) fn hear_track(&self, track: FullTrackName) -> Heard {
        let id = self.client.run(move |hands| {
            let now = hands.now;
            let (pool, links) = hands.pool();
            let route = pool.route(RouteKind { cap: 1 });
            let lease = pool.lease(route, vec![], now);
            pool.subscribe(links, lease, track, now)
        });
        Heard { client: self.client.clone(), id }
    }

    /// A bridge publishes this rendition; it is heard when somebody asked for it.
    pub(super) fn speak(&self, side: Side, params: Params) -> Spoken {
        let track = names::track(SID, side, &params.rendition()).unwrap();
        let id = self.client.run(move |hands| {
            let now = hands.now;
            let (pool, links) = hands.pool();
            let route = pool.route(RouteKind { cap: 1 });
            let lease = pool.lease(route, vec![], now);
            let properties = Default::default();
            let track = PublishTrack {
                track,
                delivery: Delivery::Stream,
                frame_us: params.frame_us(),
                waits: false,
                properties,
            };
            pool.publish(links, lease, track, now)
        });
        let spoken = Spoken { client: self.client.clone(), id, frame_us: u64::from(params.frame_us()) };
        self.client.on_pool("a listener", |event| match event {
            tracks::Event::Subscribers { track, count } if *track == id && *count > 0 => Some(()),
            _ => None,
        });
        spoken
    }
}

pub(super) struct Heard {
    client: Arc<Client>,
    id: TrackId,
}

impl Heard {
    pub(super) fn live(&self) {
        let id = self.id;
        self.client.on_pool("a publisher", |event| (*event == tracks::Event::Live { track: id }).then_some(()));
    }

    /// The next `count` frames with their stamps.
    fn frames(&self, count: usize) -> Vec<(u64, Frame)> {
        (0..count).map(|_| self.frame()).collect()
    }

    pub(super) fn frame(&self) -> (u64, Frame) {
        self.client.on_pool("a frame", |event| match event {
            tracks::Event::Frame { track, timestamp_us, payload, .. } if *track == self.id => {
                Some((timestamp_us.expect("every frame is stamped"), payload.clone()))
            }
            _ => None,
        })
    }

    pub(super) fn ended(&self) {
        let id = self.id;
        self.client.on_pool("END_OF_TRACK", |event| (*event == tracks::Event::Ended { track: id }).then_some(()));
    }
}

pub(super) struct Spoken {
    client: Arc<Client>,
    id: TrackId,
    frame_us: u64,
}

impl Spoken {
    pub(super) fn say(&self, frames: Vec<Frame>) {
        let (id, frame_us) = (self.id, self.frame_us);
        self.client.run(move |hands| {
            let now = hands.now;
            for (n, frame) in frames.into_iter().enumerate() {
                let (pool, links) = hands.pool();
                assert_eq!(pool.write(links, id, n as u64 * frame_us, frame, now), Written::Sent);
            }
        });
    }

    /// The bridge goes away.
    fn stop(&self) {
        let id = self.id;
        self.client.run(move |hands| {
            let (pool, links) = hands.pool();
            pool.close(links, id);
        });
    }
}

/// Frames that can be told apart.
fn numbered(count: usize) -> Vec<Frame> {
    (0..count).map(|n| Frame::from(format!("frame {n:05}").into_bytes())).collect()
}

fn pcm(rate: u32, frame_ms: u32) -> Params {
    Params::new(Codec::Pcm16, Some(rate), 1, frame_ms).unwrap()
}

fn level(params: Params, level: i16) -> Frame {
    (0..params.samples()).flat_map(|_| level.to_le_bytes()).collect::<Vec<u8>>().into()
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !reached() {
        assert!(Instant::now() < limit, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Stamps grow by one frame; by several whole ones only where an audio thread was not run for longer than it catches up, which
/// a busy machine does to it now and then.
pub(super) fn assert_in_step(frames: &[(u64, Frame)], step_us: u64) {
    let steps: Vec<u64> = frames.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(steps.iter().all(|step| *step > 0 && step.is_multiple_of(step_us)), "whole frames: {steps:?}");
    let stalls = steps.iter().filter(|step| **step != step_us).count();
    assert!(stalls <= steps.len() / 10 + 1, "{step_us} µs apart: {steps:?}");
}

#[test]
fn every_frame_of_the_leg_is_heard_20_ms_apart_whatever_carries_the_call() {
    for kind in [Kind::Port, Kind::RawQuic, Kind::WebTransport] {
        let stage = Stage::new(kind);
        stage.open(Caller::Leg);
        let bridge = stage.hear(Side::Uplink, Params::CALL);
        bridge.live();
        let said = numbered(150);
        let script = stage.answer(Params::CALL, said.clone());
        let heard = bridge.frames(150);
        for ((stamp, frame), said) in heard.iter().zip(&said) {
            assert_eq!(frame, said, "{kind:?}, stamp {stamp}");
        }
        assert_in_step(&heard, 20_000);
        let stats = stage.close();
        bridge.ended();
        assert_eq!(stats.frames_up, 150);
        until("the leg is dropped", || script.lock().unwrap().gone);
    }
}

#[test]
fn stamps_stay_in_step_across_idle() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let bridge = stage.hear(Side::Uplink, Params::CALL);
    bridge.live();
    let script = stage.answer(Params::CALL, numbered(3));
    let mut heard = bridge.frames(3);
    let pulled = script.lock().unwrap().pulls.len();
    until("some idle ticks", || script.lock().unwrap().pulls.len() >= pulled + 5);
    script.lock().unwrap().says.extend(numbered(3));
    heard.extend(bridge.frames(3));
    let gap = heard[3].0 - heard[2].0;
    assert!(gap >= 100_000 && gap.is_multiple_of(20_000), "{gap}");
    assert!(stage.close().gaps_up >= 5);
}

#[test]
fn a_burst_is_heard_in_order_and_what_exceeds_ten_frames_makes_room() {
    for kind in [Kind::Port, Kind::RawQuic] {
        let stage = Stage::new(kind);
        stage.open(Caller::Leg);
        let bridge = stage.speak(Side::Downlink, Params::CALL);
        stage.speaking("audio", true);
        let script = stage.answer(Params::CALL, vec![]);
        until("the leg ticks", || !script.lock().unwrap().pulls.is_empty());
        bridge.say(numbered(10));
        until("the burst is heard", || script.lock().unwrap().heard.len() == 10);
        assert_eq!(script.lock().unwrap().heard, numbered(10));
        bridge.say(numbered(30));
        until("the last is heard", || script.lock().unwrap().heard.last() == numbered(30).last());
        let heard = script.lock().unwrap().heard.split_off(10);
        assert!(heard.is_sorted(), "in order");
        let stats = stage.close();
        assert_eq!(stats.dropped_down, 30 - heard.len() as u64, "what was dropped is counted");
        assert_eq!(stats.frames_down, 10 + heard.len() as u64);
    }
}

#[test]
fn what_is_said_before_the_answer_is_dropped_and_counted() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let bridge = stage.speak(Side::Downlink, Params::CALL);
    bridge.say(numbered(7));
    // The relay hands objects on in order, so the eighth's fate tells that the seven were there.
    stage.relay.wait("seven are handed on", |counters| counters.objects_out == 7);
    let script = stage.answer(Params::CALL, vec![]);
    until("the leg ticks", || !script.lock().unwrap().pulls.is_empty());
    let eighth = numbered(8).split_off(7);
    bridge.say(eighth.clone());
    until("the eighth is heard", || script.lock().unwrap().heard.ends_with(&eighth));
    let heard = script.lock().unwrap().heard.len() as u64;
    let stats = stage.close();
    assert_eq!(stats.dropped_before_answer + heard, 8);
    assert!(stats.dropped_before_answer <= 7);
}

#[test]
fn both_directions_at_once_and_a_bridge_that_leaves_is_noticed() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let (hears, speaks) = (stage.hear(Side::Uplink, Params::CALL), stage.speak(Side::Downlink, Params::CALL));
    hears.live();
    stage.speaking("audio", true);
    let script = stage.answer(Params::CALL, numbered(50));
    for chunk in numbered(50).chunks(5) {
        speaks.say(chunk.to_vec());
        until("a chunk is heard to its end", || script.lock().unwrap().heard.last() == chunk.last());
    }
    assert_in_step(&hears.frames(50), 20_000);
    // In their order and none twice; where this machine stood still, what was too old by then is left out.
    let (heard, said) = (script.lock().unwrap().heard.clone(), numbered(50));
    assert!(heard.is_sorted_by(|one, other| one.as_ref() < other.as_ref()), "{heard:?}");
    assert!(heard.len() >= 40 && heard.iter().all(|frame| said.contains(frame)), "{heard:?}");
    speaks.stop();
    stage.speaking("audio", false);
    stage.close();
    hears.ended();
}

#[test]
fn renditions_are_made_while_somebody_listens_and_mixed_when_two_speak() {
    let stage = Stage::new(Kind::Port);
    let (wide, slow) = (pcm(16_000, 20), pcm(8_000, 60));
    stage.open(Caller::Leg);
    for params in [wide, slow] {
        stage.rendition(Side::Uplink, params);
        stage.rendition(Side::Downlink, params);
    }
    let hears = [stage.hear(Side::Uplink, wide), stage.hear(Side::Uplink, slow)];
    hears.iter().for_each(Heard::live);
    let leg = pcm(8_000, 20);
    let script = stage.answer(leg, vec![level(leg, 1000); 60]);
    let heard = hears[0].frames(60);
    assert!(heard.iter().all(|(_, frame)| frame.len() == 640));
    assert_in_step(&heard, 20_000);
    let heard = hears[1].frames(20);
    assert!(heard.iter().all(|(_, frame)| frame.len() == 960));
    assert_in_step(&heard, 60_000);

    let speaks = [stage.speak(Side::Downlink, wide), stage.speak(Side::Downlink, slow)];
    let loud = |script: &Script| {
        let sample = |frame: &Frame| i16::from_le_bytes([frame[160], frame[161]]);
        script.heard.iter().map(sample).max().unwrap_or(0)
    };
    speaks[0].say(vec![level(wide, 3000); 6]);
    until("one is heard", || script.lock().unwrap().heard.len() >= 6);
    assert!((2800..3200).contains(&loud(&script.lock().unwrap())), "{}", loud(&script.lock().unwrap()));
    speaks[1].say(vec![level(slow, 2000); 10]);
    speaks[0].say(vec![level(wide, 3000); 6]);
    until("both are heard at once", || (4600..5400).contains(&loud(&script.lock().unwrap())));
    stage.close();
    hears.iter().for_each(Heard::ended);
}

#[test]
fn an_agent_is_the_one_speaker() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let bridge = stage.speak(Side::Downlink, Params::CALL);
    stage.agent(Some(Box::new(Echo(VecDeque::new()))));
    let script = stage.answer(Params::CALL, numbered(40));
    until("the agent hears", || script.lock().unwrap().heard.len() >= 5);
    bridge.say(vec![Frame::from_static(b"a bridge's word")]);
    until("the echo", || script.lock().unwrap().heard.len() >= 40);
    assert_eq!(script.lock().unwrap().heard, numbered(40));
    stage.agent(None);
    let stats = stage.close();
    assert_eq!((stats.frames_up, stats.frames_down), (40, 40));
}

#[test]
fn without_a_leg_bridges_speak_to_each_other_renditions_are_made_and_all_hear_the_end() {
    for kind in [Kind::Port, Kind::RawQuic] {
        let stage = Stage::new(kind);
        stage.open(Caller::Bridge);
        stage.send(Command::Start { sid: SID.into(), leg: None });
        let narrow = pcm(8_000, 20);
        for side in [Side::Uplink, Side::Downlink] {
            stage.rendition(side, narrow);
        }
        // The caller speaks Opus and hears Opus; the cloud's bridge speaks and hears pcm16.
        let caller = stage.speak(Side::Uplink, Params::CALL);
        stage.speaking("audio", true);
        let cloud_hears = stage.hear(Side::Uplink, narrow);
        cloud_hears.live();
        let mut encoder = clutchcall::audio::Encoder::new(Params::CALL).unwrap();
        let said: Vec<Frame> = (0..20).map(|_| encoder.encode(&[500_i16; 960]).unwrap()).collect();
        caller.say(said.clone());
        let heard = cloud_hears.frames(20);
        assert!(heard.iter().all(|(_, frame)| frame.len() == 320));
        assert_in_step(&heard, 20_000);
        assert_eq!(heard[0].0, 0, "the speaker's own stamps");

        let cloud = stage.speak(Side::Downlink, narrow);
        stage.speaking("audio.pcm16.8000", true);
        let caller_hears = stage.hear(Side::Downlink, Params::CALL);
        caller_hears.live();
        cloud.say(vec![level(narrow, 700); 20]);
        assert_in_step(&caller_hears.frames(20), 20_000);

        let direct = stage.hear(Side::Uplink, Params::CALL);
        direct.live();
        let more: Vec<Frame> = said[..3].to_vec();
        caller.say(more.clone());
        let heard: Vec<Frame> = direct.frames(3).into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(heard, more, "who speaks the same codec hears it untouched");
        assert_eq!(cloud_hears.frames(3).len(), 3, "and the engine has heard it too");
        let stats = stage.close();
        assert_eq!((stats.frames_up, stats.frames_down), (23, 20));
        [cloud_hears, caller_hears, direct].iter().for_each(Heard::ended);
    }
}

#[test]
fn calls_end_with_the_threads() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let bridge = stage.hear(Side::Uplink, Params::CALL);
    bridge.live();
    let threads = stage.threads.lock().unwrap().take();
    threads.expect("they run").shutdown();
    bridge.ended();
}

#[test]
fn the_relay_is_lost_and_comes_back_and_the_call_goes_on() {
    let mut stage = Stage::new(Kind::RawQuic);
    stage.open(Caller::Leg);
    let (hears, speaks) = (stage.hear(Side::Uplink, Params::CALL), stage.speak(Side::Downlink, Params::CALL));
    hears.live();
    stage.speaking("audio", true);
    let script = stage.answer(Params::CALL, numbered(5));
    assert_eq!(hears.frames(5).len(), 5);
    // Whatever the leg says while there is no relay is gone: it says nothing more until the relay is back.
    stage.relay.restart();
    stage.speaking("audio", false);
    stage.speaking("audio", true);
    hears.live();
    let again: Vec<Frame> = numbered(30).split_off(10);
    script.lock().unwrap().says.extend(again.clone());
    let heard = hears.frames(20);
    assert_eq!(heard.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>(), again, "nothing twice, nothing lost");
    assert_in_step(&heard, 20_000);
    speaks.say(numbered(3));
    until("the bridge is heard again", || script.lock().unwrap().heard == numbered(3));
    stage.close();
    hears.ended();
}

#[test]
fn many_calls_share_the_threads_and_a_link_and_none_misses_a_frame() {
    const CALLS: usize = 60;
    let stage = Stage::new(Kind::Port);
    let sids: Vec<Arc<str>> = (0..CALLS).map(|n| format!("CA{n:032}").into()).collect();
    let tracks: Vec<_> =
        sids.iter().map(|sid| names::track(sid, Side::Uplink, "audio").expect("a call's name")).collect();
    for sid in &sids {
        stage.send(Command::Open { sid: sid.clone(), caller: Caller::Leg });
    }
    let ids = stage.client.run(move |hands| {
        let now = hands.now;
        let (pool, links) = hands.pool();
        let route = pool.route(RouteKind { cap: 32 });
        let subscribe = |track| {
            let lease = pool.lease(route, vec![], now);
            pool.subscribe(links, lease, track, now)
        };
        tracks.into_iter().map(subscribe).collect::<Vec<TrackId>>()
    });
    let heard: Vec<Heard> = ids.into_iter().map(|id| Heard { client: stage.client.clone(), id }).collect();
    heard.iter().for_each(Heard::live);
    for sid in &sids {
        let script = Arc::new(Mutex::new(Script { says: numbered(25).into(), ..Script::default() }));
        let leg = Scripted { params: Params::CALL, script };
        stage.send(Command::Start { sid: sid.clone(), leg: Some(Box::new(leg)) });
    }
    for bridge in &heard {
        let frames = bridge.frames(25);
        assert_eq!(frames.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>(), numbered(25));
        assert_in_step(&frames, 20_000);
    }
    for sid in &sids {
        stage.send(Command::Close { sid: sid.clone() });
    }
    heard.iter().for_each(Heard::ended);
}
