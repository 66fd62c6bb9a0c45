//! Packets that were joined and parted decode to the very samples of those that were not.

use proptest::prelude::*;

use super::bundle::Bundle;
use super::opus::{Decoder, Encoder, duration_us};
use super::{Limits, Params, Target};

/// Speech-like: a tone that glides, so that no frame is like the one before.
fn packets(rate: u32, constant: bool, ms: usize, count: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(rate, 1).unwrap();
    encoder.limit(Limits { constant, ..Limits::default() }).unwrap();
    let size = rate as usize * ms / 1000;
    let sample = |n: usize| {
        let t = n as f64 / f64::from(rate);
        (9000.0 * (std::f64::consts::TAU * (200.0 + 300.0 * t) * t).sin()) as i16
    };
    let frame = |at: usize| (at * size..(at + 1) * size).map(sample).collect::<Vec<_>>();
    (0..count).map(|at| encoder.encode(&frame(at)).unwrap().to_vec()).collect()
}

fn pushed(bundle: &mut Bundle, packets: &[Vec<u8>]) -> Vec<(Vec<u8>, u32)> {
    let mut out = Vec::new();
    packets.iter().for_each(|packet| bundle.push(packet, 20, |packet, ms| out.push((packet.to_vec(), ms))));
    out
}

fn decoded<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<i16> {
    let (mut decoder, mut out) = (Decoder::new(48_000, 1).unwrap(), Vec::new());
    packets.into_iter().for_each(|packet| decoder.decode(packet, &mut out).unwrap());
    out
}

#[test]
fn several_in_one_packet_sound_as_they_do_alone() {
    for rate in [8000, 16_000, 48_000] {
        // The first ones show the encoder's changes of mind.
        let packets = packets(rate, false, 20, 126).split_off(6);
        for (packet_ms, count) in [(20, 120), (40, 60), (60, 40)] {
            let joined = pushed(&mut Bundle::new(packet_ms, false), &packets);
            assert_eq!(joined.len(), count, "{rate}: {packet_ms}");
            for (packet, ms) in &joined {
                assert_eq!((duration_us(packet), *ms), (Some(ms * 1000), u32::from(packet_ms)));
            }
            assert!(decoded(joined.iter().map(|(packet, _)| packet)) == decoded(&packets), "{rate}: {packet_ms}");
            let bytes = |packets: &mut dyn Iterator<Item = usize>| packets.sum::<usize>();
            let more = bytes(&mut joined.iter().map(|(packet, _)| packet.len()));
            assert!(more <= bytes(&mut packets.iter().map(Vec::len)) + 120, "{rate}: {packet_ms}");
        }
    }
}

