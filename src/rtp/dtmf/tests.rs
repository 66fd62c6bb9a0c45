#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use proptest::prelude::*;

use super::*;

fn key(letter: char) -> Key {
    Key::from_char(letter).unwrap()
}

fn down(letter: char) -> Press {
    Press { key: key(letter), ended: None }
}

fn up(letter: char, ms: u32) -> Press {
    Press { key: key(letter), ended: Some(ms) }
}

/// Timestamp, code, end, duration.
fn listen(listener: &mut Listener, packets: &[(u32, u8, bool, u16)]) -> Vec<Press> {
    let (mut heard, now) = (Vec::new(), Instant::now());
    for (timestamp, code, end, duration) in packets {
        let event = Event { code: *code, end: *end, volume: 10, duration: *duration };
        listener.handle(*timestamp, &event.bytes(), now, |press| heard.push(press));
    }
    heard
}

#[test]
fn an_event_byte_for_byte() {
    // RFC 4733 §2.3.1: event 11 (#), E, reserved 0, volume 10, duration 1280.
    let bytes = [0x0b, 0x8a, 0x05, 0x00];
    let event = Event { code: 11, end: true, volume: 10, duration: 1280 };
    assert_eq!((Event::parse(&bytes), event.bytes()), (Some(event), bytes));
    assert_eq!(Event::parse(&bytes[..3]), None);
    assert_eq!(Event::parse(&[1, 0x4a, 0, 160, 9, 9]).unwrap().volume, 10, "the reserved bit is ignored");
}

#[test]
fn keys_are_letters_and_codes() {
    let letters = "0123456789*#ABCD";
    for (code, letter) in letters.chars().enumerate() {
        assert_eq!(Key::from_char(letter), Key::from_code(code as u8));
        assert_eq!(key(letter).as_char(), letter);
    }
    assert_eq!(Key::from_char('b'), Key::from_char('B'));
    assert_eq!((Key::from_char('E'), Key::from_code(16)), (None, None));
}

#[test]
fn one_press_is_told_once() {
    let mut listener = Listener::new(8000);
    let mut packets = vec![(4000, 5, false, 160), (4000, 5, false, 320), (4000, 5, false, 480)];
    packets.extend([(4000, 5, true, 640); 3]);
    assert_eq!(listen(&mut listener, &packets), [down('5'), up('5', 80)]);
}

#[test]
fn the_same_key_twice_is_two_presses_and_lost_markers_and_ends_change_nothing() {
    let mut listener = Listener::new(8000);
    let packets = [(4000, 5, false, 160), (4000, 5, true, 320), (6000, 5, false, 160), (9000, 6, true, 400)];
    let heard = listen(&mut listener, &packets);
    assert_eq!(heard, [down('5'), up('5', 40), down('5'), up('5', 20), down('6'), up('6', 50)]);
}

#[test]
fn an_end_alone_is_a_press() {
    assert_eq!(listen(&mut Listener::new(8000), &[(1, 11, true, 800)]), [down('#'), up('#', 100)]);
}

#[test]
fn out_of_order_packets_neither_reopen_nor_shorten_a_press() {
    let mut listener = Listener::new(8000);
    let packets = [
        (4000, 1, false, 320),
        (4000, 1, false, 160),
        (4000, 1, true, 480),
        (4000, 1, false, 400),
        (7000, 2, false, 160),
        (4000, 1, true, 480),
        (7000, 2, true, 320),
    ];
    assert_eq!(listen(&mut listener, &packets), [down('1'), up('1', 60), down('2'), up('2', 40)]);
}

#[test]
fn the_timestamp_may_wrap_between_two_presses() {
    let packets = [(u32::MAX - 100, 1, true, 160), (200, 2, true, 160), (u32::MAX - 100, 1, true, 160)];
    let heard = listen(&mut Listener::new(8000), &packets);
    assert_eq!(heard, [down('1'), up('1', 20), down('2'), up('2', 20)]);
}

