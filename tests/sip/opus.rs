//! A phone that says what it bears of Opus (RFC 7587 §6.1): what is made for it keeps to that.

use std::net::UdpSocket;

use bytes::Bytes;
use clutchcall::audio::{Codec, Params};
use clutchcall::rtp::Packet;
use serde_json::json;

use crate::engine::{attach, bench_with, beside, originate};
use crate::rig::{Far, LIMIT, case};

const OPUS: u8 = 111;
/// 20 ms of 12 kbit/s.
const BYTES: usize = 30;
const HEARD: usize = 150;

/// Noise of 48 kHz, so that an encoder has a use for all of it.
fn noise(count: usize) -> Bytes {
    let mut seed = 7_u32;
    let samples = (0..count).flat_map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((seed >> 16) as i16 / 4).to_le_bytes()
    });
    samples.collect::<Vec<_>>().into()
}

/// RFC 6716 table 2: SILK or CELT of 4 kHz.
fn is_narrow(packet: &[u8]) -> bool {
    matches!(packet[0] >> 3, 0..=3 | 16..=19)
}

/// What the phone was sent, silence first, while a bridge of pcm16 at 48 kHz speaks.
async fn heard(nth: u16, wishes: &str) -> Vec<Vec<u8>> {
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(LIMIT)).unwrap();
    let port = phone.local_addr().unwrap().port().to_string();
    let far = Far::start("opus", &[("far_port", &port), ("wishes", wishes)]).await;
    let bench = bench_with(&far, nth, |_| {});
    let heard = beside(move || {
        let sid = originate(&bench);
        bench.wait(&sid, &["in_progress"]);
        let params = Params::new(Codec::Pcm16, Some(48_000), 1, 20).unwrap();
        let attached = attach(&bench, &sid, params, 1);
        let (said, mut heard) = (noise(params.samples()), Vec::new());
        // Some of it is silence still: the bridge has to be heard first.
        let is_speech = |packet: &&Vec<u8>, first: &Vec<u8>| *packet != first;
        while heard.first().is_none_or(|first| heard.iter().filter(|packet| is_speech(packet, first)).count() < HEARD) {
            while attached.bridge.queued_us() < 500_000 {
                attached.bridge.publish(said.clone(), None).unwrap();
            }
            let mut bytes = [0; 2048];
            let (length, _) = phone.recv_from(&mut bytes).expect("a packet within the limit");
            let packet = Packet::parse(&bytes[..length]).unwrap();
            assert_eq!(packet.header.payload_type, OPUS);
            heard.push(packet.payload.to_vec());
        }
        bench.hangup(&sid).data();
        assert_eq!(bench.ended(&sid)["endReason"], json!("normal"));
        heard
    })
    .await;
    far.played().await;
    heard
}

#[test]
fn what_is_made_for_a_phone_of_opus_keeps_to_its_limits() {
    case(async || {
        let free = heard(37, "useinbandfec=1").await;
        assert!(free.iter().any(|packet| !is_narrow(packet) && packet.len() > BYTES), "there is more to be heard");
        let narrow = heard(38, "maxplaybackrate=8000;maxaveragebitrate=12000;cbr=1").await;
        let lengths: Vec<_> = narrow.iter().map(Vec::len).collect();
        assert!(narrow.iter().all(|packet| is_narrow(packet) && packet.len() == BYTES), "silence too: {lengths:?}");
    });
}
