//! Every transition, in virtual time.

use std::time::{Duration, Instant};

mod inbound;
mod order;
mod row;
mod table;
mod transfers;

use super::*;

const START_MS: u64 = 1_764_000_000_000;

/// A call and the virtual clock it lives by.
struct Bench {
    call: Call,
    now: Instant,
    done: Vec<Action>,
}

impl Bench {
    fn dialing() -> Self {
        Self::with(30, None)
    }

    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    fn with(ring_timeout_s: u32, max_duration: Option<Duration>) -> Self {
        let record = CallRecord {
            org_id: "org".into(),
            to: "+15551234567".into(),
            from: "+15558675309".into(),
            trunk_id: "trunk_main".into(),
            ring_timeout_s,
            ..CallRecord::dialing("CA1".into(), START_MS)
        };
        let now = Instant::now();
        let mut bench = Self { call: Call::dial(record, max_duration, now), now, done: vec![] };
        assert_eq!(bench.actions(), [Action::Dial]);
        bench
    }

    fn ringing() -> Self {
        Self::dialing().event(Event::Trying).event(Event::Progress { code: 180 })
    }

    /// On a trunk that knows REFER only; what bridges do stands in `table`.
    fn answered() -> Self {
        let mut bench = Self::ringing().event(Event::Answered);
        bench.call.transfers_by(TransferMode::Refer);
        bench.done.clear();
        bench
    }

    fn event(mut self, event: Event) -> Self {
        self.call.handle_event(event, self.now);
        self.done.extend(std::iter::from_fn(|| self.call.poll_action()));
        self
    }

    fn command(mut self, command: Command) -> Self {
        self.call.handle_command(command, self.now).expect("the command is possible in this state");
        self.done.extend(std::iter::from_fn(|| self.call.poll_action()));
        self
    }

    /// Lets time run, with every timer that falls due on the way.
    fn after(mut self, seconds: u64) -> Self {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.call.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.call.handle_timeout(at);
        }
        self.now = until;
        self.done.extend(std::iter::from_fn(|| self.call.poll_action()));
        self
    }

    fn actions(&mut self) -> Vec<Action> {
        self.done.extend(std::iter::from_fn(|| self.call.poll_action()));
        std::mem::take(&mut self.done)
    }

    fn refused(&mut self, command: Command) -> Refusal {
        self.call.handle_command(command, self.now).expect_err("the command is impossible in this state")
    }

    #[track_caller]
    fn ends(&self, status: Status, reason: EndReason, by: EndedBy, q850: impl Into<Option<u8>>) {
        let record = self.call.record();
        assert_eq!(
            (record.status, record.end_reason, record.ended_by, record.q850),
            (status, Some(reason), Some(by), q850.into())
        );
        assert!(record.ended_ms.is_some() && self.call.poll_timeout().is_none());
    }
}

fn rejected(code: u16) -> Event {
    Event::Rejected { code, reason: "phrase".into(), q850: None }
}

/// Nobody could be asked.
fn unreachable() -> Event {
    Event::Unreachable { reason: "no address".into() }
}

fn transfer(to: &str) -> Command {
    Command::Transfer { to: to.into() }
}

#[test]
fn the_ring_timeout_is_clamped_and_rounded() {
    for (seconds, clamped) in
        [(-1.0, 5), (0.0, 5), (4.99, 5), (5.4, 5), (30.0, 30), (119.6, 120), (120.5, 120), (1e300, 120)]
    {
        assert_eq!(clamp_ring_timeout(seconds), clamped);
    }
}

#[test]
fn trying_is_still_dialing() {
    assert_eq!(Bench::dialing().event(Event::Trying).call.status(), Status::Dialing);
}

#[test]
fn only_180_to_183_ring() {
    for (code, status) in [
        (100, Status::Dialing),
        (180, Status::Ringing),
        (181, Status::Ringing),
        (182, Status::Ringing),
        (183, Status::Ringing),
        (199, Status::Dialing),
    ] {
        assert_eq!(Bench::dialing().event(Event::Progress { code }).call.status(), status, "{code}");
    }
}