#[test]
fn timestamps_that_begin_anew_are_presses_once_the_last_one_is_long_over() {
    let (mut listener, now, mut heard) = (Listener::new(8000), Instant::now(), Vec::new());
    let end = |code| Event { code, end: true, volume: 10, duration: 800 }.bytes();
    listener.handle(4_000_000, &end(1), now, |press| heard.push(press));
    listener.handle(1000, &end(2), now + OLD / 2, |press| heard.push(press));
    assert_eq!(heard, [down('1'), up('1', 100)], "a packet that was late");
    listener.handle(17_000, &end(3), now + OLD, |press| heard.push(press));
    listener.handle(33_000, &end(4), now + OLD + OLD / 2, |press| heard.push(press));
    assert_eq!(heard[2..], [down('3'), up('3', 100), down('4'), up('4', 100)]);
}

#[test]
fn a_long_press_goes_on_in_segments() {
    // 4 s at 48 kHz: 192,000 units in three segments (RFC 4733 §2.5.1.3).
    let packets = [
        (1000, 9, false, 960),
        (1000, 9, false, 0xffff),
        (1000 + 0xffff, 9, false, 960),
        (1000 + 0xffff, 9, false, 0xffff),
        (1000 + 2 * 0xffff, 9, true, 60_930),
        (1000 + 2 * 0xffff, 9, true, 60_930),
    ];
    assert_eq!(listen(&mut Listener::new(48_000), &packets), [down('9'), up('9', 4000)]);
    let lossy = [packets[0], packets[2], packets[5]];
    assert_eq!(listen(&mut Listener::new(48_000), &lossy), [down('9'), up('9', 4000)]);
}

#[test]
fn a_press_whose_end_is_lost_ends_by_itself_once() {
    let (mut listener, now, mut heard) = (Listener::new(8000), Instant::now(), Vec::new());
    let event = Event { code: 3, end: false, volume: 0, duration: 400 };
    listener.handle(1, &event.bytes(), now, |press| heard.push(press));
    listener.handle_timeout(now + LOST_END / 2, |press| heard.push(press));
    assert_eq!(heard, [down('3')]);
    listener.handle_timeout(now + LOST_END, |press| heard.push(press));
    listener.handle_timeout(now + LOST_END * 2, |press| heard.push(press));
    let late = Event { end: true, ..event };
    listener.handle(1, &late.bytes(), now + LOST_END, |press| heard.push(press));
    assert_eq!(heard, [down('3'), up('3', 50)]);
}

#[test]
fn what_is_no_key_is_counted() {
    let mut listener = Listener::new(8000);
    assert_eq!(listen(&mut listener, &[(1, 16, true, 800), (2, 36, false, 1)]), []);
    listener.handle(3, &[1, 2], Instant::now(), |_| panic!("too short"));
    assert_eq!(listener.ignored(), 3);
}

fn play(keypad: &mut Keypad, step_ms: u32) -> Vec<Pressed> {
    let step = step_ms * (keypad.rtp_clock / 1000);
    let mut packets = Vec::new();
    for tick in 0.. {
        let is_due = keypad.is_due();
        let packet = keypad.tick(tick * step, step_ms);
        assert_eq!(packet.is_some(), is_due, "tick {tick}");
        packets.extend(packet);
        if keypad.is_idle() {
            return packets;
        }
    }
    packets
}

#[test]
fn a_key_of_ours_packet_by_packet() {
    let mut keypad = Keypad::new(8000, 8000);
    assert!(keypad.press(Stroke::Key(key('7')), 80));
    let packets = play(&mut keypad, 20);
    let durations: Vec<_> = packets.iter().map(|packet| (packet.event.duration, packet.event.end)).collect();
    assert_eq!(durations, [(160, false), (320, false), (480, false), (640, true), (640, true), (640, true)]);
    assert!(packets.iter().all(|packet| packet.timestamp == 0 && packet.event.code == 7));
    assert_eq!(
        packets.iter().map(|packet| packet.marker).collect::<Vec<_>>(),
        [true, false, false, false, false, false]
    );
}

