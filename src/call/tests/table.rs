//! The state table of calls, row by row: each test is named after its row, and stands for nothing else.

use std::time::Duration;

use super::super::*;
use super::row::*;

// Before the answer.

#[test]
fn dns_tcp_or_tls_failure() {
    Row::dialing().event(unreachable()).ends(Status::Failed, EndReason::NetworkError, EndedBy::Remote, 38);
}

#[test]
fn no_response_at_all_in_32_s() {
    let record = CallRecord { ring_timeout_s: 120, ..CallRecord::dialing("CA1".into(), START_MS) };
    let row = Row::new(|now| Call::dial(record, None, now)).after(31);
    assert_eq!(row.call.status(), Status::Dialing);
    row.after(1).ends(Status::Failed, EndReason::NoResponse, EndedBy::System, 18);
}

#[test]
fn ring_timer_with_no_provisional() {
    let row = Row::dialing().after(30);
    assert!(row.did(&Action::Cancel), "the trunk keeps it until a 1xx comes");
    row.ends(Status::Failed, EndReason::NoResponse, EndedBy::System, 18);
}

#[test]
fn ring_timer_after_a_bare_100() {
    let row = Row::trying().after(30);
    assert!(row.did(&Action::Cancel));
    row.ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 18);
}

#[test]
fn ring_timer_after_an_18x() {
    let row = Row::ringing().after(29);
    assert_eq!(row.call.status(), Status::Ringing);
    row.after(1).ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
}

#[test]
fn ring_timer_runs_from_the_invite() {
    let row = Row::trying().after(20).event(Event::Progress { code: 180 }).after(10);
    row.ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
}

#[test]
fn ring_timer_counts_the_wait_for_max_cps() {
    let later = Duration::from_secs(10);
    let row = Row::new(|now| Call::dial_at(CallRecord::dialing("CA1".into(), START_MS), None, now + later, now));
    assert!(!row.did(&Action::Dial));
    let row = row.after(10);
    assert!(row.did(&Action::Dial));
    let row = row.event(Event::Progress { code: 180 }).after(19);
    assert_eq!(row.call.status(), Status::Ringing);
    row.after(1).ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
}

#[test]
fn hangup_while_it_waits_for_max_cps() {
    let later = Duration::from_secs(10);
    let row = Row::new(|now| Call::dial_at(CallRecord::dialing("CA1".into(), START_MS), None, now + later, now));
    let row = row.after(5).command(Command::Hangup).after(60);
    assert!(!row.did(&Action::Dial) && !row.did(&Action::Cancel), "nothing was sent");
    row.ends(Status::Failed, EndReason::Canceled, EndedBy::Local, 31);
}

#[test]
fn _408_480_487_after_18x() {
    for code in [408, 480, 487] {
        Row::ringing().event(rejected(code)).ends(Status::NoAnswer, EndReason::RemoteTimeout, EndedBy::Remote, 18);
    }
}

#[test]
fn any_final_with_reason_18_or_19() {
    for (code, q850) in [(480, 18), (480, 19), (603, 19), (500, 18)] {
        let row = Row::trying().event(rejected_for(code, q850));
        row.ends(Status::NoAnswer, EndReason::RemoteTimeout, EndedBy::Remote, q850 as u8);
    }
}

#[test]
fn _480_or_408_without_18x() {
    for (code, q850) in [(480, 18), (408, 102)] {
        Row::trying().event(rejected(code)).ends(Status::Failed, EndReason::Unavailable, EndedBy::Remote, q850);
    }
}

#[test]
fn _486_and_600() {
    for code in [486, 600] {
        Row::ringing().event(rejected(code)).ends(Status::Failed, EndReason::Busy, EndedBy::Remote, 17);
    }
}

#[test]
fn _603_and_607() {
    for code in [603, 607] {
        Row::ringing().event(rejected(code)).ends(Status::Failed, EndReason::Declined, EndedBy::Remote, 21);
    }
}

#[test]
fn _401_and_407_after_credentials_and_403() {
    for (code, reason) in [(401, EndReason::AuthFailed), (407, EndReason::AuthFailed), (403, EndReason::Forbidden)] {
        Row::trying().event(rejected(code)).ends(Status::Failed, reason, EndedBy::Remote, 21);
    }
}

#[test]
fn _404_604_410_484() {
    for (code, reason, q850) in [
        (404, EndReason::NotFound, 1),
        (604, EndReason::NotFound, 1),
        (410, EndReason::NotFound, 22),
        (484, EndReason::InvalidNumber, 28),
    ] {
        Row::trying().event(rejected(code)).ends(Status::Failed, reason, EndedBy::Remote, q850);
    }
}

#[test]
fn _488_606_415() {
    for code in [488, 606, 415] {
        Row::trying().event(rejected(code)).ends(Status::Failed, EndReason::CodecMismatch, EndedBy::Remote, 79);
    }
    let row = Row::trying().event(rejected_for(488, 88));
    row.ends(Status::Failed, EndReason::CodecMismatch, EndedBy::Remote, 88);
}

#[test]
fn _5xx() {
    for code in [500, 501, 502, 503, 504, 513, 599] {
        let row = Row::trying().event(rejected(code));
        let record = row.call.record();
        assert_eq!((record.status, record.end_reason), (Status::Failed, Some(EndReason::CarrierError)), "{code}");
    }
    Row::trying().event(rejected(500)).ends(Status::Failed, EndReason::CarrierError, EndedBy::Remote, 41);
    Row::trying().event(rejected(503)).ends(Status::Failed, EndReason::CarrierError, EndedBy::Remote, 41);
    Row::trying().event(rejected_for(503, 34)).ends(Status::Failed, EndReason::CarrierError, EndedBy::Remote, 34);
}

