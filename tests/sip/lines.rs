//! What a phone does beside speaking: it moves to another port, and reports by RTCP.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use clutchcall::audio::{Codec, Params};
use clutchcall::client::Delivered;
use clutchcall::rtp::rtcp::{self, ReportBlock, Rtcp};
use serde_json::json;

use crate::common::wait_for;
use crate::engine::{Attached, attach, bench_with, beside, originate};
use crate::phones::{FRAME, Phones, frame};
use crate::rig::{Far, LIMIT, case};

const GLANCE: Duration = Duration::from_millis(50);
/// Whose frames are said at the new port.
const MOVED: usize = 5;
const SSRC: u32 = 1;

fn ulaw() -> Params {
    Params::new(Codec::G711Ulaw, None, 1, 20).unwrap()
}

/// What has come since the last time.
fn heard(attached: &Attached) -> Vec<u8> {
    let frames = std::iter::from_fn(|| attached.ring.pop());
    frames
        .filter_map(|told| if let Delivered::Frame { payload, .. } = told { Some(payload) } else { None })
        .flatten()
        .collect()
}

/// Behind a hold it is at another port: from there it is heard, and there it is spoken to.
#[test]
fn a_phone_that_moves_is_heard_and_spoken_to_where_it_is() {
    case(async || {
        let (mut before, mut after) = (Phones::new(), Phones::new());
        let (port, new_port) = (before.port(), after.port());
        let ports = [("far_port", &*port), ("new_port", &*new_port), ("held_ms", "300"), ("cause", "cause=16")];
        let far =
            Far::start("holds_silently", &[&ports[..], &[("hold", "sendonly"), ("answer", "recvonly")]].concat()).await;
        let bench = bench_with(&far, 39, |_| {});
        let row = beside(move || {
            let (sid, begun) = (originate(&bench), Instant::now());
            bench.wait(&sid, &["in_progress"]);
            let attached = attach(&bench, &sid, ulaw(), 1024);
            while after.heard_within(GLANCE).is_none() {
                assert!(begun.elapsed() < LIMIT, "nobody speaks to its new port: {}", bench.row(&sid));
                if let Some(line) = before.heard_within(GLANCE) {
                    before.say_on(line);
                }
            }
            // Whatever was on its way to its first one.
            while before.heard_within(GLANCE).is_some() {}
            assert!(before.lines[0].heard.len() > 5, "it was spoken to there");
            let (mut bytes, mut number) = (Vec::new(), 0);
            while bytes.len() < 50 * FRAME {
                assert!(begun.elapsed() < LIMIT, "{} bytes came of {number} frames", bytes.len());
                let line = after.hear();
                after.say(line, &frame(MOVED, number));
                number += 1;
                bytes.extend(heard(&attached).chunks(FRAME).filter(|heard| heard[0] == MOVED as u8 + 1).flatten());
            }
            let said: Vec<u8> = (0..number).flat_map(|number| frame(MOVED, number)).collect();
            let from = said.chunks(FRAME).position(|said| *said == bytes[..FRAME]).expect("it was said") * FRAME;
            assert!(said[from..].starts_with(&bytes), "a byte is missing, or another");
            assert_eq!(before.heard_within(GLANCE), None, "nothing goes to the old port");
            bench.hangup(&sid).data();
            bench.ended(&sid);
            wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()))
        })
        .await;
        assert_eq!((&row["endReason"], &row["rtp"]["codec"]), (&json!("normal"), &json!("PCMU")), "{row}");
        far.played().await;
    });
}

/// Two sockets at neighbouring ports, RTP's the even one.
fn pair() -> (UdpSocket, UdpSocket) {
    let bind = |port| UdpSocket::bind(("127.0.0.1", port)).ok();
    let pairs = (24_000..25_000).step_by(2).filter_map(|port| Some((bind(port)?, bind(port + 1)?)));
    pairs.into_iter().next().expect("a pair of ports is free")
}

/// Its own loss, what it says of ours, and the way there and back stand in the record.
#[test]
fn what_a_phone_reports_is_in_the_record() {
    case(async || {
        let (rtp, reports) = pair();
        rtp.set_read_timeout(Some(LIMIT)).unwrap();
        reports.set_read_timeout(Some(LIMIT)).unwrap();
        let port = rtp.local_addr().unwrap().port().to_string();
        let far = Far::start("phone", &[("calls", "1"), ("far_port", &port), ("ptime", "20")]).await;
        let bench = bench_with(&far, 64, |_| {});
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let mut bytes = [0; 2048];
            let (_, us) = rtp.recv_from(&mut bytes).expect("a packet of ours");
            // Of eight packets two are lost, in one run.
            for sequence in [0u16, 1, 2, 5, 6, 7] {
                let header = clutchcall::rtp::Header {
                    marker: false,
                    payload_type: 0,
                    sequence,
                    timestamp: u32::from(sequence) * 160,
                    ssrc: SSRC,
                };
                let mut packet = Vec::new();
                header.write(&mut packet);
                packet.extend_from_slice(&[0x55; FRAME]);
                rtp.send_to(&packet, us).unwrap();
            }
            let (length, from) = reports.recv_from(&mut bytes).expect("a report of ours");
            let (mut ours, mut sent_at, mut of_theirs) = (0, 0, None);
            rtcp::parse(&bytes[..length], |packet| {
                if let Rtcp::Report { ssrc, sender, blocks } = packet {
                    (ours, sent_at) = (ssrc, sender.map_or(0, |sender| (sender.ntp >> 16) as u32));
                    of_theirs = blocks.iter().next().map(|block| (block.ssrc, block.lost, block.fraction_lost));
                }
            })
            .unwrap();
            assert_eq!(of_theirs, Some((SSRC, 2, 64)), "a fourth");
            let block = ReportBlock { ssrc: ours, lost: 9, last_sr: sent_at, ..ReportBlock::default() };
            let mut answer = Vec::new();
            rtcp::write_report(SSRC, None, Some(&block), &mut answer);
            reports.send_to(&answer, from).unwrap();
            // What was spoken before lies here; behind it some turns of whoever reads the reports.
            rtp.set_nonblocking(true).unwrap();
            while rtp.recv_from(&mut bytes).is_ok() {}
            rtp.set_nonblocking(false).unwrap();
            for _ in 0..3 {
                rtp.recv_from(&mut bytes).expect("a packet of ours");
            }
            bench.hangup(&sid).data();
            bench.ended(&sid);
            wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()))
        })
        .await;
        let line = &row["rtp"];
        let said = ["packetsReceived", "packetsLost", "remotePacketsLost"].map(|name| line[name].as_u64());
        assert_eq!(said, [Some(6), Some(2), Some(9)], "{row}");
        let figure = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
        assert!((0.0..20_000.0).contains(&figure("roundTripMs")) && figure("jitterMs") > 0.0, "{row}");
        assert!((1.0..2.5).contains(&figure("mos")), "a fourth of G.711 is lost: {row}");
        far.played().await;
    });
}
