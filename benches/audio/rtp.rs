//! What a packet of a phone costs: two sockets on loopback without anything behind them, a leg on one of them, and a leg with a
//! transcoder behind it, in one run. The cost of the peer's sending is in all of them: compare the rows.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use clutchcall::audio::{Codec as AudioCodec, Encoder, Frame, Params, Transcoder};
use clutchcall::engine::leg::{Heard, Leg};
use clutchcall::engine::rtp::{Codec, Direction, Negotiated, Ports, RtpLeg, Settings};
use clutchcall::rtp::{Header, Packet, Receiver, Stream};
use std::hint::black_box;

use super::{FRAMES, measure};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TICK: Duration = Duration::from_millis(20);

fn leg(peer: &UdpSocket, codec: Codec, ptime_ms: u8) -> RtpLeg {
    let negotiated = Negotiated {
        remote: peer.local_addr().ok(),
        remote_rtcp: None,
        codec,
        send_type: 0,
        receive_types: vec![(0, codec)],
        ptime_ms,
        direction: Direction::SendRecv,
        events: None,
        opus: None,
    };
    let ports = Ports::new(HERE, 23_000..=27_999).expect("a range of pairs");
    let pair = ports.open().expect("a free pair");
    peer.connect(pair.address()).expect("an address of ours");
    RtpLeg::new(&negotiated, pair, Settings::default()).0
}

fn packets(payloads: &[Frame]) -> Vec<Vec<u8>> {
    let packet = |(n, payload): (usize, &Frame)| {
        let mut bytes = Vec::new();
        let (sequence, timestamp) = (n as u16, n as u32 * 160);
        Header { marker: n == 0, payload_type: 0, sequence, timestamp, ssrc: 9 }.write(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    };
    payloads.iter().enumerate().map(packet).collect()
}

pub(super) fn packets_of_a_phone(speech: &[i16]) {
    let ulaw = Params::new(AudioCodec::G711Ulaw, None, 1, 20).expect("parameters of ours");
    let mut encoder = Encoder::new(ulaw).expect("parameters of ours");
    let frames: Vec<Frame> =
        speech.chunks_exact(160).take(FRAMES).map(|chunk| encoder.encode(chunk).expect("a whole frame")).collect();
    let packets = packets(&frames);
    let peer = UdpSocket::bind((HERE, 0)).expect("a port on loopback");

    let now = Instant::now();
    measure("read an RTP packet: header, order, jitter", || {
        let mut receiver = Receiver::new(Stream { types: vec![(0, 8000)], events: None, noise: None }, now);
        for (n, packet) in packets.iter().enumerate() {
            let packet = Packet::parse(packet).expect("our own packet");
            black_box(receiver.handle(&packet, now + TICK * n as u32, |_| ()));
        }
    });
    let bare = UdpSocket::bind((HERE, 0)).expect("a port on loopback");
    peer.connect(bare.local_addr().expect("bound")).expect("an address of ours");
    measure("a packet from socket to socket, nothing behind it", || {
        let mut bytes = [0; 2048];
        for packet in &packets {
            peer.send(packet).expect("loopback takes it");
            black_box(bare.recv_from(&mut bytes).expect("it is there"));
        }
    });
    for (what, to) in [("PCMU passes", ulaw), ("PCMU to Opus", Params::CALL)] {
        measure(&format!("the same to a leg, {what}"), || {
            let (mut leg, mut now) = (leg(&peer, Codec::Pcmu, 20), Instant::now());
            let mut transcoder = Transcoder::new(ulaw, to).expect("parameters of ours");
            for packet in &packets {
                now += TICK;
                peer.send(packet).expect("loopback takes it");
                leg.receive(0, now);
                while let Some(Heard::Frame { frame, .. }) = leg.poll_heard() {
                    transcoder.push(Some(&frame), |frame| drop(black_box(frame)));
                }
            }
        });
    }
    let mut encoder = Encoder::at(Params::CALL, 8000).expect("Opus has this rate");
    let opus: Vec<Frame> =
        speech.chunks_exact(160).take(FRAMES).map(|chunk| encoder.encode(chunk).expect("a whole frame")).collect();
    for (what, codec, ptime_ms, frames) in [
        ("", Codec::Pcmu, 20, &frames),
        (", Opus", Codec::Opus, 20, &opus),
        (", Opus in packets of 60 ms", Codec::Opus, 60, &opus),
    ] {
        measure(&format!("a frame from a leg to the phone's socket{what}"), || {
            let (mut leg, mut now) = (leg(&peer, codec, ptime_ms), Instant::now());
            for frame in frames {
                now += TICK;
                leg.push(Some(frame), now);
            }
        });
    }
}
