//! Mode `udp`: the same load without QUIC, one `sendto` and one `recv` per frame. What everything else is measured against.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::child::{self, Job, Mark, PACKETS, Report, SYSCALLS, count};
use crate::load::{FRAME_BYTES, Heard, Load};

pub(crate) fn run(job: &Job) -> io::Result<Report> {
    let mut socket = mio::net::UdpSocket::from_std(job.socket()?);
    let peer = meet(job, &socket)?;
    let mut poll = mio::Poll::new()?;
    poll.registry().register(&mut socket, mio::Token(0), mio::Interest::READABLE)?;
    let mut events = mio::Events::with_capacity(8);
    let mut heard = Heard::new(job.channels, job.secs);
    let span = child::ready(job.secs)?;
    std::thread::sleep(child::instant(span.from_ns).saturating_duration_since(Instant::now()));
    let mark = Mark::now();
    let mut load = Load::new(job.channels, span.from_ns, job.secs);
    let mut buffer = [0; 2 * FRAME_BYTES];
    while Instant::now() < span.end {
        let wake = load.due_ns().map_or(span.end, child::instant);
        count(&SYSCALLS, 1);
        poll.poll(&mut events, Some(wake.saturating_duration_since(Instant::now())))?;
        let mut more = !events.is_empty();
        while more {
            count(&SYSCALLS, 1);
            match socket.recv(&mut buffer) {
                Ok(len) => heard.frame(&buffer[..len]),
                Err(_) => more = false,
            }
        }
        load.send_due(|_, frame| {
            count(&SYSCALLS, 1);
            count(&PACKETS, 1);
            // An error is a frame that is not heard.
            let _ = socket.send_to(frame, peer);
        });
    }
    Ok(mark.report(load.sent, &mut heard))
}

/// The far end learns the address of the near one from its first packet.
fn meet(job: &Job, socket: &mio::net::UdpSocket) -> io::Result<SocketAddr> {
    if let Some(peer) = job.peer {
        socket.send_to(b"hello", peer)?;
        return Ok(peer);
    }
    child::listening(socket.local_addr()?)?;
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match socket.recv_from(&mut [0; 16]) {
            Ok((_, peer)) => return Ok(peer),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock || Instant::now() > give_up => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
