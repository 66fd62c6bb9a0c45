//! Calls that are answered: how they begin, and how either side ends them.

use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::sip::{Transactions, Transport};

use crate::rig::{Caller, Far, LIMIT, Wishes, case, free_port, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));

#[test]
fn the_far_end_hangs_up() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        let record = caller.record();
        assert_eq!((record.ended_by, caller.legs), (Some(EndedBy::Remote), 1));
        assert!(record.ringing_ms.is_some() && record.answered_ms.is_some());
        let traffic = far.played().await;
        let (invite, ack) = (traffic.our("INVITE"), traffic.our("ACK"));
        assert!(invite.text.starts_with("INVITE sip:+15550001234@127.0.0.1:"), "{}", invite.text);
        assert!(invite.header("From").starts_with("<sip:+15558675309@127.0.0.1:"), "{}", invite.text);
        assert_eq!(invite.header("Content-Type"), "application/sdp");
        assert!(invite.header("Allow").contains("UPDATE") && invite.lacks("Authorization"));
        let number = |header: &str| header.split(' ').next().unwrap().to_owned();
        assert_eq!(number(ack.header("CSeq")), number(invite.header("CSeq")));
        assert!(ack.text.starts_with("ACK sip:far@127.0.0.1:"), "not to its Contact: {}", ack.text);
        assert!(ack.header("To").ends_with(";tag=far"));
        assert_eq!(traffic.each("SIP/2.0 200").len(), 1);
        assert!(traffic.ours("BYE").is_empty());
    });
}

/// RFC 3261 §18.1.1 would have it over TCP, which nobody offers here (decision 0189).
#[test]
fn a_request_that_is_longer_than_a_packet_is_one_datagram_all_the_same() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let mut caller = Caller::idle(towards(Transport::Udp, far.port)).await;
        let header = |nth: usize| (format!("X-Long-{nth}"), "a".repeat(240));
        caller.carried.headers = (0..8).map(header).collect();
        clutchcall::call::carried::check_headers(&caller.carried.headers).unwrap();
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        assert!((2600..4000).contains(&invite.text.len()), "{} bytes", invite.text.len());
        assert_eq!((invite.header("X-Long-7").len(), invite.text.contains("m=audio ")), (240, true));
        assert!(invite.header("Via").starts_with("SIP/2.0/UDP "));
    });
}

#[test]
fn we_hang_up() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        let traffic = far.played().await;
        let bye = traffic.our("BYE");
        assert!(bye.text.starts_with("BYE sip:far@127.0.0.1:"), "{}", bye.text);
        assert!(bye.header("Reason").starts_with("Q.850;cause=16"));
        assert_eq!(bye.header("Call-ID"), traffic.our("INVITE").header("Call-ID"));
        assert!(bye.header("To").ends_with(";tag=far"));
        assert!(traffic.ours("CANCEL").is_empty());
    });
}

#[test]
fn a_call_that_may_last_no_longer_is_hung_up() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let wishes = Wishes { max_duration: Some(Duration::from_secs(1)), ..Wishes::default() };
        let mut caller = Caller::with(&far, wishes).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::MaxDuration, None, Some(16)));
        assert_eq!(caller.record().ended_by, Some(EndedBy::System));
        let traffic = far.played().await;
        assert!(traffic.our("BYE").text.starts_with("BYE sip:far@127.0.0.1:"));
        assert!(traffic.ours("CANCEL").is_empty());
    });
}

#[test]
fn over_tcp() {
    case(async || {
        let far = Far::over(Transport::Tcp, "our_bye", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        assert!(invite.header("Via").starts_with("SIP/2.0/TCP 127.0.0.1:"), "{}", invite.text);
        assert!(invite.header("Contact").to_lowercase().contains(";transport=tcp"), "{}", invite.text);
        // Nothing is repeated where nothing gets lost.
        assert_eq!((traffic.ours("INVITE").len(), traffic.ours("BYE").len()), (1, 1));
    });
}

#[test]
fn nobody_listens_on_tcp() {
    case(async || {
        let mut caller = Caller::idle(towards(Transport::Tcp, free_port())).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::NetworkError, None, Some(38)));
        let why = caller.record().sip_phrase.as_deref().unwrap();
        assert!(why.to_lowercase().contains("connection refused"), "{why}");
    });
}

