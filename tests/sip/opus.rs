//! A phone that says what it bears of Opus (RFC 7587 §6.1), and in packets of which length: what is made for it keeps to that.

use std::net::{SocketAddr, UdpSocket};

use bytes::Bytes;
use clutchcall::audio::opus::{self, duration_us, repeats};
use clutchcall::audio::{Codec, Decoder, Encoder, Params};
use clutchcall::rtp::rtcp::{ReportBlock, write_report};
use clutchcall::rtp::{Header, Packet};
use serde_json::json;

use crate::engine::{attach, bench_with, beside, originate};
use crate::rig::{Far, LIMIT, case};

const OPUS: u8 = 111;
/// 20 ms of 12 kbit/s.
const BYTES: usize = 30;
const HEARD_MS: usize = 3000;
const CLOCK_PER_MS: u32 = 48;

/// What the phone says in its description.
struct Says {
    wishes: &'static str,
    /// With other attributes behind it, each in a line.
    ptime: &'static str,
}

/// One packet that the phone was sent.
struct Heard {
    header: Header,
    packet: Vec<u8>,
}

impl Heard {
    fn ms(&self) -> u32 {
        duration_us(&self.packet).expect("a packet of Opus") / 1000
    }
}

/// Noise of 48 kHz, so that an encoder has a use for all of it.
fn noise(count: usize) -> Vec<i16> {
    let mut seed = 7_u32;
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as i16 / 4
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn pcm48() -> Params {
    Params::new(Codec::Pcm16, Some(48_000), 1, 20).unwrap()
}

/// Frames of these parameters that a bridge says one after the other.
fn said(params: Params) -> Vec<Bytes> {
    let mut encoder = Encoder::new(params).unwrap();
    let size = encoder.frame_samples();
    noise(size * 50).chunks_exact(size).map(|chunk| encoder.encode(chunk).unwrap()).collect()
}

/// What the phone was sent, silence first, while a bridge of these parameters speaks.
async fn heard(nth: u16, says: Says, params: Params) -> Vec<Heard> {
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(LIMIT)).unwrap();
    let port = phone.local_addr().unwrap().port().to_string();
    let keys = [("far_port", &*port), ("wishes", says.wishes), ("ptime", says.ptime)];
    let far = Far::start("opus", &keys).await;
    let bench = bench_with(&far, nth, |_| {});
    let heard = beside(move || {
        let sid = originate(&bench);
        bench.wait(&sid, &["in_progress"]);
        let attached = attach(&bench, &sid, params, 1);
        let (mut said, mut heard) = (said(params).into_iter().cycle(), Vec::<Heard>::new());
        // Some of it is silence still: the bridge has to be heard first.
        let is_speech = |packet: &&Heard, first: &Heard| packet.packet != first.packet;
        let ms = |packets: &mut dyn Iterator<Item = &Heard>| packets.map(Heard::ms).sum::<u32>() as usize;
        while heard
            .first()
            .is_none_or(|first| ms(&mut heard.iter().filter(|packet| is_speech(packet, first))) < HEARD_MS)
        {
            while attached.bridge.queued_us() < 500_000 {
                attached.bridge.publish(said.next().unwrap(), None).unwrap();
            }
            let mut bytes = [0; 2048];
            let (length, _) = phone.recv_from(&mut bytes).expect("a packet within the limit");
            let packet = Packet::parse(&bytes[..length]).unwrap();
            assert_eq!(packet.header.payload_type, OPUS);
            heard.push(Heard { header: packet.header, packet: packet.payload.to_vec() });
        }
        bench.hangup(&sid).data();
        assert_eq!(bench.ended(&sid)["endReason"], json!("normal"));
        heard
    })
    .await;
    far.played().await;
    heard
}

/// RFC 6716 table 2: SILK or CELT of 4 kHz.
fn is_narrow(heard: &Heard) -> bool {
    matches!(heard.packet[0] >> 3, 0..=3 | 16..=19)
}

#[test]
fn what_is_made_for_a_phone_of_opus_keeps_to_its_limits() {
    case(async || {
        let free = heard(37, Says { wishes: "useinbandfec=1", ptime: "a=ptime:20" }, pcm48()).await;
        assert!(free.iter().any(|heard| !is_narrow(heard) && heard.packet.len() > BYTES), "there is more to be heard");
        let wishes = "maxplaybackrate=8000;maxaveragebitrate=12000;cbr=1";
        let narrow = heard(38, Says { wishes, ptime: "a=ptime:20" }, pcm48()).await;
        let lengths: Vec<_> = narrow.iter().map(|heard| heard.packet.len()).collect();
        assert!(
            narrow.iter().all(is_narrow) && lengths.iter().all(|length| *length == BYTES),
            "silence too: {lengths:?}"
        );
    });
}

