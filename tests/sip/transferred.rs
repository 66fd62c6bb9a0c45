//! Transfers that are told of out of order, or not at all, and where they lead.

use clutchcall::call::{EndReason, Status, TransferMode, TransferState};
use clutchcall::engine::config;
use clutchcall::engine::sip::Transport;

use crate::rig::{Caller, Far, Wishes, case, towards};

/// RFC 6665 §4.1.2.4: a NOTIFY may overtake the answer to what it is about.
#[test]
fn a_transfer_whose_outcome_comes_before_its_202() {
    case(async || {
        let far = Far::start("notifies_first", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Auto);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Transferred, None, Some(16)));
        assert_eq!(caller.record().transfer.as_ref().unwrap().state, TransferState::Completed);
        far.played().await.our("BYE");
    });
}

#[test]
fn a_transfer_of_which_nothing_is_heard_gives_way_to_another() {
    case(async || {
        let far = Far::start("forgets_to_notify", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(2), ..Wishes::default() }).await;
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Refer);
        caller.until_transfer(TransferState::Unknown).await;
        caller.transfer_to("+15557650000", TransferMode::Refer);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Transferred, None, Some(16)));
        assert_eq!(caller.record().transferred_to.as_deref(), Some("+15557650000"));
        let traffic = far.played().await;
        let mut refers = traffic.ours("REFER");
        refers.dedup_by_key(|refer| refer.header("CSeq").to_owned());
        assert_eq!(refers.len(), 2);
        assert!(refers[1].header("Refer-To").starts_with("<sip:+15557650000@"));
    });
}

#[test]
fn where_a_transfer_leads_is_written_as_the_trunk_says() {
    case(async || {
        let far = Far::start("refers", &[("code", "200"), ("phrase", "OK")]).await;
        let refer_to = "sip:{to}@transfer.invalid;user=phone".parse().unwrap();
        let settings = config::SipTrunk { refer_to, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Refer);
        caller.settled().await;
        assert_eq!(caller.record().end_reason, Some(EndReason::Transferred));
        let traffic = far.played().await;
        assert_eq!(traffic.our("REFER").header("Refer-To"), "<sip:+15557654321@transfer.invalid;user=phone>");
    });
}