#[test]
fn ringing_is_stamped_and_saved_once() {
    let mut bench = Bench::dialing().after(2).event(Event::Progress { code: 183 });
    assert_eq!(bench.actions(), [Action::Save]);
    assert_eq!(bench.call.record().ringing_ms, Some(START_MS + 2000));
    let mut bench = bench.after(1).event(Event::Progress { code: 180 });
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.call.record().ringing_ms, Some(START_MS + 2000));
}

#[test]
fn an_answer_starts_the_media_with_or_without_ringing() {
    for bench in [Bench::dialing(), Bench::ringing()] {
        let mut bench = bench.after(3);
        bench.actions();
        bench = bench.event(Event::Answered);
        assert_eq!(bench.actions(), [Action::StartMedia, Action::Save]);
        assert_eq!(bench.call.status(), Status::InProgress);
        assert_eq!(bench.call.record().answered_ms, Some(START_MS + 3000));
    }
}

#[test]
fn a_status_never_moves_backwards() {
    let mut bench = Bench::answered().event(Event::Progress { code: 180 }).event(Event::Trying).event(rejected(486));
    bench = bench.event(Event::Answered);
    assert_eq!(bench.call.status(), Status::InProgress);
    assert_eq!(bench.actions(), []);
}

#[test]
fn the_ring_timer_after_ringing() {
    let mut bench = Bench::ringing();
    bench.actions();
    bench = bench.after(29);
    assert_eq!(bench.call.status(), Status::Ringing);
    bench = bench.after(1);
    assert_eq!(bench.actions(), [Action::Cancel, Action::EndMedia, Action::Save]);
    bench.ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
    assert_eq!(bench.call.record().ended_ms, Some(START_MS + 30_000));
}

#[test]
fn the_ring_timer_after_no_more_than_trying() {
    Bench::dialing().event(Event::Trying).after(120).ends(
        Status::NoAnswer,
        EndReason::RingTimeout,
        EndedBy::System,
        18,
    );
}

