//! Whatever happens in whatever order.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{Bench, START_MS};

/// Anything that a trunk, a user or the clock may do.
#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Command(Command),
    Wait(u64),
}

fn leg_event() -> impl Strategy<Value = LegEvent> {
    prop_oneof![
        Just(LegEvent::Placed { sip_call_id: "b".into() }),
        Just(LegEvent::Ringing),
        Just(LegEvent::Answered),
        any::<u16>().prop_map(|code| LegEvent::Rejected { code, q850: None }),
        any::<Option<u16>>().prop_map(|q850| LegEvent::Bye { q850 }),
    ]
}

fn mode() -> impl Strategy<Value = TransferMode> {
    prop_oneof![Just(TransferMode::Auto), Just(TransferMode::Refer), Just(TransferMode::Bridge)]
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        Just(Event::Trying),
        (0u16..999).prop_map(|code| Event::Progress { code }),
        Just(Event::Answered),
        (any::<u16>(), ".{0,20}", any::<Option<u16>>()).prop_map(|(code, reason, q850)| Event::Rejected {
            code,
            reason,
            q850
        }),
        ".{0,20}".prop_map(|reason| Event::Unreachable { reason }),
        any::<Option<u16>>().prop_map(|q850| Event::Bye { q850 }),
        Just(Event::TransferAccepted),
        any::<u16>().prop_map(|code| Event::TransferRefused { code }),
        any::<u16>().prop_map(|code| Event::TransferOutcome { code }),
        Just(Event::Acked),
        Just(Event::Unacked),
        any::<[Option<u16>; 2]>().prop_map(|[q850, code]| Event::Cancelled { q850, code }),
        Just(Event::SessionExpired),
        Just(Event::MediaTimeout),
        "[a-z]{1,4}".prop_map(|sip_call_id| Event::Placed { sip_call_id }),
        (0usize..3, leg_event()).prop_map(|(leg, event)| Event::SecondLeg { leg, event }),
    ];
    let command = prop_oneof![
        Just(Command::Hangup),
        "[+][12]".prop_map(|to| Command::Transfer { to }),
        Just(Command::Agent { id: "echo".into() }),
        Just(Command::Shutdown),
        Just(Command::Answer),
        Just(Command::Reject(Reject::Busy)),
    ];
    prop_oneof![
        8 => event.prop_map(Step::Event),
        3 => command.prop_map(Step::Command),
        3 => (0u64..60).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_panics_goes_back_or_leaves_the_end(
        steps in prop::collection::vec(step(), 0..24),
        mode in mode(),
        inbound in any::<bool>(),
    ) {
        let mut bench = Bench::with(30, Some(Duration::from_secs(600)));
        if inbound {
            bench.call = Call::ring(CallRecord::ringing("CA1".into(), START_MS), None, bench.now);
            bench.actions();
        }
        bench.call.transfers_by(mode);
        for step in steps {
            let before = bench.call.record().clone();
            let mut starts = 0;
            match step {
                Step::Event(event) => bench = bench.event(event),
                Step::Command(command) => drop(bench.call.handle_command(command, bench.now)),
                Step::Wait(seconds) => bench = bench.after(seconds),
            }
            let actions = bench.actions();
            starts += actions.iter().filter(|action| **action == Action::StartMedia).count();
            let after = bench.call.record();
            prop_assert!(rank(after.status) >= rank(before.status));
            prop_assert_eq!(starts, usize::from(before.answered_ms.is_none() && after.answered_ms.is_some()));
            prop_assert!(after == &before || actions.contains(&Action::Save));
            let ended = after.status.is_terminal();
            prop_assert_eq!(ended, after.ended_ms.is_some() && after.end_reason.is_some() && after.ended_by.is_some());
            prop_assert_eq!(actions.contains(&Action::EndMedia), ended && !before.status.is_terminal());
            if before.status.is_terminal() {
                prop_assert_eq!(after, &before);
                let hangs_up = |action: &Action| matches!(action, Action::Bye | Action::ByeLeg { .. });
                prop_assert!(actions.iter().all(hangs_up));
            }
        }
    }
}

fn rank(status: Status) -> u8 {
    match status {
        Status::Dialing => 0,
        Status::Ringing => 1,
        Status::InProgress => 2,
        Status::Completed | Status::Failed | Status::NoAnswer => 3,
    }
}
