//! Names, asked of a name server that says what it is told to.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn names(server: SocketAddr) -> Names {
    Names::new(Transport::Udp, Some(LOOPBACK), Servers::new(vec![server]))
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

/// A name server that says what it is told to, each time that it is asked; `None`: nothing.
async fn serve(answers: Vec<Option<&'static [u8]>>) -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut bytes = [0; 512];
        for (asked, answer) in answers.iter().enumerate() {
            let Ok(Ok((length, from))) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut bytes)).await else {
                return asked;
            };
            let Some(records) = answer else { continue };
            let mut message = bytes[..length].to_vec();
            message[2] = 0x81;
            message[7] = (records.len() / LOCAL.len()).max(usize::from(!records.is_empty())) as u8;
            message.extend(*records);
            socket.send_to(&message, from).await.unwrap();
        }
        answers.len()
    });
    (address, serving)
}

/// To `localhost`, port 5080, for a minute; and to the root.
const LOCAL: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0";
const NOWHERE: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x07\0\0\0\0\0\0\0";

#[tokio::test]
async fn a_port_or_an_address_asks_nobody() {
    let (server, serving) = serve(vec![Some(LOCAL)]).await;
    let names = names(server);
    for (written, place) in
        [("192.0.2.1", "192.0.2.1:5060"), ("192.0.2.1:5070", "192.0.2.1:5070"), ("localhost:5070", "127.0.0.1:5070")]
    {
        assert_eq!(names.place(&host(written), Draw::Anew).await, Ok(place.parse().unwrap()));
    }
    assert!(!serving.is_finished(), "the name server was asked");
    assert_eq!(names.place(&host("carrier.test"), Draw::Anew).await, Ok("127.0.0.1:5080".parse().unwrap()));
    assert_eq!(serving.await.unwrap(), 1);
    let tls = Names::new(Transport::Tls, Some(LOOPBACK), Servers::new(vec![server]));
    assert_eq!(tls.place(&host("192.0.2.1"), Draw::Anew).await, Ok("192.0.2.1:5061".parse().unwrap()));
}

#[tokio::test]
async fn many_that_come_at_once_ask_once() {
    let (server, serving) = serve(vec![Some(LOCAL)]).await;
    let (names, carrier) = (names(server), host("carrier.test"));
    let place = || names.place(&carrier, Draw::Anew);
    let (one, two, three) = tokio::join!(place(), place(), place());
    assert!([one, two, three].into_iter().all(|place| place == Ok("127.0.0.1:5080".parse().unwrap())));
    assert_eq!(serving.await.unwrap(), 1);
}

#[tokio::test]
async fn requests_that_belong_together_go_together() {
    const ONE: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0\
        \xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd9\x09localhost\0";
    const OTHER: &[u8] = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd9\x09localhost\0\
        \xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x11\0\x01\0\x01\x13\xd8\x09localhost\0";
    let (server, serving) = serve([Some(ONE), Some(OTHER)].repeat(10)).await;
    let (names, carrier) = (names(server), host("carrier.test"));
    let first = names.place(&carrier, Draw::Kept).await.unwrap();
    for _ in 1..20 {
        let known = names.name("carrier.test").state().service.value().cloned().unwrap();
        let long_ago = Instant::now() - Duration::from_secs(6);
        names.name("carrier.test").state().service.handle_answer(known, Duration::ZERO, long_ago);
        assert_eq!(names.place(&carrier, Draw::Kept).await, Ok(first), "each time that it is asked");
    }
    assert_eq!(serving.await.unwrap(), 20);
    let mut drawn = std::collections::HashSet::new();
    for _ in 0..100 {
        drawn.insert(names.place(&carrier, Draw::Anew).await.unwrap());
    }
    assert_eq!(drawn.len(), 2, "calls share them");
    assert!(names.fail("carrier.test", first));
    let next = names.place(&carrier, Draw::Kept).await.unwrap();
    assert!(next != first && names.fail("carrier.test", next));
    assert_eq!(names.place(&carrier, Draw::Kept).await, Ok(first), "where all failed they are tried again");
    assert!(!names.fail("carrier.test", first), "nobody goes round and round");
    assert!(!names.fail("192.0.2.1", "192.0.2.1:5060".parse().unwrap()), "an address has no other");
}

#[tokio::test]
async fn without_records_the_names_own_addresses_are_meant() {
    let (server, serving) = serve(vec![Some(b"")]).await;
    assert_eq!(names(server).place(&host("localhost"), Draw::Anew).await, Ok("127.0.0.1:5060".parse().unwrap()));
    assert_eq!(serving.await.unwrap(), 1);
}

#[tokio::test]
async fn a_service_that_is_not_offered_says_so() {
    let (server, _serving) = serve(vec![Some(NOWHERE)]).await;
    let (names, local) = (names(server), host("localhost"));
    assert_eq!(names.refusal(&local), None, "nobody knows yet");
    let error = names.place(&local, Draw::Anew).await.unwrap_err();
    assert!(error.contains("localhost offers no SIP over udp (its record _sip._udp.localhost"), "{error}");
    assert_eq!(names.refusal(&local), Some(error));
    assert_eq!(names.refusal(&host("localhost:5060")), None);
    assert!(names.all(&local).await.contains(&LOOPBACK), "its own addresses may call");
}

#[tokio::test]
async fn what_was_known_holds_while_the_name_server_is_silent() {
    let (server, serving) = serve(vec![Some(LOCAL), None, None, None]).await;
    let (names, carrier) = (names(server), host("carrier.test"));
    let known = Ok("127.0.0.1:5080".parse().unwrap());
    assert_eq!(names.place(&carrier, Draw::Anew).await, known);
    // Its minute is over.
    names.name("carrier.test").state().service.handle_answer(
        Service::At(vec![Record { priority: 1, weight: 1, port: 5080, target: "localhost".to_owned() }]),
        Duration::ZERO,
        Instant::now() - Duration::from_secs(6),
    );
    assert_eq!(names.place(&carrier, Draw::Anew).await, known);
    assert!(names.name("carrier.test").state().service.is_silent());
    serving.abort();
}

#[tokio::test]
async fn names_of_strangers_cost_no_memory_and_those_of_trunks_stay() {
    let names = names("127.0.0.1:9".parse().unwrap());
    names.name("trunk").state().is_kept = true;
    for i in 0..10_000 {
        names.fail(&format!("h{i}"), "192.0.2.1:5060".parse().unwrap());
    }
    let remembered = names.names.lock().unwrap();
    assert!(remembered.len() <= MOST_NAMES && remembered.contains_key("trunk"));
}