#[test]
fn the_ring_timer_runs_from_the_dial_and_not_from_the_ringing() {
    let bench = Bench::dialing().event(Event::Trying).after(20).event(Event::Progress { code: 180 }).after(10);
    bench.ends(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
}

#[test]
fn the_ring_timer_without_any_response() {
    Bench::with(5, None).after(5).ends(Status::Failed, EndReason::NoResponse, EndedBy::System, 18);
}

#[test]
fn no_response_for_32_seconds_whatever_the_ring_timeout() {
    let bench = Bench::with(120, None).after(31);
    assert_eq!(bench.call.status(), Status::Dialing);
    let mut bench = bench.after(1);
    assert_eq!(bench.actions()[0], Action::Cancel);
    bench.ends(Status::Failed, EndReason::NoResponse, EndedBy::System, 18);
}

#[test]
fn a_response_stops_the_no_response_timer() {
    assert_eq!(Bench::with(120, None).event(Event::Trying).after(119).call.status(), Status::Dialing);
}

#[test]
fn an_answered_call_has_no_ring_timer() {
    let bench = Bench::answered().after(86_400);
    assert_eq!(bench.call.status(), Status::InProgress);
    assert_eq!(bench.call.poll_timeout(), None);
}

#[test]
fn final_answers_before_ringing() {
    use EndReason::*;
    for (code, reason, q850) in [
        (302, Redirected, None),
        (400, CarrierError, Some(41)),
        (401, AuthFailed, Some(21)),
        (402, Forbidden, Some(21)),
        (403, Forbidden, Some(21)),
        (404, NotFound, Some(1)),
        (405, CarrierError, Some(63)),
        (406, CarrierError, Some(79)),
        (407, AuthFailed, Some(21)),
        (408, Unavailable, Some(102)),
        (410, NotFound, Some(22)),
        (415, CodecMismatch, Some(79)),
        (420, CarrierError, Some(127)),
        (480, Unavailable, Some(18)),
        (482, CarrierError, Some(25)),
        (484, InvalidNumber, Some(28)),
        (485, NotFound, Some(1)),
        (486, Busy, Some(17)),
        (487, Unavailable, Some(31)),
        (488, CodecMismatch, Some(79)),
        (500, CarrierError, Some(41)),
        (502, CarrierError, Some(38)),
        (503, CarrierError, Some(41)),
        (504, CarrierError, Some(102)),
        (600, Busy, Some(17)),
        (603, Declined, Some(21)),
        (604, NotFound, Some(1)),
        (606, CodecMismatch, Some(79)),
        (607, Declined, Some(21)),
    ] {
        let mut bench = Bench::dialing().event(rejected(code));
        assert_eq!(bench.actions(), [Action::EndMedia, Action::Save], "{code}");
        bench.ends(Status::Failed, reason, EndedBy::Remote, q850);
        assert_eq!(bench.call.record().sip_code, Some(code));
        assert_eq!(bench.call.record().sip_phrase.as_deref(), Some("phrase"));
    }
}

#[test]
fn the_far_sides_own_timeout_after_ringing() {
    for code in [408, 480, 487] {
        Bench::ringing().event(rejected(code)).ends(Status::NoAnswer, EndReason::RemoteTimeout, EndedBy::Remote, 18);
    }
}

#[test]
fn a_busy_answer_after_ringing_is_still_busy() {
    Bench::ringing().event(rejected(486)).ends(Status::Failed, EndReason::Busy, EndedBy::Remote, 17);
}

#[test]
fn a_cause_of_no_answer_makes_any_final_answer_one() {
    for cause in [18, 19] {
        let event = Event::Rejected { code: 500, reason: String::new(), q850: Some(cause) };
        let bench = Bench::dialing().event(event);
        bench.ends(Status::NoAnswer, EndReason::RemoteTimeout, EndedBy::Remote, cause as u8);
        assert_eq!(bench.call.record().sip_phrase, None);
    }
}

#[test]
fn the_answers_own_cause_wins_and_nonsense_does_not() {
    for (given, kept) in [(Some(20), 20), (Some(0), 17), (Some(128), 17), (Some(u16::MAX), 17), (None, 17)] {
        let event = Event::Rejected { code: 486, reason: String::new(), q850: given };
        Bench::dialing().event(event).ends(Status::Failed, EndReason::Busy, EndedBy::Remote, kept);
    }
}

#[test]
fn a_carrier_that_names_its_limit() {
    for (code, phrase, reason, q850) in [
        (503, "CPS limit exceeded", EndReason::CarrierLimit, 34),
        (500, "concurrent calls limit exceeded", EndReason::CarrierLimit, 41),
        (503, "speed limit exceeded", EndReason::CarrierError, 41),
    ] {
        let event = Event::Rejected { code, reason: phrase.into(), q850: None };
        Bench::dialing().event(event).ends(Status::Failed, reason, EndedBy::Remote, q850);
    }
}

#[test]
fn an_unreachable_first_hop() {
    let bench = Bench::dialing().event(unreachable());
    assert_eq!((bench.call.record().sip_code, bench.call.record().sip_phrase.as_deref()), (None, Some("no address")));
    bench.ends(Status::Failed, EndReason::NetworkError, EndedBy::Remote, 38);
}

#[test]
fn a_far_end_lost_after_the_answer_has_completed() {
    Bench::answered().event(unreachable()).ends(Status::Completed, EndReason::Normal, EndedBy::Remote, 38);
}

#[test]
fn the_far_end_hangs_up() {
    for (given, kept) in [(None, 16), (Some(31), 31), (Some(0), 16)] {
        let mut bench = Bench::answered().after(7).event(Event::Bye { q850: given });
        assert_eq!(bench.actions(), [Action::EndMedia, Action::Save]);
        bench.ends(Status::Completed, EndReason::Normal, EndedBy::Remote, kept);
        assert_eq!(bench.call.record().ended_ms, Some(START_MS + 7000));
    }
}

#[test]
fn a_far_end_that_hangs_up_before_it_answers() {
    let ringing = Bench::ringing().event(Event::Bye { q850: None });
    ringing.ends(Status::Failed, EndReason::Unavailable, EndedBy::Remote, 31);
}

#[test]
fn hangup_while_dialing_and_ringing_cancels() {
    for mut bench in [Bench::dialing(), Bench::dialing().event(Event::Trying), Bench::ringing()] {
        bench.actions();
        let mut bench = bench.command(Command::Hangup);
        assert_eq!(bench.actions(), [Action::Cancel, Action::EndMedia, Action::Save]);
        bench.ends(Status::Failed, EndReason::Canceled, EndedBy::Local, 31);
    }
}

#[test]
fn hangup_in_progress_says_bye() {
    let mut bench = Bench::answered().command(Command::Hangup);
    assert_eq!(bench.actions(), [Action::Bye, Action::EndMedia, Action::Save]);
    bench.ends(Status::Completed, EndReason::Normal, EndedBy::Local, 16);
}

#[test]
fn hangup_of_an_ended_call_is_no_error_and_does_nothing() {
    for end in [rejected(486), unreachable()] {
        let mut bench = Bench::dialing().event(end);
        bench.actions();
        let before = bench.call.record().clone();
        let mut bench = bench.command(Command::Hangup).command(Command::Shutdown);
        assert_eq!(bench.actions(), []);
        assert_eq!(bench.call.record(), &before);
    }
}

#[test]
fn an_answer_that_crossed_our_cancel_is_hung_up_and_changes_nothing() {
    let mut bench = Bench::ringing().command(Command::Hangup);
    bench.actions();
    let mut bench = bench.event(Event::Answered);
    assert_eq!(bench.actions(), [Action::Bye]);
    bench.ends(Status::Failed, EndReason::Canceled, EndedBy::Local, 31);
}

#[test]
fn the_487_of_our_own_cancel_changes_nothing() {
    let mut bench = Bench::ringing().command(Command::Hangup);
    bench.actions();
    let mut bench = bench.event(rejected(487));
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.call.record().sip_code, None);
}

