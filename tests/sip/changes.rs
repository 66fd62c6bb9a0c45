//! What a far end changes before the answer and while a call is up: its codec, its port, who of several speaks.

use std::time::{Duration, Instant};

use clutchcall::audio::{Codec, Params, Transcoder};
use clutchcall::client::Delivered;
use clutchcall::engine::config::DtmfMode;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::engine::{Attached, attach, bench_with, beside, originate};
use crate::phones::{FRAME, Phones};
use crate::rig::{Far, LIMIT, case};

const GLANCE: Duration = Duration::from_millis(50);
/// A sample of PCMA that is neither silence nor the same in PCMU.
const SAMPLE: u8 = 0x2a;

fn params(codec: Codec) -> Params {
    Params::new(codec, None, 1, 20).unwrap()
}

/// What a bridge of PCMU hears of it.
fn recoded() -> Vec<u8> {
    let mut recoded = Vec::new();
    let mut recoder = Transcoder::new(params(Codec::G711Alaw), params(Codec::G711Ulaw)).unwrap();
    recoder.push(Some(&vec![SAMPLE; FRAME].into()), |frame| recoded.extend_from_slice(&frame));
    recoded
}

/// The phone of PCMA is spoken to, and what it says reaches the bridge.
fn talks(phone: &mut Phones, attached: &Attached) {
    let (begun, expected) = (Instant::now(), recoded());
    loop {
        assert!(begun.elapsed() < LIMIT, "it is not heard");
        let line = phone.hear();
        phone.say(line, &[SAMPLE; FRAME]);
        let heard = std::iter::from_fn(|| attached.ring.pop());
        if heard.into_iter().any(|told| matches!(told, Delivered::Frame { payload, .. } if payload[..] == expected[..]))
        {
            return;
        }
    }
}

fn hung_up(bench: &Bench, sid: &str) -> Value {
    bench.hangup(sid).data();
    bench.ended(sid);
    wait_for(|| Some(bench.row(sid)).filter(|row| row["rtp"].is_object()))
}

/// RFC 3311 and RFC 3264 §8.3.2: by UPDATE to PCMA at another port, and by re-INVITE back again.
#[test]
fn a_far_end_that_changes_its_codec_is_spoken_to_and_heard_in_it() {
    case(async || {
        let (mut before, mut after) = (Phones::new(), Phones::of_pcma());
        let (port, new_port) = (before.port(), after.port());
        let far = Far::start("changes_codec", &[("far_port", &*port), ("new_port", &*new_port)]).await;
        let bench = bench_with(&far, 80, |sip| sip.dtmf_mode = DtmfMode::Info);
        let row = beside(move || {
            let (sid, begun) = (originate(&bench), Instant::now());
            bench.wait(&sid, &["in_progress"]);
            let attached = attach(&bench, &sid, params(Codec::G711Ulaw), 1024);
            while after.heard_within(GLANCE).is_none() {
                assert!(begun.elapsed() < LIMIT, "nobody speaks to its new port: {}", bench.row(&sid));
                if let Some(line) = before.heard_within(GLANCE) {
                    before.say_on(line);
                }
            }
            talks(&mut after, &attached);
            // Whatever was on its way to its first port.
            while before.heard_within(GLANCE).is_some() {}
            bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": "1"})).data();
            let heard = before.lines[0].heard.len();
            before.talk_until(|lines| lines[0].heard.len() > heard + 10);
            hung_up(&bench, &sid)
        })
        .await;
        assert_eq!(
            (&row["status"], &row["endReason"], &row["endedBy"]),
            (&json!("completed"), &json!("normal"), &json!("local"))
        );
        assert_eq!((&row["rtp"]["codec"], &row["rtp"]["packetsLost"]), (&json!("PCMU"), &json!(0)), "{row}");
        // Each change said where it is, too (RFC 3261 §12.2.2).
        let traffic = far.played().await;
        assert!(traffic.our("INFO").line().starts_with("INFO sip:moved@127.0.0.1:"), "{traffic:?}");
        assert!(traffic.our("BYE").line().starts_with("BYE sip:back@127.0.0.1:"), "{traffic:?}");
    });
}

/// RFC 3261 §13.2.2.4, as carriers do it: an announcement in a dialog of its own, and then the phone's answer in another one. With the trunk's
/// `early_media` the announcement's leg is the one that goes on.
#[test]
fn an_announcement_speaks_first_and_another_phone_answers() {
    case(async || {
        for (nth, early_media) in [(81, true), (82, false)] {
            let (mut announcer, mut phone) = (Phones::new(), Phones::of_pcma());
            let (port, new_port) = (announcer.port(), phone.port());
            let far = Far::start("announces_and_forks", &[("far_port", &*port), ("new_port", &*new_port)]).await;
            let bench = bench_with(&far, nth, |sip| sip.early_media = early_media);
            let row = beside(move || {
                let sid = originate(&bench);
                bench.wait(&sid, &["in_progress"]);
                let attached = attach(&bench, &sid, params(Codec::G711Ulaw), 1024);
                talks(&mut phone, &attached);
                assert_eq!(announcer.heard_within(GLANCE), None, "nobody listens there");
                hung_up(&bench, &sid)
            })
            .await;
            assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
            assert_eq!(row["rtp"]["codec"], "PCMA", "{row}");
            let traffic = far.played().await;
            traffic.our("ACK");
            traffic.our("BYE");
        }
    });
}
