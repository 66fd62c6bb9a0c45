//! The rows of the state table about transfers: by REFER, by a second leg.

use super::super::*;
use super::row::*;

#[test]
fn refer_202_stops_the_agent_and_keeps_the_media() {
    let row = Row::answered_by(TransferMode::Refer).command(transfer(TO));
    assert!(row.did(&Action::Transfer { to: TO.into() }));
    let row = row.forgetting().event(Event::TransferAccepted);
    assert_eq!(row.done, [Action::Settled(Settled::Accepted), Action::PauseAgent, Action::Save]);
    assert_eq!(row.goes_on().transfer(), (TransferState::Accepted, None));
}

#[test]
fn refer_notify_2xx() {
    let row = Row::referred().event(Event::TransferOutcome { code: 200 });
    assert!(row.did(&Action::Bye));
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Local, 16);
    assert_eq!(row.transfer(), (TransferState::Completed, Some(200)));
    assert_eq!(row.call.record().transferred_to.as_deref(), Some(TO));
}

#[test]
fn refer_peer_bye_after_202() {
    let row = Row::referred().event(Event::Bye { q850: None });
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Remote, 16);
    assert_eq!(row.transfer(), (TransferState::Completed, None));
}

#[test]
fn refer_notify_failure_with_the_dialog_up_for_2_s() {
    let row = Row::referred().event(Event::TransferOutcome { code: 503 }).after(1);
    assert!(!row.did(&Action::ResumeAgent));
    let row = row.after(1);
    assert!(row.did(&Action::ResumeAgent));
    assert_eq!(row.goes_on().transfer(), (TransferState::Failed, Some(503)));
    // It is over: another may follow.
    let row = row.command(transfer("+1"));
    assert!(row.did(&Action::Transfer { to: "+1".into() }));
}

#[test]
fn refer_notify_failure_and_then_the_peers_bye() {
    let row = Row::referred().event(Event::TransferOutcome { code: 503 }).after(1).event(Event::Bye { q850: None });
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Remote, 16);
}

#[test]
fn refer_without_any_notify() {
    let row = Row::referred().after(39);
    assert!(!row.did(&Action::ResumeAgent));
    let row = row.after(1);
    assert!(row.did(&Action::ResumeAgent));
    assert_eq!(row.goes_on().transfer(), (TransferState::Unknown, None));
    // A late outcome counts.
    row.event(Event::TransferOutcome { code: 200 }).ends(Status::Completed, EndReason::Transferred, EndedBy::Local, 16);
}

#[test]
fn refer_without_any_notify_gives_way() {
    // The far end stays for an hour, and hangs up.
    let unknown = || Row::referred().after(40).forgetting();
    let row = unknown().after(3600).event(Event::Bye { q850: None });
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 16);
    assert_eq!((row.transfer(), row.call.record().transferred_to.as_deref()), ((TransferState::Unknown, None), None));
    // The same target or another: it is asked for anew.
    for to in [TO, "+1"] {
        let row = unknown().command(transfer(to));
        assert!(row.did(&Action::Transfer { to: to.into() }));
        assert_eq!(row.goes_on().transfer(), (TransferState::Pending, None));
    }
}

#[test]
fn refer_notify_before_the_202() {
    for mode in [TransferMode::Refer, TransferMode::Auto] {
        let referring = || Row::answered_by(mode).command(transfer(TO)).forgetting();
        let row = referring().event(Event::TransferOutcome { code: 200 }).event(Event::TransferAccepted);
        assert!(row.did(&Action::Settled(Settled::Accepted)) && row.did(&Action::Bye));
        row.ends(Status::Completed, EndReason::Transferred, EndedBy::Local, 16);
        let row = referring().event(Event::TransferOutcome { code: 603 }).event(Event::TransferAccepted).after(2);
        assert_eq!(row.goes_on().transfer(), (TransferState::Failed, Some(603)));
        // What it dials says no more than a 202.
        let row = referring().event(Event::TransferOutcome { code: 180 });
        assert_eq!(row.goes_on().transfer(), (TransferState::Pending, None));
    }
}

#[test]
fn refer_refused_in_mode_refer() {
    let row = Row::answered_by(TransferMode::Refer).command(transfer(TO)).event(Event::TransferRefused { code: 603 });
    assert!(row.did(&Action::Settled(Settled::Refused { code: 603 })));
    assert_eq!(row.goes_on().transfer(), (TransferState::Failed, Some(603)));
}

#[test]
fn a_second_transfer_while_one_is_pending() {
    let mut row = Row::answered_by(TransferMode::Refer).command(transfer(TO)).forgetting().command(transfer(TO));
    assert_eq!(row.done, [], "the same target joins");
    let now = row.now;
    assert_eq!(row.call.handle_command(transfer("+1"), now), Err(Refusal::OtherTransfer));
    let row = row.event(Event::TransferAccepted).forgetting().command(transfer(TO));
    assert_eq!(row.done, [Action::Settled(Settled::Accepted)], "and is told what is known");
}

