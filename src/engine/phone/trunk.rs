//! [`PhoneTrunk`]: the way to a [`Phone`](super::Phone) of this machine. A SIP trunk as every other, and what only a simulated far side needs.
//!
//! - Its calls have their sid as Call-ID, so that the phone's files are named by it.
//! - A number that nobody is behind is known by its ending before it is dialled ([`FarEnd::Empty`]); the phone then says
//!   `inactive`, and the call is left to `attach_caller`.
//! - A number that can't be reached has its first hop at a TCP port of this machine that is taken and does not listen: connections to
//!   it are refused.
//! - What is said before the answer is heard: no other number says anything then.
//! - Refusals are the phone's business: they count for no breaker.

use std::net::SocketAddr;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::endpoint::talks;
use super::number::Behaviour;
use crate::call::TransferMode;
use crate::engine::config::{self, Host};
use crate::engine::rtp::Fill;
use crate::engine::sip::{Endpoints, FarSide, Local, SipTrunk, Transport};
use crate::engine::trunk::{Asker, Dial, Events, FarEnd, Keys, Trunk};
use crate::sip::Codec;

/// See the module's contract.
pub struct PhoneTrunk {
    phone: SipTrunk,
    nowhere: SipTrunk,
    /// Bound, so that nobody listens there.
    _dead: Socket,
}

impl PhoneTrunk {
    /// To the phone at this address, from a free port of the same.
    pub async fn open(phone: SocketAddr, endpoints: &mut Endpoints, events: Events) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("no TCP port of {} can be had: {error}", phone.ip());
        let dead = Socket::new(Domain::for_address(phone), Type::STREAM, None).map_err(failed)?;
        let any = SocketAddr::new(phone.ip(), 0);
        dead.bind(&any.into()).map_err(failed)?;
        let nowhere = dead.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(any);
        let mut trunk = async |transport, to| {
            let endpoint = endpoints
                .at(&Local { transport, bind: any, external: None, tls_roots: None, certificate: None })
                .await?;
            let talks = talks(phone.ip(), vec![Codec::Opus], Fill::Once);
            let trunk = SipTrunk::new(endpoint, towards(transport, to), talks, events.clone());
            Ok::<_, String>(trunk.with(FarSide { is_named_by_sid: true, far_end: of }))
        };
        let (phone, nowhere) = (trunk(Transport::Udp, phone).await?, trunk(Transport::Tcp, nowhere).await?);
        Ok(Self { phone, nowhere, _dead: dead })
    }

    fn way(&mut self, to: &str) -> &mut SipTrunk {
        if Behaviour::of(to) == Behaviour::Unreachable { &mut self.nowhere } else { &mut self.phone }
    }
}

fn of(to: &str) -> FarEnd {
    if Behaviour::of(to) == Behaviour::Empty { FarEnd::Empty } else { FarEnd::Phone }
}

fn towards(transport: Transport, phone: SocketAddr) -> config::SipTrunk {
    config::SipTrunk {
        transport: if transport == Transport::Tcp { config::Transport::Tcp } else { config::Transport::Udp },
        internal_sip_ip: phone.ip(),
        internal_rtp_ip: phone.ip(),
        source_pbx_port: 0,
        transfer_mode: TransferMode::Refer,
        early_media: true,
        options_interval: None,
        session_expires: None,
        media_timeout_initial: None,
        media_timeout: None,
        breaker_failures: 0,
        ..config::SipTrunk::to(Host { name: phone.ip().to_string(), port: Some(phone.port()) })
    }
}

impl Trunk for PhoneTrunk {
    fn dial(&mut self, dial: Dial, now: Instant) {
        self.way(&dial.to).dial(dial, now);
    }

    fn cancel(&mut self, sid: &str, now: Instant) {
        self.phone.cancel(sid, now);
        self.nowhere.cancel(sid, now);
    }

    fn bye(&mut self, sid: &str, now: Instant) {
        self.phone.bye(sid, now);
    }

    fn transfer(&mut self, sid: &str, to: &str, now: Instant) {
        self.phone.transfer(sid, to, now);
    }

    fn press(&mut self, sid: &str, keys: Keys, asker: Asker, now: Instant) {
        self.phone.press(sid, keys, asker, now);
    }

    fn far_end(&self, to: &str) -> FarEnd {
        of(to)
    }

    fn lines(&mut self) -> usize {
        self.phone.lines() + self.nowhere.lines()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}
