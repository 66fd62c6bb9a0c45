//! Callers who write, repeat and demand otherwise than most: what they are answered, and what the record says.

use std::time::Duration;

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config::Inbound;
use clutchcall::engine::sip::Transport;
use serde_json::json;

use crate::called::{Called, assert_end, echo, notify, rule, to_its_end};
use crate::engine::{beside, originate};
use crate::rig::{Caller, Far, T1, case, free_port, towards};

const NUMBER: &str = "+15550001234";
const LEFT: (Status, EndReason, Option<u16>, Option<u8>) = (Status::NoAnswer, EndReason::Canceled, None, Some(31));

/// By a clock of its own: the RFC's timers pass within a test.
pub(crate) async fn called(scenario: &str, keys: &[(&str, &str)]) -> (Caller, Far) {
    called_by(T1, scenario, keys).await
}

async fn called_by(t1: Duration, scenario: &str, keys: &[(&str, &str)]) -> (Caller, Far) {
    let from = free_port();
    let mut callee = Caller::at(t1, towards(Transport::Udp, from)).await;
    callee.trunk.receive_as("carrier", &Inbound { rules: vec![rule("*", notify())], ..Inbound::default() });
    let keys: Vec<_> = keys.iter().copied().chain([("number", NUMBER)]).collect();
    let far = Far::calls(scenario, from, callee.address, &keys);
    callee.is_called().await;
    (callee, far)
}

/// RFC 3261 §18.3: over UDP a message without one goes to the end of its datagram.
#[test]
fn an_invite_without_a_content_length_has_its_description() {
    case(async || {
        let (traffic, row, _) = to_its_end(Called::new(20, echo()), "caller_measures_nothing", &[]).await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
        // It is an answer to her offer, and none of ours.
        let ok = &traffic.ours("SIP/2.0 200")[0].text;
        assert!(ok.contains(" RTP/AVP 0 101") && !ok.contains("opus"), "{ok}");
    });
}

/// Her name is no UTF-8 (RFC 3261 §7.3.1); headers with short names she may write (§7.3.3).
#[test]
fn a_caller_who_writes_in_latin_1_gets_through() {
    case(async || {
        let keys = [("name", "Müller, Köln")];
        let (traffic, row, _) = to_its_end(Called::new(59, echo()), "caller_of_latin_1", &keys).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        let from = traffic.ours("SIP/2.0 200")[0].header("From");
        assert!(from.contains("M?ller, K?ln") && from.ends_with(";tag=caller"), "{from}");
    });
}

/// RFC 3966 and RFC 4694: numbers as carriers write them.
#[test]
fn numbers_are_known_however_they_are_written() {
    case(async || {
        for (nth, uri, from, to) in [
            (61, "tel:+1-555-000-1234", "<tel:+15558675309>", "<tel:+15550001234>"),
            (
                62,
                "sip:+15550001234;npdi;rn=+15559990000@HOST;user=phone",
                "<sip:+15558675309;isub=1@h.invalid;user=phone>",
                "<sip:+15550001234@h.invalid;user=phone>",
            ),
            (
                63,
                "sip:+1(555)000-1234@HOST",
                "\"A; B <c>\" <sip:+1-555-867-5309@h.invalid:5070>",
                "sip:+15550001234@h.invalid",
            ),
            (64, "sip:%2B15550001234@HOST", "tel:+15558675309", "<sip:%2B15550001234@h.invalid>"),
            (65, "sips:+15550001234@HOST", "<sips:+15558675309@h.invalid>", "<sips:+15550001234@h.invalid>"),
        ] {
            let called = Called::new(nth, echo());
            let uri = uri.replace("HOST", &called.at.to_string());
            let (traffic, row, _) =
                to_its_end(called, "caller_of_numbers", &[("uri", &uri), ("from", from), ("to", to)]).await;
            assert_end(&row, ("completed", "normal", "remote", None, 16));
            assert!(traffic.ours("SIP/2.0 200")[0].header("From").ends_with(";tag=caller"), "{traffic:?}");
        }
    });
}