#[test]
fn an_acknowledgement_is_lost() {
    case(async || {
        let far = Far::start("loses_ack", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        assert!(traffic.ours("ACK").len() >= 2, "{traffic:?}");
        traffic.our("ACK");
    });
}

#[test]
fn both_hang_up_at_once() {
    case(async || {
        let far = Far::start("glare", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        let traffic = far.played().await;
        assert!(traffic.our("SIP/2.0 200").header("CSeq").ends_with("BYE"));
    });
}

#[test]
fn a_bye_that_nobody_answers() {
    case(async || {
        let far = Far::start("deaf", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        assert_eq!(caller.ending(), NORMAL);
        caller.settled().await;
        let traffic = far.played().await;
        // Doubled without T2 they would be seven (RFC 3261 §17.1.2.2); a slow machine sends a few less than eleven.
        assert!(traffic.ours("BYE").len() > 7, "it was not repeated: {traffic:?}");
        traffic.our("BYE");
    });
}

#[test]
fn two_phones_answer() {
    case(async || {
        let far = Far::start("forks", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        // The one that came second was hung up; the first one talked, and left.
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        assert!(traffic.our("BYE").header("To").ends_with(";tag=other"));
    });
}

/// What is kept of a call that is over is kept by its stack: T4, twice, would be 40 s here.
#[test]
fn a_stack_that_ends_leaves_no_task_behind() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let mut caller = Caller::at(Duration::from_secs(2), towards(Transport::Udp, far.port)).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        far.played().await;
        drop(caller);
        let (tasks, begun) = (tokio::runtime::Handle::current().metrics(), Instant::now());
        while tasks.num_alive_tasks() > 0 {
            assert!(begun.elapsed() < LIMIT, "{} tasks live on", tasks.num_alive_tasks());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn an_answer_repeated_behind_the_end_is_acknowledged_by_the_little_that_is_kept() {
    case(async || {
        let far = Far::start("repeats_its_answer", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        caller.until_kept(Transactions { running: 0, remembered: 1 }).await;
        // The far side repeats itself later than that, and before 64·T1 are over.
        assert_eq!(far.traffic().ours("ACK").len(), 1, "the INVITE was kept whole for 64·T1");
        let traffic = far.played().await;
        let acks = traffic.ours("ACK");
        assert_eq!(
            (acks.len(), acks[0].header("To"), acks[0].header("CSeq")),
            (2, acks[1].header("To"), acks[1].header("CSeq"))
        );
    });
}

#[test]
fn an_answer_of_no_use() {
    case(async || {
        let far = Far::start("other_codec", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!(
            (caller.record().status, caller.record().end_reason),
            (Status::Failed, Some(EndReason::CodecMismatch))
        );
        assert_eq!((caller.record().q850, caller.record().answered_ms, caller.legs), (Some(79), None, 0));
        assert!(far.played().await.our("BYE").header("Reason").starts_with("Q.850;cause=88"));
    });
}

#[test]
fn an_answer_may_have_its_description_in_the_183_before_it() {
    case(async || {
        let far = Far::start("early_and_bare", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        far.played().await.our("ACK");
    });
}

#[test]
fn a_202_without_a_contact_is_an_answer() {
    case(async || {
        let far = Far::start("bare_202", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        far.played().await;
    });
}

/// RFC 3261 §18.3: over UDP a message without one goes to the end of its datagram.
#[test]
fn an_answer_without_a_content_length_has_its_description() {
    case(async || {
        let far = Far::start("measures_nothing", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert!(far.played().await.our("BYE").header("Reason").starts_with("Q.850;cause=16"));
    });
}

/// No phrases, no tag and no Contact before the answer (RFC 2543), a Contact without brackets, a description of what it can't do without.
#[test]
fn a_far_end_that_says_no_more_than_it_must_is_talked_to_and_hung_up() {
    case(async || {
        let far = Far::start("sparing", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        assert!(caller.record().ringing_ms.is_some());
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        let bye = traffic.our("BYE");
        assert!(bye.line().starts_with("BYE sip:far@127.0.0.1:") && !bye.line().contains(";q="), "{}", bye.text);
        assert!(bye.header("To").ends_with(";tag=far"), "{}", bye.text);
    });
}

#[test]
fn a_far_end_that_hangs_up_for_two_reasons() {
    case(async || {
        let far = Far::start("far_bye_for_two_reasons", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(19)));
        far.played().await;
    });
}
