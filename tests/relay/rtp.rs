//! A phone over RTP: its packets on one side of an audio thread, a bridge's tracks on the other.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use clutchcall::audio::{Codec as AudioCodec, Decoder, Encoder, Frame, Params, g711};
use clutchcall::engine::media::{Caller, Command, Event};
use clutchcall::engine::rtp::{Codec, Direction, Events, Negotiated, Ports, RtpLeg, RtpLine, Settings};
use clutchcall::rtp::dtmf::{Event as KeyEvent, strokes};
use clutchcall::rtp::{Header, Packet};
use clutchcall::tracks::Side;

use super::media::{SID, Stage, assert_in_step};
use super::rig::{Kind, LIMIT};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A far end and the trunk's word to its leg.
pub(super) struct Phone {
    socket: UdpSocket,
    line: RtpLine,
    sequence: u16,
}

fn negotiated(socket: &UdpSocket, codec: Codec) -> Negotiated {
    let number = if codec == Codec::Pcmu { 0 } else { 111 };
    Negotiated {
        remote: Some(socket.local_addr().unwrap()),
        remote_rtcp: None,
        codec,
        send_type: number,
        receive_types: vec![(number, codec)],
        ptime_ms: 20,
        direction: Direction::SendRecv,
        events: Some(Events {
            send_type: 101,
            receive_type: 101,
            clock_rate: codec.clock_rate(),
            keys: Events::ALL_KEYS,
        }),
        opus: None,
    }
}

impl Phone {
    /// One that has been called, and the leg that leads to it.
    pub(super) fn called(codec: Codec, settings: Settings) -> (Self, RtpLeg) {
        let socket = UdpSocket::bind((HERE, 0)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let pair = Ports::new(HERE, 21_000..=28_999).unwrap().open().unwrap();
        let address = pair.address();
        let (leg, line) = RtpLeg::new(&negotiated(&socket, codec), pair, settings);
        socket.connect(address).unwrap();
        (Self { socket, line, sequence: 65_500 }, leg)
    }

    /// Answers the call of `stage`.
    pub(super) fn answer(stage: &Stage, codec: Codec, settings: Settings) -> Self {
        let (phone, leg) = Self::called(codec, settings);
        stage.send(Command::Start { sid: SID.into(), leg: Some(Box::new(leg)) });
        phone
    }

    pub(super) fn say(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        let header = Header { marker: false, payload_type, sequence: self.sequence, timestamp, ssrc: 9 };
        header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&bytes).unwrap();
    }

    pub(super) fn hear(&self) -> (Header, Vec<u8>) {
        let mut bytes = [0; 2048];
        let length = self.socket.recv(&mut bytes).expect("a packet within the limit");
        let packet = Packet::parse(&bytes[..length]).unwrap();
        (packet.header, packet.payload.to_vec())
    }
}

fn ulaw() -> Params {
    Params::new(AudioCodec::G711Ulaw, None, 1, 20).unwrap()
}

fn tone(n: usize) -> i16 {
    (9000.0 * (n as f64 * 500.0 * std::f64::consts::TAU / 8000.0).sin()) as i16
}