#[test]
fn both_hang_up_and_the_first_wins() {
    Bench::answered().command(Command::Hangup).event(Event::Bye { q850: None }).ends(
        Status::Completed,
        EndReason::Normal,
        EndedBy::Local,
        16,
    );
}

#[test]
fn shutdown_before_and_after_the_answer() {
    let mut ringing = Bench::ringing();
    ringing.actions();
    let mut ringing = ringing.command(Command::Shutdown);
    assert_eq!(ringing.actions(), [Action::Cancel, Action::EndMedia, Action::Save]);
    ringing.ends(Status::Failed, EndReason::ServerShutdown, EndedBy::System, 31);
    let mut answered = Bench::answered().command(Command::Shutdown);
    assert_eq!(answered.actions(), [Action::Bye, Action::EndMedia, Action::Save]);
    answered.ends(Status::Completed, EndReason::ServerShutdown, EndedBy::System, 16);
}

#[test]
fn the_longest_duration_counts_from_the_answer() {
    let bench = Bench::with(30, Some(Duration::from_secs(60))).after(10).event(Event::Answered).after(59);
    assert_eq!(bench.call.status(), Status::InProgress);
    let mut bench = bench.after(1);
    assert!(bench.actions().contains(&Action::Bye));
    bench.ends(Status::Completed, EndReason::MaxDuration, EndedBy::System, 16);
}

#[test]
fn a_refused_transfer_leaves_the_call_and_another_may_follow() {
    let mut bench = Bench::answered().command(transfer("+1")).event(Event::TransferRefused { code: 603 });
    assert_eq!(bench.actions()[2..], [Action::Settled(Settled::Refused { code: 603 }), Action::Save]);
    assert_eq!(bench.call.status(), Status::InProgress);
    let mut bench = bench.command(transfer("+2"));
    assert_eq!(bench.actions(), [Action::Transfer { to: "+2".into() }, Action::Save]);
}

