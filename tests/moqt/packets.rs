//! What a packet of a phone costs in allocations, on its way from a socket to a frame and back: counted, as objects are.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use clutchcall::audio::Frame;
use clutchcall::engine::leg::{Heard, Leg};
use clutchcall::engine::rtp::{Codec, Direction, Negotiated, Ports, RtpLeg, Settings};
use clutchcall::rtp::Header;

use super::allocations::COUNT;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WARM: u32 = 100;
const PACKETS: u32 = 1000;
const LIMIT: Duration = Duration::from_secs(10);

fn leg(peer: &UdpSocket) -> RtpLeg {
    let negotiated = Negotiated {
        remote: Some(peer.local_addr().unwrap()),
        remote_rtcp: None,
        codec: Codec::Pcmu,
        send_type: 0,
        receive_types: vec![(0, Codec::Pcmu)],
        ptime_ms: 20,
        direction: Direction::SendRecv,
        events: None,
        opus: None,
    };
    let pair = Ports::new(HERE, 22_000..=27_999).unwrap().open().unwrap();
    peer.connect(pair.address()).unwrap();
    RtpLeg::new(&negotiated, pair, Settings::default()).0
}

/// The frame itself, and nothing else.
#[test]
fn a_packet_of_a_phone_allocates_its_frame_and_one_to_it_nothing() {
    let peer = UdpSocket::bind((HERE, 0)).unwrap();
    let (mut leg, mut now, mut packet) = (leg(&peer), Instant::now(), Vec::with_capacity(200));
    let frame = Frame::from(vec![7; 160]);
    let (mut up, mut down) = (0, 0);
    for n in 0..WARM + PACKETS {
        now += Duration::from_millis(20);
        packet.clear();
        let (sequence, timestamp) = (n as u16, n * 160);
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 5 }.write(&mut packet);
        packet.resize(172, n as u8);
        peer.send(&packet).unwrap();
        let (before, until) = (COUNT.get(), Instant::now() + LIMIT);
        let heard = loop {
            leg.receive(0, now);
            if let Some(heard) = leg.poll_heard() {
                break heard;
            }
            assert!(Instant::now() < until, "a packet within the limit");
        };
        let received = COUNT.get();
        leg.push(Some(&frame), now);
        if n >= WARM {
            up += received - before;
            down += COUNT.get() - received;
        }
        assert!(matches!(heard, Heard::Frame { frame, .. } if frame[..] == packet[12..]));
        assert!(leg.poll_heard().is_none());
    }
    assert!(up <= u64::from(PACKETS) + 10, "{up} allocations for {PACKETS} packets that came");
    assert!(down <= 10, "{down} allocations for {PACKETS} packets that went");
}
