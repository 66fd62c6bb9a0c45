//! Challenges (RFC 3261 §22, RFC 7616, RFC 8760).

use std::time::Duration;

use clutchcall::call::{EndReason, EndedBy, Status, TransferMode, TransferState};
use clutchcall::engine::config::{Credentials, Secret};
use clutchcall::engine::sip::Transport;

use crate::rig::{Caller, Far, Message, Traffic, Wishes, case, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const REFUSED: (Status, EndReason, Option<u16>, Option<u8>) =
    (Status::Failed, EndReason::AuthFailed, Some(401), Some(21));

fn knows(password: &str) -> Wishes {
    let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new(password) };
    Wishes { credentials: Some(credentials), ..Wishes::default() }
}

/// Calls, is answered, hangs up.
async fn talk(far: Far, wishes: Wishes) -> Traffic {
    let mut caller = Caller::with(&far, wishes).await;
    caller.until(Status::InProgress).await;
    caller.hangup();
    caller.settled().await;
    assert_eq!(caller.ending(), NORMAL);
    far.played().await
}

/// INVITEs by their CSeq; each may have been repeated.
fn attempts(traffic: &Traffic) -> Vec<&Message> {
    let mut invites = traffic.ours("INVITE");
    invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
    invites
}

fn parameter<'a>(header: &'a str, name: &str) -> &'a str {
    let found = header.split([',', ' ']).find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {header}")).trim_matches('"')
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn who_knows_the_password_gets_in() {
    case(async || {
        let traffic = talk(Far::start("verifies", &[]).await, knows("secret")).await;
        let invites = attempts(&traffic);
        assert_eq!(invites.len(), 2);
        for name in ["Call-ID", "From", "To"] {
            assert_eq!(invites[0].header(name), invites[1].header(name));
        }
        assert_ne!(invites[0].header("Via"), invites[1].header("Via"));
        let number = |invite: &Message| invite.header("CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
        assert_eq!(number(invites[1]), number(invites[0]) + 1);
        let answer = invites[1].header("Authorization");
        assert!(answer.contains("qop=auth,") && answer.contains("nc=00000001"), "{answer}");
    });
}

#[test]
fn who_does_not_is_refused() {
    case(async || {
        let far = Far::start("verifies", &[]).await;
        let mut caller = Caller::with(&far, knows("guess")).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Forbidden, Some(403), Some(21)));
        far.played().await;
    });
}

#[test]
fn a_proxy_asks() {
    case(async || {
        let challenge = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"4f2a\", algorithm=MD5";
        let keys = [("code", "407"), ("phrase", "Proxy Authentication Required"), ("challenge", challenge)];
        let traffic = talk(Far::start("challenges", &keys).await, knows("secret")).await;
        let invites = attempts(&traffic);
        let answer = invites[1].header("Proxy-Authorization");
        assert_eq!((parameter(answer, "username"), parameter(answer, "nonce")), ("trunk", "4f2a"));
        assert!(invites[1].lacks("Authorization") && !answer.contains("qop"), "{answer}");
    });
}

#[test]
fn sha_256_by_its_name() {
    case(async || {
        let challenge =
            "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"4f2a\", algorithm=SHA-256, qop=\"auth-int, auth\"";
        let keys = [("code", "401"), ("phrase", "Unauthorized"), ("challenge", challenge)];
        let traffic = talk(Far::start("challenges", &keys).await, knows("secret")).await;
        let answer = attempts(&traffic)[1].header("Authorization");
        assert_eq!((parameter(answer, "algorithm"), parameter(answer, "qop")), ("SHA-256", "auth"));
        let (known, asked) = (sha256("trunk:carrier:secret"), format!("INVITE:{}", parameter(answer, "uri")));
        let text = format!("{known}:4f2a:00000001:{}:auth:{}", parameter(answer, "cnonce"), sha256(&asked));
        assert_eq!(parameter(answer, "response"), sha256(&text));
    });
}

#[test]
fn a_stale_nonce_is_no_wrong_password() {
    case(async || {
        let traffic = talk(Far::start("stale", &[]).await, knows("secret")).await;
        assert_eq!(attempts(&traffic).len(), 3);
    });
}

