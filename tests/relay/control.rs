//! What a call tells beside its audio: from a phone's packets, over whatever carries the call, to whoever listens.

use clutchcall::call::control::{Dtmf, Message, Read, Source, read};
use clutchcall::engine::agents::{Agent, Bridged};
use clutchcall::engine::media::{Caller, Command};
use clutchcall::engine::rtp::{Codec, Settings};
use clutchcall::rtp::dtmf::Event;
use clutchcall::tracks::names;

use super::media::{Heard, SID, Stage};
use super::rig::Kind;
use super::rtp::Phone;

/// The next message, which is stamped as it says.
fn told(control: &Heard) -> Dtmf {
    let (stamp, object) = control.frame();
    let Read::Message(Message::Dtmf(dtmf)) = read(&object) else { panic!("{object:?}") };
    assert_eq!(stamp, dtmf.at_us);
    dtmf
}

fn control(stage: &Stage) -> Heard {
    let control = stage.hear_track(names::control(SID).unwrap());
    control.live();
    control
}

/// A key of 100 ms, its end three times.
fn press(phone: &mut Phone, code: u8, timestamp: u32) {
    for (end, duration) in [(false, 160), (false, 480), (true, 800), (true, 800), (true, 800)] {
        phone.say(101, timestamp, &Event { code, end, volume: 10, duration }.bytes());
    }
}

#[test]
fn each_key_is_told_once_in_its_order_whatever_carries_the_call() {
    for kind in [Kind::Port, Kind::RawQuic] {
        let stage = Stage::new(kind);
        stage.open(Caller::Leg);
        let control = control(&stage);
        let mut phone = Phone::answer(&stage, Codec::Pcmu, Settings::default());
        for n in 0..16u8 {
            press(&mut phone, n, 8000 + u32::from(n) * 1600);
        }
        let keys: Vec<Dtmf> = (0..16).map(|_| told(&control)).collect();
        assert_eq!(keys.iter().map(|key| key.digit).collect::<String>(), "0123456789*#ABCD", "{kind:?}");
        assert!(keys.iter().all(|key| key.duration_ms == 100 && key.source == Source::Rfc4733.as_str()), "{keys:?}");
        assert!(keys.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us), "{keys:?}");
        stage.close();
        control.ended();
    }
}

#[test]
fn who_comes_later_hears_what_comes_later_and_the_end() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let first = control(&stage);
    let mut phone = Phone::answer(&stage, Codec::Pcmu, Settings::default());
    press(&mut phone, 1, 1600);
    assert_eq!(told(&first).digit, '1');
    let second = control(&stage);
    press(&mut phone, 2, 3200);
    assert_eq!((told(&first).digit, told(&second).digit), ('2', '2'));
    stage.close();
    first.ended();
    second.ended();
    let late = stage.hear_track(names::control(SID).unwrap());
    late.ended();
}

#[test]
fn a_signalled_key_is_told_unless_it_comes_as_a_telephone_event_too() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let control = control(&stage);
    let mut phone = Phone::answer(&stage, Codec::Pcmu, Settings::default());
    let signalled = |key| stage.send(Command::Key { sid: SID.into(), key, duration_ms: 250, second: false });
    signalled('7');
    let seven = told(&control);
    assert_eq!((seven.digit, seven.duration_ms, seven.source.as_str()), ('7', 250, "info"));
    press(&mut phone, 8, 1600);
    assert_eq!(told(&control).source, "rfc4733");
    // The same key once more, by the other way.
    signalled('8');
    press(&mut phone, 9, 3200);
    assert_eq!(told(&control).digit, '9');
    // Another key, that came no other way; and one whose events come behind it.
    for key in ['4', '5'] {
        signalled(key);
        let key = (key, "info".to_owned());
        let heard = told(&control);
        assert_eq!((heard.digit, heard.source), key);
    }
    press(&mut phone, 5, 4800);
    press(&mut phone, 6, 6400);
    assert_eq!(told(&control).digit, '6');
    stage.close();
}

/// The next key that was pressed for this phone, and how long.
fn pressed(phone: &Phone) -> (u8, u16) {
    let mut ends = 0;
    loop {
        let (header, payload) = phone.hear();
        let event = Event::parse(&payload).filter(|event| header.payload_type == 101 && event.end);
        ends += usize::from(event.is_some());
        if let Some(event) = event.filter(|_| ends == 3) {
            return (event.code, event.duration / 8);
        }
    }
}

#[test]
fn keys_go_from_one_leg_to_the_other() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Leg);
    let control = control(&stage);
    let mut caller = Phone::answer(&stage, Codec::Pcmu, Settings::default());
    let (mut other, leg) = Phone::called(Codec::Pcmu, Settings::default());
    let bridged: Box<dyn Agent> = Box::new(Bridged::new(Box::new(leg)));
    stage.send(Command::Agent { sid: SID.into(), agent: Some(bridged) });
    other.hear();
    press(&mut caller, 7, 1600);
    assert_eq!((told(&control).digit, pressed(&other)), ('7', (7, 100)));
    press(&mut other, 11, 1600);
    assert_eq!(pressed(&caller), (11, 100));
    // Only the caller's are told.
    press(&mut caller, 8, 3200);
    assert_eq!((told(&control).digit, pressed(&other)), ('8', (8, 100)));
    stage.close();
    control.ended();
}

#[test]
fn a_call_whose_far_end_is_empty_has_one_too() {
    let stage = Stage::new(Kind::Port);
    stage.open(Caller::Bridge);
    let control = control(&stage);
    stage.close();
    control.ended();
}