/// RFC 4904: parameters ahead of the `@` are the user's. Both ways.
#[test]
fn a_trunk_group_in_a_contact_is_spoken_to() {
    case(async || {
        let far = Far::start("trunk_group", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        let traffic = far.played().await;
        for method in ["ACK", "BYE"] {
            let line = traffic.our(method).line();
            let begins = format!("{method} sip:far;tgrp=one;trunk-context=far.invalid@127.0.0.1:");
            assert!(line.starts_with(&begins), "{line}");
        }

        let called = Called::new(66, notify());
        let far = called.call("caller_of_a_trunk_group");
        let row = beside(move || {
            let sid = called.until(&["ringing"])["sid"].as_str().unwrap().to_owned();
            called.decide("voice.calls.answer", &json!({"sid": sid}));
            called.until(&["in_progress"]);
            called.bench.hangup(&sid).data();
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        let line = far.played().await.our("BYE").line();
        assert!(line.starts_with("BYE sip:caller;tgrp=one;trunk-context=far.invalid@127.0.0.1:"), "{line}");
    });
}

/// RFC 3261 §18.2.2: an answer goes to where the request came from.
#[test]
fn a_caller_whose_via_names_nobody_is_answered_where_she_is() {
    case(async || {
        let (traffic, row, _) = to_its_end(Called::new(21, echo()), "caller_of_a_name", &[]).await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
        let via = traffic.ours("SIP/2.0 200")[0].header("Via").to_owned();
        assert!(via.contains("caller.invalid:5999") && via.contains("received=127.0.0.1"), "{via}");
    });
}

/// RFC 3261 §17.2.1, Timers G and H: for 64·T1, which are 3.2 s, with T2 as the longest pause, that is eleven times; for T4 it would be
/// four. A slow machine sends a few less.
#[test]
fn a_487_is_repeated_until_it_is_acknowledged() {
    case(async || {
        let (mut callee, far) = called("caller_is_not_heard", &[]).await;
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (LEFT, Some(EndedBy::Remote)));
        let traffic = far.played().await;
        traffic.our("SIP/2.0 487");
        assert!(traffic.ours("SIP/2.0 487").len() > 7, "it was not repeated to the end: {traffic:?}");
    });
}

/// The same.
#[test]
fn a_refusal_is_repeated_until_it_is_acknowledged() {
    case(async || {
        let (mut callee, far) = called("caller_hears_no_refusal", &[("code", "603"), ("deaf_ms", "4000")]).await;
        callee.turn_down();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::Declined, Some(603), Some(21)));
        let traffic = far.played().await;
        traffic.our("SIP/2.0 603");
        assert!(traffic.ours("SIP/2.0 603").len() > 7, "it was not repeated to the end: {traffic:?}");
    });
}

/// RFC 3261 §13.3.1.1. By this clock a minute is 0.6 s.
#[test]
fn a_180_is_said_again_each_minute() {
    case(async || {
        let (mut callee, far) = called_by(Duration::from_millis(5), "caller_refused", &[("code", "603")]).await;
        callee.until_heard_times(&far, "SIP/2.0 180", 3).await;
        callee.turn_down();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::Declined, Some(603), Some(21)));
        // All of them are the same.
        far.played().await.our("SIP/2.0 180");
    });
}

/// RFC 3311 §5.2.
#[test]
fn a_change_before_the_answer_is_told_when_to_come_again() {
    case(async || {
        let (mut callee, far) = called("caller_updates_early", &[]).await;
        callee.settled().await;
        assert_eq!(callee.ending(), LEFT);
        let seconds: u32 = far.played().await.our("SIP/2.0 500").header("Retry-After").parse().unwrap();
        assert!(seconds <= 10);
    });
}

/// A proxy keeps the Call-ID of what it sends on, and our own number may be behind it (RFC 3261 §8.2.2.2 is of requests that came in).
#[test]
fn a_call_of_ours_to_ourselves_is_two_calls() {
    case(async || {
        let called = Called::new(22, echo());
        let us = called.at.to_string();
        let far = Far::at(Transport::Udp, called.from, "sends_it_back", &[("us", &us)]).await;
        let (out, back) = beside(move || {
            let sid = originate(&called.bench);
            called.bench.wait(&sid, &["in_progress"]);
            let other = called.rows().into_iter().find(|row| row["sid"] != json!(sid)).expect("it came in");
            called.bench.hangup(&sid).data();
            (called.bench.ended(&sid), called.bench.ended(other["sid"].as_str().unwrap()))
        })
        .await;
        assert_eq!(out["sipCallId"], back["sipCallId"]);
        let said =
            |row: &serde_json::Value| ["direction", "status", "endReason", "endedBy"].map(|name| row[name].clone());
        assert_eq!(said(&out), ["outbound", "completed", "normal", "local"].map(|text| json!(text)), "{out}");
        assert_eq!(said(&back), ["inbound", "completed", "normal", "remote"].map(|text| json!(text)), "{back}");
        let traffic = far.played().await;
        assert!(traffic.ours("SIP/2.0 482").is_empty());
        traffic.our("BYE");
    });
}