#[test]
fn the_api_answers_before_25_s() {
    let row = Row::answered_by(TransferMode::Refer).command(transfer(TO)).after(20);
    assert!(row.did(&Action::Settled(Settled::Undecided)));
    assert_eq!(row.goes_on().transfer(), (TransferState::Pending, None));
}

// Transfer by a second leg.

#[test]
fn refer_refused_in_mode_auto_dials_a_second_leg() {
    let row = Row::answered_by(TransferMode::Auto).command(transfer(TO)).event(Event::TransferRefused { code: 405 });
    assert!(row.did(&Action::DialLeg { leg: 0, to: TO.into() }));
    let record = row.goes_on().call.record();
    assert_eq!((record.legs.len(), record.legs[0].state), (1, LegState::Dialing));
    assert_eq!(record.transfer.as_ref().map(|transfer| transfer.mode), Some(TransferMode::Bridge));
}

#[test]
fn mode_bridge_sends_no_refer() {
    let row = Row::answered_by(TransferMode::Bridge).command(transfer(TO));
    assert!(row.did(&Action::DialLeg { leg: 0, to: TO.into() }) && !row.did(&Action::Transfer { to: TO.into() }));
}

#[test]
fn second_leg_answered() {
    let row = Row::second().leg(LegEvent::Placed { sip_call_id: "b2@h".into() }).after(3).leg(LegEvent::Answered);
    let bridge = Action::Bridge { leg: 0 };
    assert!(row.did(&Action::Settled(Settled::Accepted)) && row.did(&Action::PauseAgent) && row.did(&bridge));
    let record = row.goes_on().call.record();
    let leg = &record.legs[0];
    assert_eq!((leg.state, leg.answered_ms), (LegState::InProgress, Some(START_MS + 3000)));
    assert_eq!((leg.sip_call_id.as_deref(), record.transferred_to.as_deref()), (Some("b2@h"), Some(TO)));
    assert_eq!(row.transfer(), (TransferState::Bridged, None));
}

#[test]
fn second_leg_refused() {
    let row = Row::second().leg(LegEvent::Rejected { code: 486, q850: Some(17) });
    assert!(row.did(&Action::Settled(Settled::Refused { code: 486 })));
    assert!(!row.did(&Action::PauseAgent), "the agent never stopped");
    let leg = &row.goes_on().call.record().legs[0];
    assert_eq!((leg.state, leg.sip_code, leg.q850), (LegState::Failed, Some(486), Some(17)));
    // The next one is another leg.
    let row = row.command(transfer("+1"));
    assert!(row.did(&Action::DialLeg { leg: 1, to: "+1".into() }));
}

#[test]
fn second_leg_without_an_answer() {
    let row = Row::second().leg(LegEvent::Ringing).after(30);
    assert!(row.did(&Action::Settled(Settled::Undecided)) && row.did(&Action::CancelLeg { leg: 0 }));
    assert_eq!(row.goes_on().transfer(), (TransferState::Failed, Some(408)));
    // Its 200 raced our CANCEL.
    let row = row.forgetting().leg(LegEvent::Answered);
    assert_eq!(row.done, [Action::ByeLeg { leg: 0 }]);
}

#[test]
fn both_legs_are_tied() {
    let row = Row::bridged().event(Event::Bye { q850: None });
    assert!(row.did(&Action::ByeLeg { leg: 0 }));
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Remote, 16);
    let row = Row::bridged().leg(LegEvent::Bye { q850: Some(31) });
    assert!(row.did(&Action::Bye) && !row.did(&Action::ByeLeg { leg: 0 }));
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Remote, 31);
    let row = Row::bridged().command(Command::Hangup);
    assert!(row.did(&Action::Bye) && row.did(&Action::ByeLeg { leg: 0 }));
    row.ends(Status::Completed, EndReason::Transferred, EndedBy::Local, 16);
    let leg = &row.call.record().legs[0];
    assert_eq!((leg.state, leg.ended_ms.is_some()), (LegState::Ended, true));
}

#[test]
fn the_first_leg_leaves_while_the_second_rings() {
    let row = Row::second().event(Event::Bye { q850: None });
    assert!(row.did(&Action::CancelLeg { leg: 0 }) && row.did(&Action::Settled(Settled::Over)));
    row.ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 16);
    assert_eq!(row.transfer(), (TransferState::Failed, None));
}

#[test]
fn a_bridged_call_is_not_transferred_again() {
    let mut row = Row::bridged();
    assert_eq!(row.call.handle_command(transfer("+1"), row.now), Err(Refusal::Bridged));
    let agent = Command::Agent { id: "billing".into() };
    assert_eq!(row.call.handle_command(agent, row.now), Err(Refusal::Bridged), "the other number has its place");
}

#[test]
fn transfer_to_an_agent_leaves_sip_alone() {
    let row = Row::answered().command(Command::Agent { id: "billing".into() });
    assert_eq!(row.done, [Action::Save]);
    assert_eq!(row.goes_on().call.record().agent.as_deref(), Some("billing"));
}