#[test]
fn a_second_transfer_to_the_same_number_joins_and_to_another_is_refused() {
    let mut bench = Bench::answered().command(transfer("+1")).command(transfer("+1"));
    assert_eq!(bench.actions(), [Action::Transfer { to: "+1".into() }, Action::Save]);
    assert_eq!(bench.refused(transfer("+2")), Refusal::OtherTransfer);
}

#[test]
fn an_undecided_transfer_is_reported_and_a_late_acceptance_counts() {
    let mut bench = Bench::answered().command(transfer("+1")).after(20);
    assert_eq!(bench.actions()[2..], [Action::Settled(Settled::Undecided)]);
    assert_eq!((bench.call.status(), bench.call.poll_timeout()), (Status::InProgress, None));
    let bench = bench.event(Event::TransferAccepted).event(Event::Bye { q850: None });
    bench.ends(Status::Completed, EndReason::Transferred, EndedBy::Remote, 16);
}

#[test]
fn a_call_that_ends_settles_its_transfer() {
    let mut bench = Bench::answered().command(transfer("+1")).event(Event::Bye { q850: None });
    assert_eq!(bench.actions()[2..], [Action::Settled(Settled::Over), Action::EndMedia, Action::Save]);
}

#[test]
fn transfer_before_the_answer_and_after_the_end_is_refused() {
    assert_eq!(Bench::ringing().refused(transfer("+1")), Refusal::NotAnswered(Status::Ringing));
    assert_eq!(Bench::answered().command(Command::Hangup).refused(transfer("+1")), Refusal::Over);
}

#[test]
fn an_acceptance_that_nobody_asked_for_is_ignored() {
    let bench = Bench::answered().event(Event::TransferAccepted).event(Event::TransferRefused { code: 603 });
    assert_eq!(bench.call.status(), Status::InProgress);
}

#[test]
fn the_agent_of_a_live_call_is_recorded_and_of_an_ended_one_refused() {
    let agent = || Command::Agent { id: "echo".into() };
    let mut bench = Bench::ringing();
    bench.actions();
    let mut bench = bench.command(agent());
    assert_eq!(bench.actions(), [Action::Save]);
    assert_eq!(bench.call.record().agent.as_deref(), Some("echo"));
    assert_eq!(bench.command(Command::Hangup).refused(agent()), Refusal::Over);
}

#[test]
fn the_orphan_of_a_dead_engine_has_failed_and_an_ended_record_stays() {
    let mut record = Bench::answered().call.record().clone();
    record.orphan(START_MS + 99);
    assert_eq!((record.status, record.end_reason), (Status::Failed, Some(EndReason::NodeLost)));
    assert_eq!((record.ended_by, record.ended_ms), (Some(EndedBy::System), Some(START_MS + 99)));
    let mut ended = Bench::answered().command(Command::Hangup).call.record().clone();
    let before = ended.clone();
    ended.orphan(START_MS + 99);
    assert_eq!(ended, before);
}

#[test]
fn the_row_has_the_names_of_the_wire() {
    let bench = Bench::answered().after(2).command(Command::Hangup);
    let row = serde_json::to_value(bench.call.record().row()).unwrap();
    let expected = serde_json::json!({
        "sid": "CA1", "status": "completed", "to": "+15551234567", "from": "+15558675309",
        "startedAt": "2025-11-24T16:00:00.000Z", "trunkId": "trunk_main", "agent": null, "direction": "outbound",
        "answeredAt": "2025-11-24T16:00:00.000Z", "endedAt": "2025-11-24T16:00:02.000Z", "endReason": "normal",
        "endedBy": "local", "q850": 16,
    });
    assert_eq!(row, expected);
    assert_eq!(serde_json::from_value::<CallRow>(row).unwrap(), bench.call.record().row());
}

#[test]
fn a_row_of_the_least_fields_reads() {
    let text = r#"{"sid":"CA1","status":"dialing","to":"+1","from":"+2","startedAt":"x"}"#;
    let row: CallRow = serde_json::from_str(text).unwrap();
    assert_eq!((row.status, row.agent, row.trunk_id), (Status::Dialing, None, None));
}