#[test]
fn _5xx_that_names_a_limit() {
    let event = Event::Rejected { code: 503, reason: "CPS limit exceeded".into(), q850: None };
    Row::trying().event(event).ends(Status::Failed, EndReason::CarrierLimit, EndedBy::Remote, 34);
}

#[test]
fn _3xx_that_is_not_followed() {
    Row::trying().event(rejected(302)).ends(Status::Failed, EndReason::Redirected, EndedBy::Remote, None);
}

#[test]
fn hangup_before_the_answer() {
    for row in [Row::dialing(), Row::trying(), Row::ringing()] {
        let row = row.command(Command::Hangup);
        assert!(row.did(&Action::Cancel));
        row.ends(Status::Failed, EndReason::Canceled, EndedBy::Local, 31);
    }
}

#[test]
fn q850_from_the_header_before_the_table() {
    for (header, kept) in [(Some(20), 20), (Some(0), 17), (Some(128), 17), (None, 17)] {
        let event = Event::Rejected { code: 486, reason: String::new(), q850: header };
        Row::trying().event(event).ends(Status::Failed, EndReason::Busy, EndedBy::Remote, kept);
    }
}

/// RFC 3398 §8.2.6.1, with the rows that it leaves out.
#[test]
fn q850_of_every_code() {
    let table: &[(&[u16], u8)] = &[
        (&[400, 481, 500, 503], 41),
        (&[401, 402, 403, 407, 603], 21),
        (&[404, 485, 604], 1),
        (&[405], 63),
        (&[406, 415, 501], 79),
        (&[408, 504], 102),
        (&[410], 22),
        (&[413, 414, 416, 420, 421, 423, 505, 513], 127),
        (&[480], 18),
        (&[482, 483], 25),
        (&[484], 28),
        (&[486, 600], 17),
        (&[502], 38),
    ];
    for (codes, q850) in table {
        for code in *codes {
            let row = Row::trying().event(rejected(*code));
            assert_eq!(row.call.record().q850, Some(*q850), "{code}");
        }
    }
}

#[test]
fn what_the_record_keeps_of_a_final_answer() {
    let row = Row::dialing().event(Event::Placed { sip_call_id: "a1@h".into() }).event(rejected(486));
    let record = row.call.record();
    assert_eq!((record.sip_code, record.sip_phrase.as_deref()), (Some(486), Some("phrase")));
    assert_eq!(record.sip_call_id.as_deref(), Some("a1@h"));
}

#[test]
fn early_media_is_ringing_and_never_answer_time() {
    let row = Row::trying().event(Event::Progress { code: 183 }).after(5);
    assert_eq!((row.call.status(), row.call.record().answered_ms), (Status::Ringing, None));
    let row = row.event(Event::Answered);
    assert_eq!(row.call.record().answered_ms, Some(START_MS + 5000));
}

#[test]
fn a_200_that_races_our_cancel() {
    let row = Row::ringing().after(30).forgetting().event(Event::Answered);
    assert_eq!(row.done, [Action::Bye]);
    assert_eq!(row.call.status(), Status::NoAnswer);
    let row = Row::ringing().command(Command::Hangup).forgetting().event(Event::Answered);
    assert_eq!((row.done, row.call.status()), (vec![Action::Bye], Status::Failed));
}

#[test]
fn a_late_180_or_200_after_no_response() {
    let row = Row::dialing().after(30).forgetting().event(Event::Progress { code: 180 }).event(Event::Answered);
    assert_eq!(row.done, [Action::Bye]);
    assert_eq!(row.call.record().end_reason, Some(EndReason::NoResponse));
}

// After the answer.

#[test]
fn remote_bye() {
    Row::answered().event(Event::Bye { q850: None }).ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 16);
    let row = Row::answered().event(Event::Bye { q850: Some(31) });
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 31);
}

#[test]
fn our_bye() {
    let row = Row::answered().command(Command::Hangup);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Local, 16);
}

#[test]
fn bye_glare_and_the_first_sender_wins() {
    let row = Row::answered().command(Command::Hangup).event(Event::Bye { q850: Some(31) });
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Local, 16);
    let row = Row::answered().event(Event::Bye { q850: None }).command(Command::Hangup);
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 16);
}

#[test]
fn max_duration() {
    let limit = Some(Duration::from_secs(60));
    let row = Row::new(|now| Call::dial(CallRecord::dialing("CA1".into(), START_MS), limit, now));
    let row = row.event(Event::Answered).after(60);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::MaxDuration, EndedBy::System, 16);
}

#[test]
fn session_timer_refresh_failure() {
    let row = Row::answered().event(Event::SessionExpired);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::SessionExpired, EndedBy::System, 102);
}

#[test]
fn no_rtp() {
    let row = Row::answered().event(Event::MediaTimeout);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::MediaTimeout, EndedBy::System, 31);
}

#[test]
fn no_rtp_or_refresh_before_the_answer_means_nothing() {
    let row = Row::ringing().event(Event::MediaTimeout).event(Event::SessionExpired);
    assert_eq!(row.call.status(), Status::Ringing);
}

#[test]
fn node_drain_past_the_deadline() {
    let row = Row::answered().command(Command::Shutdown);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::ServerShutdown, EndedBy::System, 16);
}