#[test]
fn packets_of_one_length_stay_so() {
    for packet_ms in [40, 60] {
        let packets = packets(48_000, true, 20, 126).split_off(6);
        assert!(packets.iter().all(|packet| packet.len() == packets[0].len()));
        let joined = pushed(&mut Bundle::new(packet_ms, true), &packets);
        assert_eq!(joined.len(), 120 * 20 / usize::from(packet_ms));
        let lengths: Vec<_> = joined.iter().map(|(packet, _)| packet.len()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{packet_ms}: {lengths:?}");
        assert!(decoded(joined.iter().map(|(packet, _)| packet)) == decoded(&packets));
    }
}

/// One frame of 20 ms can't be parted: whoever wants 10 ms is made halves.
#[test]
fn what_was_made_of_halves_is_parted_and_all_else_goes_as_it_is() {
    let whole = packets(48_000, false, 20, 10);
    let passed = pushed(&mut Bundle::new(10, false), &whole);
    assert_eq!(passed, whole.iter().map(|packet| (packet.clone(), 20)).collect::<Vec<_>>());
    for constant in [false, true] {
        let limits = Limits { halved: true, constant, ..Limits::default() };
        let mut encoder = super::Encoder::new(Target { params: Params::CALL, limits }).unwrap();
        let noise = |n: usize| ((n as u32).wrapping_mul(2_654_435_761) >> 18) as i16;
        let mut say = |at: usize| encoder.encode(&(at * 960..(at + 1) * 960).map(noise).collect::<Vec<_>>()).unwrap();
        let made: Vec<Vec<u8>> = (0..60).map(|at| say(at).to_vec()).collect();
        assert!(made.iter().all(|packet| duration_us(packet) == Some(20_000)));
        let parted = pushed(&mut Bundle::new(10, constant), &made);
        assert!(
            parted.len() == 120 && parted.iter().all(|(packet, ms)| duration_us(packet) == Some(10_000) && *ms == 10)
        );
        assert!(decoded(parted.iter().map(|(packet, _)| packet)) == decoded(&made));
        let lengths: Vec<_> = parted.iter().map(|(packet, _)| packet.len()).collect();
        assert_eq!(lengths.iter().all(|length| *length == lengths[0]), constant, "{lengths:?}");
    }
}

#[test]
fn frames_of_different_kinds_share_no_packet() {
    let (one, other) = (vec![1 << 3, 7, 7], vec![9 << 3, 8]);
    let mut bundle = Bundle::new(60, false);
    let out =
        pushed(&mut bundle, &[one.clone(), one.clone(), other.clone(), other.clone(), other.clone(), one.clone()]);
    assert_eq!(out, [(vec![1 << 3 | 1, 7, 7, 7, 7], 40), (vec![9 << 3 | 3, 3, 8, 8, 8], 60)]);
    // What waits goes when it is told to, or before what is no packet of the length that it has to be.
    let mut out = Vec::new();
    bundle.flush(|packet, ms| out.push((packet.to_vec(), ms)));
    bundle.flush(|_, _| panic!("nothing waits"));
    assert_eq!(out, [(one.clone(), 20)]);
    let (spoiled, longer) = (vec![1 << 3 | 3], vec![3 << 3, 1]);
    let out = pushed(&mut bundle, &[one.clone(), spoiled.clone(), one.clone(), longer.clone()]);
    assert_eq!(out, [(one.clone(), 20), (spoiled, 20), (one.clone(), 20), (longer, 20)]);
    // Another length from the next one on.
    assert_eq!(pushed(&mut bundle, std::slice::from_ref(&one)), []);
    bundle.set(20, false);
    assert_eq!(pushed(&mut bundle, std::slice::from_ref(&one)), [(one.clone(), 20), (one, 20)]);
}

#[test]
fn halves_of_different_kinds_are_one_packet_whose_first_was_lost() {
    let (first, second) = ([16 << 3, 1, 2, 3], [18 << 3, 9, 9]);
    let mut bundle = Bundle::new(20, false);
    bundle.join(&first, 10);
    bundle.join(&second, 10);
    bundle.flush(|packet, ms| assert_eq!((packet, ms), (&[18 << 3 | 2, 0, 9, 9][..], 20)));
}

#[test]
fn no_packet_of_several_is_longer_than_networks_carry() {
    let long: Vec<u8> = std::iter::once(1 << 3).chain([5; 500]).collect();
    let out = pushed(&mut Bundle::new(60, false), &vec![long; 9]);
    assert!(out.iter().all(|(packet, ms)| packet.len() < 1210 && *ms == 40), "{:?}", out.len());
}

/// A packet of these frames in the form that a stranger may choose for it.
fn written(kind: u8, frames: &[Vec<u8>], padding: Option<usize>) -> Vec<u8> {
    let mut bytes = vec![kind | 3, frames.len() as u8 | 0x80 | if padding.is_some() { 0x40 } else { 0 }];
    if let Some(padding) = padding {
        bytes.extend(std::iter::repeat_n(255, padding / 254));
        bytes.push((padding % 254) as u8);
    }
    for frame in &frames[..frames.len() - 1] {
        let length = frame.len();
        match length {
            0..252 => bytes.push(length as u8),
            _ => bytes.extend([(252 + length % 4) as u8, ((length - 252 - length % 4) / 4) as u8]),
        }
    }
    bytes.extend(frames.concat());
    bytes.resize(bytes.len() + padding.unwrap_or(0), 0);
    bytes
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => proptest::collection::vec(any::<u8>(), 0..30), 1 => proptest::collection::vec(any::<u8>(), 240..1275)]
}

proptest! {
    /// Packets of one to eight frames of 2.5 ms, in whatever form, come out as the same frames in the same order.
    #[test]
    fn no_frame_is_lost_or_moved(
        packets in proptest::collection::vec(proptest::collection::vec(frame(), 8), 1..12),
        padding in proptest::option::of(0usize..600),
        constant: bool,
        packet_ms in prop_oneof![Just(10u8), Just(40), Just(60)],
    ) {
        const KIND: u8 = 16 << 3;
        let mut bundle = Bundle::new(packet_ms, constant);
        let (mut heard, mut total) = (Vec::new(), 0);
        let mut again = |packet: &[u8], ms: u32| {
            total += ms;
            assert_eq!(duration_us(packet), Some(ms * 1000));
            heard.push((packet.to_vec(), ms));
        };
        for frames in &packets {
            bundle.push(&written(KIND, frames, padding), 20, &mut again);
        }
        bundle.flush(&mut again);
        prop_assert_eq!(total, packets.len() as u32 * 20);
        let mut out = Vec::new();
        heard.iter().for_each(|(packet, _)| out.extend(super::bundle::frames(packet).unwrap()));
        prop_assert_eq!(out, packets.concat());
    }

    #[test]
    fn whatever_comes_goes(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..20), constant: bool) {
        for packet_ms in [10, 40, 60] {
            let (mut bundle, mut ms) = (Bundle::new(packet_ms, constant), 0);
            packets.iter().for_each(|packet| bundle.push(packet, 20, |_, more| ms += more));
            bundle.flush(|_, more| ms += more);
            prop_assert_eq!(ms, packets.len() as u32 * 20);
        }
    }
}
