//! The rows of the state table about calls that come in.

use super::super::*;
use super::row::*;

#[test]
fn inbound_rings_from_the_first_moment() {
    let row = Row::new(|now| Call::ring(CallRecord::ringing("CA1".into(), START_MS), None, now));
    assert_eq!((row.done, row.call.status()), (vec![Action::Ring], Status::Ringing));
}

#[test]
fn inbound_is_in_progress_once_its_200_is_acked() {
    let mut row = Row::inbound().command(Command::Answer);
    assert_eq!(row.done, [Action::Answer]);
    for command in [Command::Answer, Command::Reject(Reject::Busy)] {
        assert_eq!(row.call.handle_command(command, row.now), Err(Refusal::Answered), "its 200 is on its way");
    }
    let row = row.after(39);
    assert_eq!(row.call.status(), Status::Ringing, "no ring timer ends a call that was answered");
    let row = row.forgetting().event(Event::Acked);
    assert_eq!(row.done, [Action::StartMedia, Action::Save]);
    row.goes_on();
}

#[test]
fn inbound_lost_ack() {
    let row = Row::inbound().command(Command::Answer).event(Event::Unacked);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Failed, EndReason::NoAck, EndedBy::System, 102);
}

#[test]
fn inbound_no_ack_and_no_word_of_the_trunk() {
    let row = Row::inbound().after(29).command(Command::Answer).after(39);
    assert_eq!(row.call.status(), Status::Ringing);
    let row = row.after(1);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Failed, EndReason::NoAck, EndedBy::System, 102);
}

#[test]
fn inbound_nobody_answers_in_30_s() {
    let row = Row::inbound().after(30);
    assert!(row.did(&Action::Reject { code: 480 }));
    row.ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
}

#[test]
fn inbound_reject() {
    for (reject, code, reason, q850) in [
        (Reject::Busy, 486, EndReason::Busy, 17),
        (Reject::Declined, 603, EndReason::Declined, 21),
        (Reject::Unavailable, 480, EndReason::Unavailable, 18),
        (Reject::NotFound, 404, EndReason::NotFound, 1),
        (Reject::Forbidden, 403, EndReason::Forbidden, 21),
    ] {
        let row = Row::inbound().command(Command::Reject(reject));
        assert!(row.did(&Action::Reject { code }));
        row.ends(Status::Failed, reason, EndedBy::Local, q850);
        assert_eq!(row.call.record().sip_code, Some(code));
    }
}

#[test]
fn inbound_the_caller_gives_up() {
    for (q850, code, cause) in
        [(None, None, 31), (Some(0), None, 31), (Some(16), None, 16), (None, Some(600), 17), (Some(18), Some(408), 18)]
    {
        let row = Row::inbound().event(Event::Cancelled { q850, code });
        row.ends(Status::NoAnswer, EndReason::Canceled, EndedBy::Remote, cause);
    }
}

#[test]
fn inbound_another_phone_takes_it() {
    for (q850, code, cause) in [(None, Some(200), 26), (Some(26), None, 26), (Some(16), Some(202), 16)] {
        let row = Row::inbound().event(Event::Cancelled { q850, code });
        row.ends(Status::NoAnswer, EndReason::AnsweredElsewhere, EndedBy::Remote, cause);
    }
}

#[test]
fn inbound_hangup_and_shutdown_while_it_rings() {
    let row = Row::inbound().command(Command::Hangup);
    assert!(row.did(&Action::Reject { code: 603 }));
    row.ends(Status::Failed, EndReason::Declined, EndedBy::Local, 21);
    let row = Row::inbound().command(Command::Shutdown);
    assert!(row.did(&Action::Reject { code: 503 }));
    row.ends(Status::Failed, EndReason::ServerShutdown, EndedBy::System, 41);
}

#[test]
fn answer_and_reject_are_for_calls_that_ring_here() {
    for command in [Command::Answer, Command::Reject(Reject::Busy)] {
        let mut out = Row::ringing();
        assert_eq!(out.call.handle_command(command.clone(), out.now), Err(Refusal::Outbound));
        let mut up = Row::inbound().command(Command::Answer).event(Event::Acked);
        assert_eq!(up.call.handle_command(command.clone(), up.now), Err(Refusal::Answered));
        let mut over = Row::inbound().event(Event::Cancelled { q850: None, code: None });
        assert_eq!(over.call.handle_command(command, over.now), Err(Refusal::Over));
    }
}

#[test]
fn inbound_a_bye_instead_of_a_cancel() {
    Row::inbound().event(Event::Bye { q850: Some(16) }).ends(
        Status::NoAnswer,
        EndReason::Canceled,
        EndedBy::Remote,
        16,
    );
    let row = Row::inbound().command(Command::Answer).event(Event::Bye { q850: None });
    row.ends(Status::NoAnswer, EndReason::Canceled, EndedBy::Remote, 31);
}

#[test]
fn inbound_a_description_that_nobody_can_take() {
    let rejected = || Event::Rejected { code: 488, reason: "no codec in common".to_owned(), q850: None };
    for row in [Row::inbound(), Row::inbound().command(Command::Answer)] {
        let row = row.event(rejected());
        row.ends(Status::Failed, EndReason::CodecMismatch, EndedBy::System, 79);
        assert_eq!(row.call.record().sip_code, Some(488));
    }
}

#[test]
fn inbound_an_announcement_ends_the_call() {
    let mut row = Row::inbound();
    row.call.lasts(std::time::Duration::from_secs(4), EndReason::Normal);
    let row = row.command(Command::Answer).event(Event::Acked).forgetting().after(3);
    row.goes_on();
    let row = row.after(1);
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::Normal, EndedBy::System, 16);
}

#[test]
fn inbound_shutdown_behind_our_200() {
    let row = Row::inbound().command(Command::Answer).command(Command::Shutdown);
    assert!(row.did(&Action::Bye), "its trunk says it once the 200 is acknowledged");
    row.ends(Status::Failed, EndReason::ServerShutdown, EndedBy::System, 31);
}