/// Of that length, but where the encoder, or who speaks, is another one: then shorter. Time goes on, and all of it is heard.
fn assert_lengths(heard: &[Heard], wanted: u32, what: &str) {
    let lengths: Vec<u32> = heard.iter().map(Heard::ms).collect();
    let whole = lengths.iter().filter(|ms| **ms == wanted).count();
    assert!(lengths.iter().all(|ms| *ms <= wanted) && whole * 10 > lengths.len() * 9, "{what}: {lengths:?}");
    for pair in heard.windows(2) {
        let step = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp);
        // A tick that came late is a step and a marker.
        assert!(
            step == pair[0].ms() * CLOCK_PER_MS || pair[1].header.marker,
            "{what}: {step} behind {} ms",
            pair[0].ms()
        );
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1), "{what}");
    }
    let (mut decoder, mut samples) = (Decoder::new(Params::CALL).unwrap(), Vec::new());
    heard.iter().for_each(|heard| decoder.decode(Some(&heard.packet), &mut samples).unwrap());
    assert_eq!(samples.len(), lengths.iter().sum::<u32>() as usize * 48, "{what}");
    let speech = &samples[samples.len() - 48 * 2000..];
    let energy = speech.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / speech.len() as f64;
    assert!(energy.sqrt() > 1000.0, "{what}: noise of 4700 is heard as {}", energy.sqrt());
}

#[test]
fn opus_goes_to_a_phone_in_packets_of_the_length_it_asks_for() {
    case(async || {
        let mut nth = 250;
        let mut hear = async |ptime, wishes, params| {
            nth += 1;
            heard(nth, Says { wishes, ptime }, params).await
        };
        for (ptime, wanted) in
            [("a=ptime:10", 10), ("a=ptime:40", 40), ("a=ptime:120", 60), ("a=ptime:60\n    a=maxptime:40", 40)]
        {
            assert_lengths(&hear(ptime, "stereo=0", pcm48()).await, wanted, ptime);
        }
        // What passes is joined as well; it can't be parted.
        assert_lengths(&hear("a=ptime:60", "stereo=0", Params::CALL).await, 60, "passed on");
        assert_lengths(
            &hear("a=ptime:40", "maxplaybackrate=8000;maxaveragebitrate=12000;cbr=1", pcm48()).await,
            40,
            "cbr",
        );
    });
}

/// What a phone hears before it reports losses, while it does, and after.
struct Lossy {
    phone: UdpSocket,
    rtcp: UdpSocket,
    us: Option<SocketAddr>,
    heard: Vec<Heard>,
    told: u32,
}

impl Lossy {
    fn hear(&mut self) {
        let mut bytes = [0; 2048];
        let (length, from) = self.phone.recv_from(&mut bytes).expect("a packet within the limit");
        self.us = Some(from);
        let packet = Packet::parse(&bytes[..length]).unwrap();
        self.heard.push(Heard { header: packet.header, packet: packet.payload.to_vec() });
    }

    /// A receiver report (RFC 3550 §6.4.2), of a thousand packets more each time: it is believed at once.
    fn report(&mut self, fraction_lost: u8) {
        self.told += 1000;
        let ssrc = self.heard[0].header.ssrc;
        let block = ReportBlock { ssrc, fraction_lost, highest_sequence: self.told, ..ReportBlock::default() };
        let mut bytes = Vec::new();
        write_report(7, None, Some(&block), &mut bytes);
        let us = self.us.expect("it has heard us");
        self.rtcp.send_to(&bytes, (us.ip(), us.port() + 1)).unwrap();
    }

    /// Of the last fifty, how many repeat the one before.
    fn repeated(&self) -> usize {
        self.heard.iter().rev().take(50).filter(|heard| repeats(&heard.packet)).count()
    }
}

/// Tones that change with each frame, so that what is concealed is not what was said; louder and softer as syllables are.
fn voice() -> Vec<Bytes> {
    let hz = |frame: usize| [250.0, 700.0, 1300.0][frame % 3];
    let sample = |n: usize| {
        let t = n as f64 / 16_000.0;
        let loud = 0.55 + 0.45 * (t * 4.0 * std::f64::consts::TAU).sin();
        (12_000.0 * loud * (t * hz(n / 320) * std::f64::consts::TAU).sin()) as i16
    };
    (0..150).map(|frame| (frame * 320..(frame + 1) * 320).flat_map(|n| sample(n).to_le_bytes()).collect()).collect()
}