#[test]
fn a_record_keeps_every_field_in_the_store() {
    let mut bench = Bench::answered().event(Event::Placed { sip_call_id: "a1@h".into() });
    bench.call.transfers_by(TransferMode::Bridge);
    let mut bench = bench.command(transfer("+1")).event(Event::SecondLeg { leg: 0, event: LegEvent::Answered });
    let mos = Some(Hundredths::new(4.409));
    let stats = |packets_sent| Some(RtpStats { codec: "PCMU".into(), packets_sent, mos, ..RtpStats::default() });
    bench.call.note_rtp(stats(9), stats(7));
    let record = bench.call.record().clone();
    assert_eq!((&record.rtp, &record.legs[0].rtp), (&stats(9), &stats(7)));
    assert!(record.legs.len() == 1 && record.transfer.is_some());
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<CallRecord>(&text).unwrap(), record);
}

#[test]
fn the_row_shows_transfer_legs_and_packets() {
    let mut bench = Bench::answered().event(Event::Placed { sip_call_id: "a1@h".into() });
    bench.call.transfers_by(TransferMode::Auto);
    let bench = bench.command(transfer("+1")).event(Event::TransferRefused { code: 405 });
    let leg = |event| Event::SecondLeg { leg: 0, event };
    let mut bench = bench.event(leg(LegEvent::Rejected { code: 486, q850: Some(17) })).command(Command::Hangup);
    let stats = RtpStats {
        codec: "PCMU".into(),
        packets_sent: 100,
        bytes_sent: 16_000,
        packets_received: 98,
        bytes_received: 15_680,
        packets_lost: 2,
        remote_packets_lost: Some(1),
        jitter_ms: Hundredths::new(1.234),
        round_trip_ms: Some(Hundredths::new(20.0)),
        mos: Some(Hundredths::new(4.2)),
    };
    // The leg was never joined, so nothing is its.
    bench.call.note_rtp(Some(stats.clone()), Some(stats));
    let row = serde_json::to_value(bench.call.record().row()).unwrap();
    assert_eq!(row["sipCallId"], "a1@h");
    let transfer = serde_json::json!({"to": "+1", "mode": "bridge", "state": "failed", "sipCode": 486});
    assert_eq!(row["transfer"], transfer);
    let at = "2025-11-24T16:00:00.000Z";
    let leg = serde_json::json!([{"to": "+1", "state": "failed", "startedAt": at, "endedAt": at, "sipCode": 486, "q850": 17}]);
    assert_eq!(row["legs"], leg);
    let rtp = serde_json::json!({"codec": "PCMU", "packetsSent": 100, "bytesSent": 16000, "packetsReceived": 98,
        "bytesReceived": 15680, "packetsLost": 2, "remotePacketsLost": 1, "jitterMs": 1.23, "roundTripMs": 20.0, "mos": 4.2});
    assert_eq!(row["rtp"], rtp);
    assert_eq!(serde_json::from_value::<CallRow>(row).unwrap(), bench.call.record().row());
}

#[test]
fn a_record_of_an_earlier_engine_reads() {
    let mut record = serde_json::to_value(CallRecord::dialing("CA1".into(), START_MS)).unwrap();
    let fields = record.as_object_mut().unwrap();
    for newer in ["sip_call_id", "transfer", "legs", "rtp", "metadata"] {
        assert_eq!(fields.remove(newer), None, "{newer} is written where there is none");
    }
    assert_eq!(serde_json::from_value::<CallRecord>(record).unwrap(), CallRecord::dialing("CA1".into(), START_MS));
}

#[test]
fn hundredths_are_rounded_and_bounded() {
    for (value, hundredths) in [(1.234, 123), (1.235, 124), (-1.0, 0), (f64::NAN, 0), (1e300, u32::MAX)] {
        assert_eq!(Hundredths::new(value), Hundredths(hundredths), "{value}");
    }
}
