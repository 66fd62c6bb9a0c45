//! What the simulated phone says before it answers, or before it refuses.

use clutchcall::engine::config::SipTrunk;

use super::*;

/// Where all of it is heard, behind a frame or more of it.
fn again(heard: &[(Frame, Instant)], clip: &[Frame]) -> Option<usize> {
    let is_whole = |at: &usize| heard[*at..].iter().map(|(frame, _)| frame).take(clip.len()).eq(clip);
    (1..=heard.len().saturating_sub(clip.len())).find(is_whole)
}

/// Of what is said before the answer the first frames may come before anybody listens.
#[test]
fn its_clip_is_heard_before_the_answer_and_again_behind_it() {
    case(async || {
        let mut call = Call::listening("+15550009004", PhoneConfig::default()).await;
        call.until("Early").await;
        let (leg, clip) = (call.leg.take().unwrap(), clip());
        let whole = clip.clone();
        let listening = tokio::spawn(talk_until(leg, Vec::new(), move |heard| again(heard, &whole).is_some()));
        call.until("Answered(leg: false)").await;
        assert_eq!(call.told, ["Placed", "Trying", "Progress(183)", "Early", "Answered(leg: false)"]);
        let (_leg, heard) = listening.await.unwrap();
        let begins = again(&heard, &clip).unwrap();
        let before: Vec<Frame> = heard[..begins].iter().map(|(frame, _)| frame.clone()).collect();
        assert!(clip.ends_with(&before), "{} of {} frames, without a hole", before.len(), clip.len());
        call.trunk.bye(SID, Instant::now());
        call.over().await;
    });
}

#[test]
fn who_wants_nothing_before_the_answer_hears_nothing_of_it() {
    case(async || {
        let mut call = Call::dial("+15550009004").await;
        call.until("Answered(leg: true)").await;
        assert_eq!(call.told, ["Placed", "Trying", "Progress(183)", "Answered(leg: true)"]);
        let (_leg, heard) = talk(call.leg.take().unwrap(), Vec::new(), 201).await;
        assert!(heard.iter().map(|(frame, _)| frame).take(201).eq(&clip()), "from its beginning, and once");
        call.trunk.bye(SID, Instant::now());
        call.over().await;
    });
}

#[test]
fn an_announcement_is_heard_and_then_the_number_is_none() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let mut call = Call::listening("+15550009005", recording(folder.path())).await;
        call.until("Early").await;
        let (leg, clip) = (call.leg.take().unwrap(), clip());
        let last = clip[150..].to_vec();
        let is_all = move |heard: &[(Frame, Instant)]| {
            heard.iter().rev().map(|(frame, _)| frame).take(last.len()).eq(last.iter().rev())
        };
        let listening = tokio::spawn(talk_until(leg, Vec::new(), is_all));
        call.until("Rejected(404)").await;
        assert_eq!(call.told, ["Placed", "Trying", "Progress(183)", "Early", "Rejected(404)"]);
        let heard: Vec<Frame> = listening.await.unwrap().1.into_iter().map(|(frame, _)| frame).collect();
        assert!(clip.ends_with(&heard), "{} of {} frames, without a hole", heard.len(), clip.len());
        call.over().await;
        assert_eq!(report(folder.path(), SID).await.clip_frames_said, 201);
    });
}

#[test]
fn who_gives_up_while_it_speaks_has_heard_the_last_of_it() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let mut call = Call::listening("+15550009004", recording(folder.path())).await;
        call.until("Early").await;
        let (_leg, _) = talk(call.leg.take().unwrap(), Vec::new(), 1).await;
        call.trunk.cancel(SID, Instant::now());
        call.over().await;
        assert!(report(folder.path(), SID).await.clip_frames_said < 201);
    });
}

/// RFC 3261 §13.2.1, as SIPp sees it.
#[test]
fn an_answer_has_the_description_of_the_183_before_it() {
    rig::case(async || {
        let folder = tempfile::tempdir().unwrap();
        let phone = Phone::open(brief(folder.path()), ([127, 0, 0, 1], 0).into()).await.unwrap();
        let far = Far::calls("caller_listens", free_port(), phone.address(), &[("number", "+15550009004")]);
        let traffic = far.played().await;
        let described = |begins: &str| traffic.ours(begins)[0].text.split_once("\n\n").unwrap().1.to_owned();
        assert!(described("SIP/2.0 183").contains("m=audio "));
        assert_eq!(described("SIP/2.0 200"), described("SIP/2.0 183"));
        assert_eq!(traffic.our("SIP/2.0 183").header("Content-Type"), "application/sdp");
    });
}

/// What the caller's record says, by a trunk that hears what is said before the answer and by one that does not.
#[test]
fn what_is_said_before_the_answer_is_none() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let phone = Phone::open(brief(folder.path()), ([127, 0, 0, 1], 0).into()).await.unwrap();
        for early_media in [true, false] {
            let settings = SipTrunk { early_media, ..towards(Transport::Udp, phone.address().port()) };
            let mut caller = Caller::idle(settings).await;
            caller.place_to("+15550009004", 20);
            caller.until(Status::Ringing).await;
            assert_eq!((caller.record().answered_ms, caller.legs), (None, 0));
            caller.until(Status::InProgress).await;
            assert!(caller.record().answered_ms.is_some() && caller.legs == 1, "{:?}", caller.record());
            caller.hangup();
            caller.settled().await;
            assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));

            caller.legs = 0;
            caller.place_to("+15550009005", 20);
            caller.settled().await;
            assert_eq!(caller.ending(), (Status::Failed, EndReason::NotFound, Some(404), Some(1)));
            assert_eq!((caller.record().answered_ms, caller.legs), (None, usize::from(early_media)));
        }
    });
}