fn rms(samples: &[i16]) -> f64 {
    (samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

/// What the phone says goes up one packet at a time: each is heard before the next is sent.
#[test]
fn packets_of_the_phone_are_heard_byte_for_byte_as_they_come() {
    for kind in [Kind::Port, Kind::RawQuic] {
        let stage = Stage::new(kind);
        stage.open(Caller::Leg);
        stage.rendition(Side::Uplink, ulaw());
        let bridge = stage.hear(Side::Uplink, ulaw());
        bridge.live();
        let mut phone = Phone::answer(&stage, Codec::Pcmu, Settings::default());
        let mut heard = Vec::new();
        for n in 0..100u32 {
            let payload = vec![n as u8; 160];
            phone.say(0, (n * 160).wrapping_sub(800), &payload);
            let (stamp, frame) = bridge.frame();
            assert_eq!(frame, payload, "{kind:?} {n}");
            heard.push((stamp, frame));
        }
        // They come faster than they are spoken, so that the phone's clock may be believed only for so long.
        let backwards = heard.windows(2).filter(|pair| pair[1].0 <= pair[0].0).count();
        assert!(backwards <= 100 / 10, "{backwards} stamps went back");
        let line = stage.close().line.expect("of a leg with sockets");
        bridge.ended();
        assert_eq!((line.packets_received, line.packets_lost, line.codec), (100, 0, "PCMU"));
    }
}

#[test]
fn an_opus_bridge_hears_and_is_heard_by_a_g711_phone() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let (bridge, speaks) = (stage.hear(Side::Uplink, Params::CALL), stage.speak(Side::Downlink, Params::CALL));
    bridge.live();
    stage.speaking("audio", true);
    let mut phone = Phone::answer(&stage, Codec::Pcmu, Settings::default());
    phone.hear();
    let (mut decoder, mut samples) = (Decoder::new(Params::CALL).unwrap(), Vec::new());
    let mut stamps = Vec::new();
    for n in 0..100 {
        let payload: Vec<u8> = (n * 160..(n + 1) * 160).map(|at| g711::ulaw_encode(tone(at))).collect();
        phone.say(0, n as u32 * 160, &payload);
        phone.hear();
        let (stamp, frame) = bridge.frame();
        stamps.push((stamp, frame.clone()));
        decoder.decode(Some(&frame), &mut samples).unwrap();
    }
    assert_in_step(&stamps, 20_000);
    assert_eq!(samples.len(), 100 * 960);
    let level = rms(&samples[48_000..]);
    assert!((4500.0..8000.0).contains(&level), "a sine of 9000: {level}");

    let mut encoder = Encoder::new(Params { sample_rate: 8000, ..Params::CALL }).unwrap();
    let said: Vec<Frame> =
        (0..10).map(|n| encoder.encode(&(n * 160..(n + 1) * 160).map(tone).collect::<Vec<_>>()).unwrap()).collect();
    speaks.say(said);
    let mut heard = Vec::new();
    while rms(&heard) < 3000.0 {
        let (header, payload) = phone.hear();
        assert_eq!((header.payload_type, payload.len()), (0, 160));
        heard = payload.iter().map(|byte| g711::ulaw_decode(*byte)).collect();
    }
    stage.close();
}

#[test]
fn keys_and_silence_are_told_and_a_moved_codec_goes_on() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let bridge = stage.hear(Side::Uplink, Params::CALL);
    bridge.live();
    let patience = Some(Duration::from_millis(300));
    let settings = Settings { never_heard: patience, not_heard: patience, ..Settings::default() };
    let mut phone = Phone::answer(&stage, Codec::Pcmu, settings);
    stage.event("silence", |event| matches!(event, Event::Silent { .. }).then_some(()));
    let press = KeyEvent { code: 5, end: true, volume: 10, duration: 800 };
    phone.say(101, 160, &press.bytes());
    stage.event("a key", |event| matches!(event, Event::Key { key: '5', ended_ms: Some(100), .. }).then_some(()));
    phone.line.press(&strokes("7").unwrap(), 100).unwrap();
    while phone.hear().0.payload_type != 101 {}

    phone.line.update(&negotiated(&phone.socket, Codec::Opus));
    while phone.hear().0.payload_type != 111 {}
    let mut encoder = Encoder::new(Params::CALL).unwrap();
    let frame = encoder.encode(&[0; 960]).unwrap();
    phone.say(111, 4000, &frame);
    assert_eq!(bridge.frame().1, frame, "the call's own rendition is the phone's packet");
    stage.close();
    assert!(phone.line.press(&strokes("1").unwrap(), 100).is_err(), "the leg is gone");
}
