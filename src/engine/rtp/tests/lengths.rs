//! Opus in packets as long as the far end wants them (RFC 7587 §6.1, §7; RFC 8866 §6.4).

use super::*;
use crate::audio::opus::duration_us;

const CLOCK_PER_MS: u32 = 48;
/// An encoder has made up its mind by then.
const SETTLED: usize = 10;

fn stage(ptime_ms: u8) -> Stage {
    let peer = Peer::new();
    let negotiated = Negotiated { ptime_ms, ..peer.offers(Codec::Opus) };
    Stage::with(peer, negotiated, Settings::default())
}

/// What the engine makes for this leg: a tone that glides.
fn made(leg: &RtpLeg, count: usize) -> Vec<Frame> {
    let mut encoder = Encoder::new(leg.target()).unwrap();
    let size = encoder.frame_samples();
    let sample = |n: usize| {
        let t = n as f64 / 48_000.0;
        (9000.0 * (std::f64::consts::TAU * (200.0 + 300.0 * t) * t).sin()) as i16
    };
    let frame = |at: usize| (at * size..(at + 1) * size).map(sample).collect::<Vec<_>>();
    (0..count + SETTLED).map(|at| encoder.encode(&frame(at)).unwrap()).skip(SETTLED).collect()
}

fn decoded<'a>(packets: impl Iterator<Item = &'a [u8]>) -> Vec<i16> {
    let (mut decoder, mut samples) = (Decoder::new(Params::CALL).unwrap(), Vec::new());
    packets.for_each(|packet| decoder.decode(Some(packet), &mut samples).unwrap());
    samples
}

/// The next packets of the leg.
fn hear(peer: &Peer, count: usize) -> Vec<(Header, Vec<u8>)> {
    (0..count).map(|_| peer.hear()).collect()
}

#[test]
fn what_is_made_goes_in_packets_of_the_wanted_length() {
    for ptime_ms in [10u8, 20, 40, 60] {
        let mut stage = stage(ptime_ms);
        assert_eq!(stage.leg.params(), Params::CALL, "frames are the call's, whatever packets are");
        let frames = made(&stage.leg, 60);
        frames.iter().for_each(|frame| drop(stage.tick(Some(frame))));
        let packets = hear(&stage.peer, 1200 / usize::from(ptime_ms));
        assert!(stage.peer.hears_nothing());
        let step = u32::from(ptime_ms) * CLOCK_PER_MS;
        assert!(packets.windows(2).all(|pair| {
            pair[1].0.timestamp == pair[0].0.timestamp.wrapping_add(step)
                && pair[1].0.sequence == pair[0].0.sequence.wrapping_add(1)
        }));
        assert!(packets.iter().all(|(_, packet)| duration_us(packet) == Some(u32::from(ptime_ms) * 1000)));
        let heard = decoded(packets.iter().map(|(_, packet)| &packet[..]));
        assert!(heard == decoded(frames.iter().map(|frame| &frame[..])), "{ptime_ms} ms");
        let energy = heard.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / heard.len() as f64;
        assert!(heard.len() == 57_600 && energy.sqrt() > 4000.0, "a tone of 9000: {}", energy.sqrt());
    }
}

#[test]
fn silence_too() {
    for (ptime_ms, count) in [(10u8, 12), (40, 3), (60, 2)] {
        let mut stage = stage(ptime_ms);
        (0..6).for_each(|_| drop(stage.tick(None)));
        let packets = hear(&stage.peer, count);
        assert!(packets.iter().all(|(_, packet)| duration_us(packet) == Some(u32::from(ptime_ms) * 1000)));
        assert!(decoded(packets.iter().map(|(_, packet)| &packet[..])).iter().all(|sample| sample.abs() < 50));
    }
}

/// One frame can't be parted: who publishes Opus for a phone of 10 ms has it passed on.
#[test]
fn a_frame_that_passes_goes_as_it_is_where_shorter_ones_are_wanted() {
    let mut stage = stage(10);
    let frames = opus(48_000, 20, 5);
    frames.iter().for_each(|frame| drop(stage.tick(Some(frame))));
    let packets = hear(&stage.peer, 5);
    assert!(packets.iter().map(|(_, packet)| packet).eq(&frames));
    assert!(packets.windows(2).all(|pair| pair[1].0.timestamp == pair[0].0.timestamp.wrapping_add(960)));
}

#[test]
fn what_waits_goes_ahead_of_a_key_and_of_a_pause() {
    let mut stage = stage(60);
    let frames = made(&stage.leg, 5);
    frames[..2].iter().for_each(|frame| drop(stage.tick(Some(frame))));
    assert!(stage.peer.hears_nothing());
    stage.line.press(&crate::rtp::dtmf::strokes("5").unwrap(), 40).unwrap();
    (0..4).for_each(|_| drop(stage.tick(Some(&frames[2]))));
    let (before, packet) = stage.peer.hear();
    assert_eq!((duration_us(&packet), before.marker), (Some(40_000), true));
    let events = hear(&stage.peer, 4);
    let key_at = before.timestamp.wrapping_add(40 * CLOCK_PER_MS);
    assert!(events.iter().all(|(header, _)| (header.payload_type, header.timestamp) == (110, key_at)));
    assert!(stage.peer.hears_nothing());
    // A pause of a second: what was said before it has its own time, and so has what is said after it.
    stage.tick(Some(&frames[3]));
    stage.now += Duration::from_secs(1);
    (0..3).for_each(|_| drop(stage.tick(Some(&frames[4]))));
    let packets = hear(&stage.peer, 2);
    let stamp = |at: usize| packets[at].0.timestamp.wrapping_sub(before.timestamp) / CLOCK_PER_MS;
    assert_eq!((stamp(0), duration_us(&packets[0].1)), (40 + 80, Some(20_000)));
    assert_eq!((stamp(1), duration_us(&packets[1].1)), (40 + 80 + 20 + 1000, Some(60_000)));
    assert!(packets.iter().all(|(header, _)| header.marker));
}

#[test]
fn another_length_is_that_of_the_next_packet_and_nothing_is_lost() {
    let mut stage = stage(60);
    let frames = made(&stage.leg, 6);
    stage.tick(Some(&frames[0]));
    stage.line.update(&Negotiated { ptime_ms: 40, ..stage.peer.offers(Codec::Opus) });
    assert_eq!(stage.tick(Some(&frames[1])), [], "it is of no concern to who encodes");
    stage.line.update(&Negotiated { ptime_ms: 10, ..stage.peer.offers(Codec::Opus) });
    assert_eq!(stage.tick(None), [Heard::Retuned], "he has to make halves");
    let packets = hear(&stage.peer, 3);
    let lengths: Vec<_> = packets.iter().map(|(_, packet)| duration_us(packet)).collect();
    assert_eq!(lengths, [Some(40_000), Some(10_000), Some(10_000)]);
    assert_eq!(packets[1].0.timestamp, packets[0].0.timestamp.wrapping_add(40 * CLOCK_PER_MS));
}