#[test]
fn keys_wait_for_each_other_and_a_full_pad_says_so() {
    let mut keypad = Keypad::new(8000, 8000);
    let typed = (0..MOST_STROKES + 1).filter(|_| keypad.press(Stroke::Key(key('1')), 1)).count();
    assert_eq!(typed, MOST_STROKES);
    let packets = play(&mut keypad, 20);
    let mut begins: Vec<u32> = packets.iter().map(|packet| packet.timestamp).collect();
    begins.dedup();
    assert_eq!(begins.len(), MOST_STROKES);
    // 40 ms, two more ends, a pause of three steps.
    assert!(begins.windows(2).all(|pair| pair[1] - pair[0] == (4 + 3) * 160), "{begins:?}");
}

#[test]
fn a_typed_pause_is_as_long_as_it_says() {
    let mut keypad = Keypad::new(8000, 8000);
    let typed = strokes("w1W2").unwrap();
    assert!(typed.into_iter().all(|stroke| keypad.press(stroke, 40)));
    assert_eq!(keypad.waiting(), 4);
    let packets = play(&mut keypad, 20);
    let begins: Vec<u32> = packets.iter().filter(|packet| packet.marker).map(|packet| packet.timestamp / 8).collect();
    // The pause begins with a step of its own; behind a key stand two more ends and 60 ms in any case.
    assert_eq!(begins, [500, 500 + 80 + 60 + 1000]);
    assert_eq!(keypad.waiting(), 0);
}

#[test]
fn what_can_be_typed() {
    let all = strokes("0123456789*#ABCDabcd").unwrap();
    let letters: String =
        all.iter().map(|stroke| if let Stroke::Key(key) = stroke { key.as_char() } else { '?' }).collect();
    assert_eq!(letters, "0123456789*#ABCDABCD");
    assert_eq!(strokes("wW").unwrap(), [Stroke::Pause { ms: 500 }, Stroke::Pause { ms: 1000 }]);
    assert_eq!(strokes(&"1".repeat(MOST_STROKES)).unwrap().len(), MOST_STROKES);
    for wrong in ["", "1 2", "12x", "1,2", "+1", "\u{661}", &"1".repeat(MOST_STROKES + 1)] {
        let why = strokes(wrong).unwrap_err();
        assert!(why.contains("send ") && !why.contains("12"), "{why}");
    }
}

proptest! {
    /// What one end types the other hears, at either clock, whatever order the packets of one press come in.
    #[test]
    fn what_is_typed_is_heard(
        digits in "[0-9*#A-D]{1,6}",
        ms in 40u32..4000,
        wide: bool,
        step in prop::sample::select(vec![10u32, 20, 30, 40, 60]),
        swap in 0usize..64,
    ) {
        let clock = if wide { 48_000 } else { 8000 };
        let mut keypad = Keypad::new(clock, clock);
        digits.chars().for_each(|digit| assert!(keypad.press(Stroke::Key(key(digit)), ms)));
        let mut packets = play(&mut keypad, step);
        // Neighbours of one press change places.
        let at = swap % packets.len();
        if at + 1 < packets.len() && packets[at].timestamp == packets[at + 1].timestamp {
            packets.swap(at, at + 1);
        }
        let (mut listener, now, mut heard) = (Listener::new(clock), Instant::now(), Vec::new());
        for packet in &packets {
            listener.handle(packet.timestamp, &packet.event.bytes(), now, |press| heard.push(press));
        }
        let wanted: Vec<Press> = digits.chars().flat_map(|digit| [down(digit), up(digit, ms)]).collect();
        prop_assert_eq!(heard, wanted);
    }
}
