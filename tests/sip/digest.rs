//! Challenges (RFC 3261 §22, RFC 7616, RFC 8760).

use std::time::Duration;

use clutchcall::call::{EndReason, EndedBy, Status, TransferMode, TransferState};
use clutchcall::engine::config::{Credentials, DtmfMode, Secret, SipTrunk};
use clutchcall::engine::sip::Transport;
use clutchcall::sip::registration::State;
use md5::Digest as _;

use crate::around::probed;
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

fn md5(text: &str) -> String {
    md5::Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What this header proves holds for the request in which it stands: its method, its Request-URI, its count.
fn assert_proves(request: &Message, header: &str, hash: fn(&str) -> String) {
    let (answer, line) = (request.header(header), request.line());
    let [method, uri, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let of = |name| parameter(answer, name);
    assert_eq!(of("uri"), uri, "{}", request.text);
    let (known, asked) = (hash(&format!("trunk:{}:secret", of("realm"))), hash(&format!("{method}:{uri}")));
    let counted = match answer.contains("qop=auth") {
        true => format!("{}:{}:auth:", of("nc"), of("cnonce")),
        false => String::new(),
    };
    assert_eq!(of("response"), hash(&format!("{known}:{}:{counted}{asked}", of("nonce"))), "{}", request.text);
}

/// A proxy with a count asked who sends a request, and then whoever is behind it, without one: both were told, and are told in what comes
/// behind it.
fn assert_in_turn(requests: &[&Message]) {
    let [first, second, both @ ..] = requests else { panic!("{requests:?}") };
    assert!(first.lacks("Authorization") && first.lacks("Proxy-Authorization"), "{}", first.text);
    assert!(second.lacks("Authorization"), "{}", second.text);
    assert_proves(second, "Proxy-Authorization", sha256);
    for (count, request) in (2..).zip(both) {
        assert_proves(request, "Proxy-Authorization", sha256);
        assert_proves(request, "Authorization", md5);
        assert_eq!(parameter(request.header("Proxy-Authorization"), "nc"), format!("{count:08}"));
    }
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
        let far = Far::start("challenges_in_turn", &[]).await;
        let mut caller = Caller::with(&far, knows("secret")).await;
        caller.until(Status::InProgress).await;
        // Of three refusals, and of an answer that comes again: the same then, too (§13.2.2.4).
        caller.until_heard_times(&far, "ACK", 5).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), NORMAL);
        let traffic = far.played().await;
        assert_eq!(traffic.each("ACK").len(), 4);
        let invites = attempts(&traffic);
        assert_eq!(invites.len(), 4);
        let shown = |at: usize| {
            let [proxys, carriers] = ["Proxy-Authorization", "Authorization"].map(|name| invites[at].header(name));
            (parameter(proxys, "nonce"), parameter(proxys, "nc"), parameter(carriers, "nonce"))
        };
        assert!(invites[1].lacks("Authorization"));
        assert_eq!((shown(2), shown(3)), (("4f2a", "00000002", "5b3c"), ("6c4d", "00000001", "5b3c")));
        for invite in &invites[2..] {
            assert_proves(invite, "Proxy-Authorization", sha256);
            assert_proves(invite, "Authorization", md5);
        }
        // The ACK of the answer shows what the INVITE showed (§22.1), and what is asked for in the call what it asks for (§22.3).
        let ack = traffic.ours("ACK").pop().unwrap();
        for name in ["Proxy-Authorization", "Authorization"] {
            assert_eq!(ack.header(name), invites[3].header(name));
        }
        let bye = traffic.our("BYE");
        assert_proves(bye, "Proxy-Authorization", sha256);
        assert_proves(bye, "Authorization", md5);
        assert_eq!(parameter(bye.header("Proxy-Authorization"), "nc"), "00000002");
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

/// A request of a call that nobody challenged: a transfer that is refused otherwise, a key.
#[test]
fn in_a_call_a_proxy_asks_and_then_whoever_is_behind_it() {
    case(async || {
        for (method, code, phrase) in [("REFER", "405", "Method Not Allowed"), ("INFO", "200", "OK")] {
            let far = Far::start("asks_in_turn", &[("method", method), ("code", code), ("phrase", phrase)]).await;
            let dtmf_mode = DtmfMode::Info;
            let credentials = knows("secret").credentials;
            let settings = SipTrunk { dtmf_mode, credentials, ..towards(Transport::Udp, far.port) };
            let mut caller = Caller::idle(settings).await;
            caller.place(20);
            caller.until(Status::InProgress).await;
            if method == "REFER" {
                caller.transfer(TransferMode::Refer);
                caller.until_transfer(TransferState::Failed).await;
                assert_eq!(caller.record().transfer.as_ref().unwrap().sip_code, Some(405));
            } else {
                caller.press("5").await.unwrap();
            }
            caller.hangup();
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
            let traffic = far.played().await;
            let mut asked = traffic.each(method);
            assert_eq!(asked.len(), 3, "{method}");
            asked.push(traffic.our("BYE"));
            assert_in_turn(&asked);
        }
    });
}

/// Whatever the user of its Contact has (RFC 4904): the proof names it as the request does.
#[test]
fn who_hangs_up_is_asked_by_a_proxy_and_then_by_the_far_end() {
    case(async || {
        for user in ["far", "far;tgrp=one;trunk-context=far.invalid", "%23far%40x"] {
            let traffic = talk(Far::start("asks_who_leaves_in_turn", &[("user", user)]).await, knows("secret")).await;
            let byes = traffic.each("BYE");
            assert_eq!(byes.len(), 3, "{user}");
            assert_in_turn(&byes);
            assert!(byes[2].line().starts_with(&format!("BYE sip:{user}@")), "{}", byes[2].text);
        }
    });
}

/// Behind a Route, which is where it is sent and not what it is for.
#[test]
fn who_pracks_is_asked_by_a_proxy() {
    case(async || {
        let routes = "Record-Route: <sip:far.invalid;lr>, <sip:[local_ip]:[local_port];lr>";
        let far = Far::start("asks_who_pracks", &[("contact", "sip:far@127.0.0.1:9"), ("routes", routes)]).await;
        let mut caller = Caller::with(&far, knows("secret")).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        let [first, second] = traffic.each("PRACK")[..] else { panic!("{traffic:?}") };
        assert!(first.lacks("Proxy-Authorization"));
        assert_eq!(second.line(), "PRACK sip:far@127.0.0.1:9 SIP/2.0");
        assert_eq!(second.header("Route"), first.header("Route"));
        assert_proves(second, "Proxy-Authorization", sha256);
    });
}

/// An UPDATE, or a re-INVITE of a far end that takes none: its ACK shows what it showed.
#[test]
fn who_refreshes_a_session_is_asked_by_a_proxy_and_then_by_the_far_end() {
    case(async || {
        for (scenario, method) in [("asks_who_updates_in_turn", "UPDATE"), ("asks_who_reinvites_in_turn", "INVITE")] {
            let far = Far::start(scenario, &[]).await;
            let settings = SipTrunk { credentials: knows("secret").credentials, ..towards(Transport::Udp, far.port) };
            let mut caller = Caller::at(Duration::from_millis(20), settings).await;
            caller.place(20);
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
            let traffic = far.played().await;
            let mut asked = traffic.each(method);
            if method == "INVITE" {
                // That of the call itself was not challenged.
                assert!(asked.remove(0).lacks("Proxy-Authorization"));
                let number = asked[2].header("CSeq").replace("INVITE", "ACK");
                let acks =
                    traffic.each("ACK").into_iter().filter(|ack| ack.header("CSeq") == number).collect::<Vec<_>>();
                assert_eq!(acks.len(), 1, "{number}");
                for name in ["Proxy-Authorization", "Authorization"] {
                    assert_eq!(acks[0].header(name), asked[2].header(name));
                }
            }
            assert_eq!(asked.len(), 3, "{method}");
            assert_in_turn(&asked);
        }
    });
}

/// And what refreshes the binding is proved to both from the start.
#[test]
fn a_registrar_behind_a_proxy() {
    case(async || {
        let far = Far::start("registers_in_turn", &[]).await;
        let (require_registration, credentials) = (true, knows("secret").credentials);
        let settings = SipTrunk { require_registration, credentials, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        let traffic = far.played().await;
        let asked = traffic.each("REGISTER");
        assert_eq!(asked.len(), 4);
        assert_in_turn(&asked);
        assert!(matches!(probed(&mut caller).await.registration, Some(State::Registered { .. })));
    });
}

#[test]
fn a_far_side_behind_a_proxy_is_asked_whether_it_is_there() {
    case(async || {
        let far = Far::start("is_there_in_turn", &[]).await;
        let (options_interval, credentials) = (Some(Duration::from_millis(50)), knows("secret").credentials);
        let settings = SipTrunk { options_interval, credentials, ..towards(Transport::Udp, far.port) };
        let caller = Caller::idle(settings).await;
        let traffic = far.played().await;
        // A fifth may come before SIPp has ended.
        let asked = traffic.each("OPTIONS");
        assert!(asked.len() >= 4, "{asked:?}");
        assert_in_turn(&asked);
        drop(caller);
    });
}
