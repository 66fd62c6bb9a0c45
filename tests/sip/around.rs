//! What is said outside of calls: whether the far side is there, and what strangers are told.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clutchcall::engine::config::{self, Credentials, Secret};
use clutchcall::engine::sip::Transport;
use clutchcall::engine::trunk::{Probe, Trunk as _};
use clutchcall::sip::health::State;
use clutchcall::sip::registration::State as Bound;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Caller, Far, LIMIT, case, free_port, towards};

/// Once per test is enough.
const LONG: Option<Duration> = Some(Duration::from_secs(3600));

async fn until_health(caller: &Caller, state: State) {
    let begun = Instant::now();
    while caller.trunk.health(Instant::now()) != state {
        assert!(begun.elapsed() < LIMIT, "it is {:?}", caller.trunk.health(Instant::now()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_far_side_that_is_not_well() {
    case(async || {
        for (code, phrase) in [("503", "Service Unavailable"), ("408", "Request Timeout")] {
            let far = Far::start("is_there", &[("code", code), ("phrase", phrase), ("extra", "X: y")]).await;
            let settings = config::SipTrunk { options_interval: LONG, ..towards(Transport::Udp, far.port) };
            let caller = Caller::idle(settings).await;
            until_health(&caller, State::Degraded).await;
            assert!(far.played().await.our("OPTIONS").text.starts_with("OPTIONS sip:127.0.0.1:"));
        }
    });
}

#[test]
fn a_far_side_that_nobody_hears_of_is_down() {
    case(async || {
        let every = Some(Duration::from_millis(50));
        let settings = config::SipTrunk { options_interval: every, ..towards(Transport::Tcp, free_port()) };
        until_health(&Caller::idle(settings).await, State::Down).await;
    });
}

#[test]
fn over_tcp_both_ask_whether_the_other_is_there() {
    case(async || {
        let far = Far::over(Transport::Tcp, "is_there", &[("code", "200"), ("phrase", "OK"), ("extra", "X: y")]).await;
        let settings = config::SipTrunk { options_interval: LONG, ..towards(Transport::Tcp, far.port) };
        let caller = Caller::idle(settings).await;
        let traffic = far.played().await;
        let options = traffic.our("OPTIONS");
        assert!(options.header("Via").starts_with("SIP/2.0/TCP 127.0.0.1:"), "{}", options.text);
        until_health(&caller, State::Healthy).await;
        // Both messages in one piece, and the second in two.
        let mut stream = tokio::net::TcpStream::connect(caller.address).await.unwrap();
        let us = stream.local_addr().unwrap();
        let ask = |nth: u32| {
            format!(
                "OPTIONS sip:us@{0} SIP/2.0\r\nVia: SIP/2.0/TCP {us};branch=z9hG4bKask{nth}\r\nFrom: <sip:far@{us}>;tag=1\r\n\
                 To: <sip:us@{0}>\r\nCall-ID: ask@far\r\nCSeq: {nth} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
                caller.address
            )
        };
        // One that cancels nothing is not answered.
        let cancel = ask(3).replace("OPTIONS", "CANCEL").replace("ask@far", "nothing@far");
        let (both, mut heard) = (cancel + &ask(1) + &ask(2), String::new());
        for part in [&both[..both.len() - 30], &both[both.len() - 30..]] {
            stream.write_all(part.as_bytes()).await.unwrap();
        }
        while heard.matches("\r\n\r\n").count() < 2 {
            let mut answer = [0; 4096];
            let length = tokio::time::timeout(LIMIT, stream.read(&mut answer)).await.unwrap().unwrap();
            assert!(length > 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&answer[..length]));
        }
        assert_eq!(heard.matches("SIP/2.0 200 OK").count(), 2, "{heard}");
    });
}

#[test]
fn a_far_side_that_wants_to_know_who_asks() {
    case(async || {
        let far = Far::start("is_there_for_friends", &[]).await;
        let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
        let settings = config::SipTrunk {
            options_interval: LONG,
            credentials: Some(credentials),
            ..towards(Transport::Udp, far.port)
        };
        let caller = Caller::idle(settings).await;
        let traffic = far.played().await;
        assert_eq!(traffic.each("OPTIONS").len(), 2);
        until_health(&caller, State::Healthy).await;
    });
}

pub(crate) async fn probed(caller: &mut Caller) -> Probe {
    let (told, probe) = tokio::sync::oneshot::channel();
    caller.trunk.probe(Box::new(move |probe| drop(told.send(probe))));
    tokio::time::timeout(LIMIT, probe).await.unwrap().unwrap().unwrap()
}

#[test]
fn a_far_side_that_a_user_asks_for() {
    case(async || {
        let keys = [("code", "503"), ("phrase", "Service Unavailable"), ("extra", "X: y")];
        let far = Far::start("is_there", &keys).await;
        let mut caller = Caller::idle(towards(Transport::Udp, far.port)).await;
        let probe = probed(&mut caller).await;
        assert_eq!(probe.answer, Ok((503, "Service Unavailable".to_owned())));
        assert_eq!((probe.peer, probe.transport), (format!("127.0.0.1:{}", far.port), "udp"));
        assert_eq!((probe.local, probe.registration), (caller.address, None));
        assert_eq!(caller.trunk.health(Instant::now()), State::Degraded, "it counts as any answer does");
        far.played().await.our("OPTIONS");
        // Nobody is there any more.
        let silent = probed(&mut caller).await;
        assert!(silent.answer.is_err(), "{silent:?}");
    });
}

#[test]
fn a_far_side_that_too_many_ask_for_is_asked_by_the_first_ones() {
    case(async || {
        // Nobody answers there.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut caller = Caller::idle(towards(Transport::Udp, silent.local_addr().unwrap().port())).await;
        let mut asked: Vec<_> = (0..9)
            .map(|_| {
                let (told, probe) = tokio::sync::oneshot::channel();
                caller.trunk.probe(Box::new(move |probe| drop(told.send(probe))));
                probe
            })
            .collect();
        let last = asked.pop().unwrap().await.unwrap().unwrap();
        assert!(last.answer.unwrap_err().contains("too many"));
        for probe in asked {
            let probe = tokio::time::timeout(LIMIT, probe).await.unwrap().unwrap().unwrap();
            assert_eq!(probe.answer, Err("nobody answered".to_owned()));
        }
    });
}

fn registered_at(port: u16) -> config::SipTrunk {
    let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
    config::SipTrunk { require_registration: true, credentials: Some(credentials), ..towards(Transport::Udp, port) }
}

#[test]
fn a_trunk_that_registers() {
    case(async || {
        let far = Far::start("registers", &[]).await;
        let caller = Caller::idle(registered_at(far.port)).await;
        let traffic = far.played().await;
        let mut asked = traffic.ours("REGISTER");
        asked.dedup_by_key(|register| register.header("CSeq").to_owned());
        assert_eq!(asked.len(), 2);
        assert!(asked[0].lacks("Authorization"));
        for register in &asked {
            assert!(register.text.starts_with("REGISTER sip:127.0.0.1:"), "{}", register.text);
            assert_eq!(register.header("Expires"), "3600");
            assert_eq!(register.header("Contact"), format!("<sip:trunk@{}>", caller.address));
            assert_eq!(register.header("Call-ID"), asked[0].header("Call-ID"));
        }
    });
}

/// RFC 3261 §10.2.4 and §10.2.8: longer where the registrar wants that, again where it fails, and before what was granted is over.
#[test]
fn a_trunk_that_registers_again() {
    case(async || {
        let far = Far::start("registers_again", &[]).await;
        let mut caller = Caller::idle(registered_at(far.port)).await;
        let traffic = far.played().await;
        let mut asked = traffic.ours("REGISTER");
        asked.dedup_by_key(|register| register.header("CSeq").to_owned());
        let expires: Vec<&str> = asked.iter().map(|register| register.header("Expires")).collect();
        assert_eq!(expires, ["3600", "7200", "7200", "7200"]);
        assert!(asked.iter().all(|register| register.header("Call-ID") == asked[0].header("Call-ID")), "{asked:?}");
        let numbers: Vec<u32> =
            asked.iter().map(|register| register.header("CSeq").split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert!(matches!(probed(&mut caller).await.registration, Some(Bound::Registered { .. })));
    });
}

#[test]
fn a_trunk_that_ends_takes_its_binding_back() {
    case(async || {
        let far = Far::start("registers_and_leaves", &[]).await;
        let mut caller = Caller::idle(registered_at(far.port)).await;
        let begun = Instant::now();
        while far.traffic().ours("REGISTER").is_empty() {
            assert!(begun.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(caller.trunk.lines(), 0);
        caller.trunk.close();
        assert_eq!(caller.trunk.lines(), 1, "an engine that ends waits for it");
        while caller.trunk.lines() > 0 {
            assert!(begun.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let traffic = far.played().await;
        let mut asked = traffic.ours("REGISTER");
        asked.dedup_by_key(|register| register.header("CSeq").to_owned());
        let said = |name: &str| [asked[0].header(name).to_owned(), asked[1].header(name).to_owned()];
        assert_eq!(said("Expires"), ["3600", "0"]);
        for name in ["Contact", "Call-ID"] {
            assert_eq!(asked[0].header(name), asked[1].header(name));
        }
    });
}

#[test]
fn a_trunk_that_ends_while_it_registers_takes_back_what_may_be_granted() {
    case(async || {
        let registrar = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
        let settings = config::SipTrunk {
            require_registration: true,
            credentials: Some(credentials),
            ..towards(Transport::Udp, registrar.local_addr().unwrap().port())
        };
        let mut caller = Caller::idle(settings).await;
        let header = |text: &str, name: &str| {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
            line.to_owned()
        };
        let mut bytes = [0; 4096];
        let (length, _) = tokio::time::timeout(LIMIT, registrar.recv_from(&mut bytes)).await.unwrap().unwrap();
        let first = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert_eq!(header(&first, "Expires:"), "Expires: 3600");
        // It is not answered, and the engine ends.
        caller.trunk.close();
        let begun = Instant::now();
        let (last, from) = loop {
            let (length, from) = tokio::time::timeout(LIMIT, registrar.recv_from(&mut bytes)).await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if header(&text, "Expires:") == "Expires: 0" {
                break (text, from);
            }
            assert!(begun.elapsed() < LIMIT, "{text}");
        };
        let number = |text: &str| header(text, "CSeq:").split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
        assert!(number(&last) > number(&first) && header(&last, "Call-ID:") == header(&first, "Call-ID:"));
        let same = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].map(|name| header(&last, name)).join("\r\n");
        registrar
            .send_to(format!("SIP/2.0 200 OK\r\n{same}\r\nContent-Length: 0\r\n\r\n").as_bytes(), from)
            .await
            .unwrap();
        while caller.trunk.lines() > 0 {
            assert!(begun.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// One request, and the first line of what comes back.
pub(crate) async fn told(to: SocketAddr, method: &str, to_tag: &str) -> String {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let us = socket.local_addr().unwrap();
    let request = format!(
        "{method} sip:us@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKstranger{method}\r\n\
         From: <sip:stranger@{us}>;tag=1\r\nTo: <sip:us@{to}>{to_tag}\r\nCall-ID: {method}@stranger\r\n\
         CSeq: 1 {method}\r\nContact: <sip:stranger@{us}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(request.as_bytes(), to).await.unwrap();
    let mut answer = [0; 4096];
    let length = tokio::time::timeout(LIMIT, socket.recv(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap().to_owned()
}

#[test]
fn strangers_are_told_no_more_than_they_need() {
    case(async || {
        let caller = Caller::idle(towards(Transport::Udp, 9)).await;
        let to = caller.address;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for junk in [&b""[..], b"\r\n\r\n", b"\x00\xff\x80", b"INVITE", b"SIP/2.0 200 OK\r\n\r\n", &[b'A'; 9000]] {
            socket.send_to(junk, to).unwrap();
        }
        assert_eq!(told(to, "OPTIONS", "").await, "SIP/2.0 200 OK");
        assert_eq!(told(to, "INVITE", "").await, "SIP/2.0 403 Forbidden");
        assert_eq!(told(to, "BYE", ";tag=of-nobody").await, "SIP/2.0 481 Call/Transaction Does Not Exist");
        assert_eq!(told(to, "CANCEL", "").await, "SIP/2.0 481 Call/Transaction Does Not Exist");
        assert_eq!(told(to, "REGISTER", "").await, "SIP/2.0 405 Method Not Allowed");
    });
}

/// Of the tests themselves: SIPp goes on at both, and one of them fails its scenario.
#[test]
fn a_repeated_message_is_borne_and_one_that_nobody_expects_is_not() {
    case(async || {
        for (second, is_borne) in [("INVITE", true), ("MESSAGE", false)] {
            let far = Far::start("silent", &[]).await;
            let to = SocketAddr::from(([127, 0, 0, 1], far.port));
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for method in ["INVITE", second] {
                let text = format!(
                    "{method} sip:us@{to} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{method}\r\n\
                     From: <sip:a@b>;tag=1\r\nTo: <sip:us@{to}>\r\nCall-ID: one\r\nCSeq: 1 {method}\r\n\
                     Contact: <sip:a@b>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
                );
                socket.send_to(text.as_bytes(), to).unwrap();
            }
            let played = tokio::spawn(far.played()).await;
            match played {
                Ok(traffic) => assert!(is_borne && traffic.ours("INVITE").len() == 2, "{traffic:?}"),
                Err(failed) => {
                    let said = failed.into_panic().downcast::<String>().unwrap();
                    assert!(!is_borne && said.contains("was not expected") && said.contains("MESSAGE"), "{said}");
                }
            }
        }
    });
}