/// RFC 3261 §22.3. What each was shown stands in the INVITE for the other, with a count of its own (RFC 7616 §3.4.5).
#[test]
fn a_proxy_asks_and_then_whoever_is_behind_it() {
    case(async || {
        let traffic = talk(Far::start("challenges_in_turn", &[]).await, knows("secret")).await;
        let invites = attempts(&traffic);
        assert_eq!(invites.len(), 4);
        let shown = |at: usize| {
            let [proxys, carriers] = ["Proxy-Authorization", "Authorization"].map(|name| invites[at].header(name));
            (parameter(proxys, "nonce"), parameter(proxys, "nc"), parameter(carriers, "nonce"))
        };
        assert!(invites[1].lacks("Authorization"));
        assert_eq!((shown(2), shown(3)), (("4f2a", "00000002", "5b3c"), ("6c4d", "00000001", "5b3c")));
        let answer = invites[2].header("Proxy-Authorization");
        let (known, asked) = (sha256("trunk:proxy:secret"), format!("INVITE:{}", parameter(answer, "uri")));
        let text = format!("{known}:4f2a:00000002:{}:auth:{}", parameter(answer, "cnonce"), sha256(&asked));
        assert_eq!(parameter(answer, "response"), sha256(&text));
    });
}

/// Another nonce that is not called stale means another password (RFC 7616 §3.3): guessing on could lock the trunk out.
#[test]
fn no_answer_is_good_enough() {
    case(async || {
        for nonce in ["4f2a", "5b3c"] {
            let challenge = |nonce| format!("WWW-Authenticate: Digest realm=\"carrier\", nonce=\"{nonce}\"");
            let (first, again) = (challenge("4f2a"), challenge(nonce));
            let keys = [("code", "401"), ("phrase", "Unauthorized"), ("challenge", &*first), ("again", &*again)];
            let far = Far::start("challenges_again", &keys).await;
            let mut caller = Caller::with(&far, knows("secret")).await;
            caller.settled().await;
            assert_eq!(caller.ending(), REFUSED);
            assert_eq!(attempts(&far.played().await).len(), 2, "{nonce}");
        }
    });
}

#[test]
fn challenges_that_nobody_can_answer() {
    case(async || {
        let strange = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"4f2a\", algorithm=SHA-512-256";
        let plain = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"4f2a\"";
        let proxys = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"4f2a\"";
        for (code, challenge, wishes) in
            [(401, strange, knows("secret")), (401, plain, Wishes::default()), (407, proxys, Wishes::default())]
        {
            let code_key = code.to_string();
            let keys = [("code", &*code_key), ("phrase", "Who Calls"), ("extra", challenge)];
            let far = Far::start("refuses", &keys).await;
            let mut caller = Caller::with(&far, wishes).await;
            caller.settled().await;
            assert_eq!(caller.ending(), (Status::Failed, EndReason::AuthFailed, Some(code), Some(21)));
            assert_eq!(attempts(&far.played().await).len(), 1);
        }
    });
}

/// A call goes on when what we ask for in it is challenged, and nobody can or may answer.
#[test]
fn a_challenge_in_a_call_does_not_end_it() {
    case(async || {
        for (scenario, wishes, asked) in
            [("asks_who_refers", Wishes::default(), 1), ("asks_who_refers_again", knows("secret"), 2)]
        {
            let far = Far::start(scenario, &[]).await;
            let mut caller = Caller::with(&far, wishes).await;
            caller.until(Status::InProgress).await;
            caller.transfer(TransferMode::Refer);
            caller.until_transfer(TransferState::Failed).await;
            assert_eq!(caller.record().transfer.as_ref().unwrap().sip_code, Some(407));
            assert_eq!(caller.record().status, Status::InProgress);
            caller.hangup();
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
            let traffic = far.played().await;
            traffic.our("BYE");
            assert_eq!(traffic.each("REFER").len(), asked, "{scenario}");
        }
    });
}

#[test]
fn a_refresh_that_is_challenged_is_tried_again() {
    case(async || {
        let far = Far::start("asks_who_refreshes", &[]).await;
        let mut caller = Caller::at(Duration::from_millis(20), towards(Transport::Udp, far.port)).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        let traffic = far.played().await;
        assert!(traffic.ours("BYE").is_empty());
        let mut updates = traffic.ours("UPDATE");
        updates.dedup_by_key(|update| update.header("CSeq").to_owned());
        assert_eq!(updates.len(), 2);
    });
}