/// How far off every sixth packet is that `fill` makes up, in the power of what was said there.
fn error(packets: &[&[u8]], fill: impl Fn(&mut opus::Decoder, &[u8], &mut Vec<i16>)) -> f64 {
    let (mut one, mut other) = (opus::Decoder::new(16_000, 1).unwrap(), opus::Decoder::new(16_000, 1).unwrap());
    let (mut power, mut error) = (0.0, 0.0);
    for (n, packet) in packets.iter().enumerate() {
        let (mut whole, mut holed) = (Vec::new(), Vec::new());
        one.decode(packet, &mut whole).unwrap();
        match packets.get(n + 1).filter(|next| n % 6 == 5 && repeats(next)) {
            None => other.decode(packet, &mut holed).unwrap(),
            Some(next) => {
                fill(&mut other, next, &mut holed);
                power += whole.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
                error += whole.iter().zip(&holed).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            }
        }
    }
    error / power
}

async fn lossy(nth: u16, wishes: &str, judge: impl FnOnce(&mut Lossy, &mut dyn FnMut()) + Send + 'static) {
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let rtcp = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(LIMIT)).unwrap();
    let port = phone.local_addr().unwrap().port().to_string();
    let far = Far::start("opus", &[("far_port", &port), ("wishes", wishes), ("ptime", "a=ptime:20")]).await;
    let bench = bench_with(&far, nth, |_| {});
    beside(move || {
        let sid = originate(&bench);
        bench.wait(&sid, &["in_progress"]);
        let attached = attach(&bench, &sid, Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap(), 1);
        let (mut said, mut lossy) =
            (voice().into_iter().cycle(), Lossy { phone, rtcp, us: None, heard: Vec::new(), told: 0 });
        let mut speak = || {
            while attached.bridge.queued_us() < 500_000 {
                attached.bridge.publish(said.next().unwrap(), None).unwrap();
            }
        };
        judge(&mut lossy, &mut speak);
        bench.hangup(&sid).data();
        assert_eq!(bench.ended(&sid)["endReason"], json!("normal"));
    })
    .await;
    far.played().await;
}

/// Hears until it is as wanted; a second of packets at least.
fn hear_until(lossy: &mut Lossy, speak: &mut dyn FnMut(), wanted: impl Fn(&Lossy) -> bool) {
    let begun = lossy.heard.len();
    while lossy.heard.len() < begun + 50 || !wanted(lossy) {
        assert!(lossy.heard.len() < begun + 1000, "{} of the last fifty repeat the one before", lossy.repeated());
        speak();
        lossy.hear();
    }
}

/// RFC 7587 §6.1, useinbandfec; RFC 6716 §2.1.7.
#[test]
fn packets_repeat_those_before_for_a_phone_that_loses_some_and_reads_that() {
    case(async || {
        lossy(258, "useinbandfec=1", |lossy, speak| {
            hear_until(lossy, speak, |lossy| lossy.heard.len() > 150);
            assert!(lossy.heard.iter().all(|heard| !repeats(&heard.packet)), "nothing is lost");
            lossy.report(26);
            hear_until(lossy, speak, |lossy| lossy.repeated() > 40);
            let begun = lossy.heard.len();
            hear_until(lossy, speak, |lossy| lossy.heard.len() > begun + 150);
            let packets: Vec<&[u8]> = lossy.heard[begun..].iter().map(|heard| &heard.packet[..]).collect();
            let recovered = error(&packets, |decoder, next, out| decoder.recover(next, 20, out).unwrap());
            let concealed = error(&packets, |decoder, _, out| decoder.conceal(20, out).unwrap());
            assert!(recovered < concealed / 2.0, "{recovered} against {concealed}");
            (0..3).for_each(|_| lossy.report(0));
            hear_until(lossy, speak, |lossy| lossy.repeated() == 0);
        })
        .await;
        lossy(259, "useinbandfec=0", |lossy, speak| {
            hear_until(lossy, speak, |_| true);
            lossy.report(26);
            hear_until(lossy, speak, |lossy| lossy.heard.len() > 200);
            assert!(lossy.heard.iter().all(|heard| !repeats(&heard.packet)), "it would not read that");
        })
        .await;
    });
}
