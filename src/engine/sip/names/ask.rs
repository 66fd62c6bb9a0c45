//! One question to name servers: over UDP, and over TCP where the answer is cut (RFC 7766 §5). Bounded in time; a server that is silent or
//! refuses gives way to the next.
//!
//! Each question has a number and a port of chance, and its socket hears its server alone: who would answer in the server's place has to
//! guess both (RFC 5452). What answers something else is passed over.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::sip::dns::{self, Unread};
use crate::sip::srv::Service;

/// What one server may take for an answer, and all of them together: a call waits for it.
const TRY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(3);
/// A datagram may be lost.
const ROUNDS: usize = 2;
/// More than a server sends to somebody who says nothing of it (RFC 1035 §4.2.1: 512).
const DATAGRAM_BYTES: usize = 4096;

type Found = (Service, Duration);

/// What the records of this name say, and for how long; `None`: nobody can tell.
pub(super) async fn ask(servers: &[SocketAddr], name: &str) -> Option<Found> {
    timeout(LIMIT, rounds(servers, name)).await.ok().flatten()
}

async fn rounds(servers: &[SocketAddr], name: &str) -> Option<Found> {
    for server in (0..ROUNDS).flat_map(|_| servers) {
        match timeout(TRY, once(*server, name)).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => tracing::debug!(%server, name, %error, "a name server does not tell"),
            Err(_) => tracing::debug!(%server, name, "a name server does not answer in time"),
        }
    }
    None
}

async fn once(server: SocketAddr, name: &str) -> io::Result<Found> {
    let id = chance();
    let question = dns::question(name, id).ok_or(io::ErrorKind::InvalidInput)?;
    let read = |bytes: &[u8]| dns::read(bytes, name, id);
    let heard = match over_udp(server, &question, read).await? {
        Err(Unread::Truncated) => read(&over_tcp(server, &question).await?),
        heard => heard,
    };
    heard.map_err(|unread| io::Error::other(format!("{unread:?}")))
}

/// The first answer to this question.
async fn over_udp<T>(
    server: SocketAddr,
    question: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Unread>,
) -> io::Result<Result<T, Unread>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut bytes = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut bytes).await?;
        match read(&bytes[..length]) {
            Err(Unread::Foreign) => {}
            heard => return Ok(heard),
        }
    }
}

/// Each message behind its length (RFC 1035 §4.2.2).
async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn chance() -> u16 {
    let mut bytes = [0; 2];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    u16::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "_sip._udp.example.com";

    /// What a server makes of a question: one record, or an answer that was cut.
    fn answer(question: &[u8], is_cut: bool) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] = if is_cut { 0x83 } else { 0x81 };
        if !is_cut {
            bytes[7] = 1;
            bytes.extend(b"\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x78\x00\x0c\x00\x0a\x00\x3c\x13\xc4\x03sbc\xc0\x16");
        }
        bytes
    }

    fn is_found(found: Option<Found>) -> bool {
        matches!(found, Some((Service::At(records), _)) if records[0].target == "sbc.example.com")
    }

    async fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 512];
        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
        bytes.truncate(length);
        (bytes, from)
    }

    #[tokio::test]
    async fn answers_to_something_else_are_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = [server.local_addr().unwrap()];
        let answering = async {
            let (question, from) = heard(&server).await;
            let good = answer(&question, false);
            let (mut other_number, mut other_name) = (good.clone(), good.clone());
            other_number[1] ^= 1;
            other_name[13] = b'x';
            for bytes in [&b""[..], b"junk", &question, &other_number, &other_name, &good] {
                server.send_to(bytes, from).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(ask(&servers, NAME), answering);
        assert!(is_found(found));
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_comes_whole_by_tcp() {
        // Both on one port, as a server has them.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = UdpSocket::bind(address).await.unwrap();
        let answering = async {
            let (question, from) = heard(&server).await;
            server.send_to(&answer(&question, true), from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut again = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut again).await.unwrap();
            assert_eq!(again, question);
            let good = answer(&again, false);
            // In pieces.
            stream.write_all(&[0]).await.unwrap();
            stream.write_all(&[&[good.len() as u8][..], &good[..7]].concat()).await.unwrap();
            stream.write_all(&good[7..]).await.unwrap();
        };
        let servers = [address];
        let (found, ()) = tokio::join!(ask(&servers, NAME), answering);
        assert!(is_found(found));
    }

    #[tokio::test]
    async fn a_server_that_refuses_or_is_not_there_gives_way_to_the_next() {
        let (refusing, good) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let servers = [gone, refusing.local_addr().unwrap(), good.local_addr().unwrap()];
        let answering = async {
            let (mut question, from) = heard(&refusing).await;
            (question[2], question[3]) = (0x81, 5);
            refusing.send_to(&question, from).await.unwrap();
            let (question, from) = heard(&good).await;
            good.send_to(&answer(&question, false), from).await.unwrap();
        };
        let (found, ()) = tokio::join!(ask(&servers, NAME), answering);
        assert!(is_found(found));
    }

    #[tokio::test]
    async fn nobody_can_tell() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(&[gone], NAME).await, None);
        assert_eq!(ask(&[], NAME).await, None);
        assert_eq!(ask(&[gone], "a..b").await, None, "nobody is asked for what is no name");
    }
}
