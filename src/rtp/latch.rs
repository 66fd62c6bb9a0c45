//! Whose packets count, and where ours go: symmetric RTP (RFC 4961) with a lock.
//!
//! A phone behind a NAT does not send from the address that its SDP names, so the address that packets really come from is
//! learned. Whoever may teach it may also listen in, so learning is narrow:
//! - the signalled address locks with its first packet; any other needs [`LEARN_PACKETS`] of one source in a row without a
//!   packet of the locked one between them;
//! - for [`LEARN_TIME`] after a lock the signalled address may still take it over, afterwards nobody;
//! - locked is an address and its SSRC. Another SSRC of that address is believed at its second packet; other addresses are
//!   refused and counted;
//! - a re-INVITE opens the latch to others for [`LEARN_TIME`]. The locked source counts on until another one takes over. An address
//!   that it names counts from its first packet, however late that one comes.
//!
//! Packets never go to an address that was neither signalled nor locked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets in a row that an address needs which nobody signalled.
pub const LEARN_PACKETS: u8 = 3;
/// How long after a lock, or after a re-INVITE, another may take over.
pub const LEARN_TIME: Duration = Duration::from_secs(2);
/// Packets that a new SSRC of the locked address needs.
const SWITCH_PACKETS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    address: SocketAddr,
    ssrc: u32,
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Accept,
    /// It counts, and is the first of another source.
    Switch,
    /// Not yet: its source is being learned.
    Wait,
    /// A stranger's.
    Refuse,
}

/// Who may take over from the locked source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Closed,
    /// The signalled address, until then.
    Signalled(Instant),
    /// After a re-INVITE: whoever sends enough, until then.
    Anyone(Instant),
}

#[derive(Clone, Debug)]
pub struct Latch {
    signalled: Option<SocketAddr>,
    /// Learns from others than the signalled address.
    symmetric: bool,
    locked: Option<Source>,
    target: Option<SocketAddr>,
    door: Door,
    /// A re-INVITE named the signalled address, and nobody has taken over since.
    awaited: bool,
    candidate: Option<(Source, u8)>,
    refused: u64,
    switches: u64,
}

impl Latch {
    pub fn new(signalled: Option<SocketAddr>, symmetric: bool) -> Self {
        Self {
            signalled,
            symmetric,
            locked: None,
            target: signalled,
            door: Door::Closed,
            awaited: false,
            candidate: None,
            refused: 0,
            switches: 0,
        }
    }

    /// After a re-INVITE or UPDATE: `signalled` may have moved. Without an address, or with an unspecified one (a hold of old,
    /// RFC 2543), it has not.
    pub fn reopen(&mut self, signalled: Option<SocketAddr>, now: Instant) {
        let moved = signalled.filter(|address| !address.ip().is_unspecified() && signalled != self.signalled);
        if moved.is_some() {
            // The lock stays good for what is still on its way.
            (self.signalled, self.target) = (moved, moved);
            self.awaited = true;
        }
        self.candidate = None;
        self.door = Door::Anyone(now + LEARN_TIME);
    }

    /// Where packets of ours go; `None`: nobody has said so, and nothing has come.
    pub fn target(&self) -> Option<SocketAddr> {
        self.target
    }

    /// The address that is believed; `None` until a packet came.
    pub fn locked(&self) -> Option<SocketAddr> {
        self.locked.map(|source| source.address)
    }

    /// Packets of strangers.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How often another source took over.
    pub fn switches(&self) -> u64 {
        self.switches
    }

    pub fn check(&mut self, address: SocketAddr, ssrc: u32, now: Instant) -> Verdict {
        let source = Source { address, ssrc };
        let Some(locked) = self.locked else {
            return match Some(address) == self.signalled {
                true => self.learn(source, 1, now),
                false if self.symmetric => self.learn(source, LEARN_PACKETS, now),
                false => self.refuse(),
            };
        };
        self.settle(now);
        if source == locked {
            self.candidate = None;
            if self.door == Door::Closed && self.symmetric {
                // Nobody came through it: the peer is where he was.
                self.target = Some(locked.address);
            }
            return Verdict::Accept;
        }
        match self.door {
            _ if address == locked.address => self.learn(source, SWITCH_PACKETS, now),
            _ if self.awaited && Some(address) == self.signalled => self.learn(source, 1, now),
            Door::Signalled(_) | Door::Anyone(_) if Some(address) == self.signalled => self.learn(source, 1, now),
            Door::Anyone(_) if self.symmetric => self.learn(source, LEARN_PACKETS, now),
            _ => self.refuse(),
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Door::Signalled(until) | Door::Anyone(until) = self.door
            && until <= now
        {
            self.door = Door::Closed;
        }
    }

    fn learn(&mut self, source: Source, needed: u8, now: Instant) -> Verdict {
        let count = match self.candidate {
            Some((candidate, count)) if candidate == source => count + 1,
            _ => 1,
        };
        if count < needed {
            self.candidate = Some((source, count));
            return Verdict::Wait;
        }
        self.candidate = None;
        let before = self.locked.replace(source);
        if before.is_none_or(|before| before.address != source.address) {
            self.target = Some(source.address);
            self.awaited = false;
            self.door = Door::Signalled(now + LEARN_TIME);
        }
        if before.is_none() {
            return Verdict::Accept;
        }
        self.switches += 1;
        Verdict::Switch
    }

    fn refuse(&mut self) -> Verdict {
        self.refused += 1;
        Verdict::Refuse
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn latch() -> (Latch, Instant) {
        (Latch::new(Some(at(1)), true), Instant::now())
    }

    const LATER: Duration = Duration::from_secs(3);

    #[test]
    fn the_signalled_address_locks_at_once() {
        let (mut latch, now) = latch();
        assert_eq!((latch.target(), latch.locked()), (Some(at(1)), None));
        assert_eq!(latch.check(at(1), 7, now), Verdict::Accept);
        assert_eq!(latch.check(at(2), 7, now), Verdict::Refuse, "the same SSRC from elsewhere");
        assert_eq!((latch.target(), latch.refused()), (Some(at(1)), 1));
    }

    #[test]
    fn another_address_is_learned_from_packets_in_a_row() {
        let (mut latch, now) = latch();
        assert_eq!(latch.check(at(2), 7, now), Verdict::Wait);
        assert_eq!(latch.check(at(3), 7, now), Verdict::Wait, "a stranger between begins it anew");
        assert_eq!([latch.check(at(2), 7, now), latch.check(at(2), 7, now)], [Verdict::Wait; 2]);
        assert_eq!(
            (latch.target(), latch.locked()),
            (Some(at(1)), None),
            "nothing goes to an address that is not learned"
        );
        assert_eq!(latch.check(at(2), 7, now), Verdict::Accept);
        assert_eq!(latch.target(), Some(at(2)));
    }

    #[test]
    fn the_signalled_address_wins_for_a_while_and_then_nobody_does() {
        let (mut latch, now) = latch();
        (0..3).for_each(|_| assert_ne!(latch.check(at(2), 7, now), Verdict::Refuse));
        let mut late = latch.clone();
        assert_eq!(latch.check(at(1), 9, now + LEARN_TIME / 2), Verdict::Switch);
        assert_eq!((latch.target(), latch.switches()), (Some(at(1)), 1));
        assert_eq!(late.check(at(1), 9, now + LATER), Verdict::Refuse);
        assert_eq!(late.target(), Some(at(2)));
        for _ in 0..100 {
            assert_eq!(late.check(at(3), 5, now + LATER), Verdict::Refuse);
        }
    }

    #[test]
    fn a_new_ssrc_counts_only_from_the_locked_address() {
        let (mut latch, now) = latch();
        latch.check(at(1), 7, now);
        let now = now + LATER;
        for _ in 0..10 {
            assert_eq!(latch.check(at(2), 8, now), Verdict::Refuse);
        }
        assert_eq!(latch.check(at(1), 8, now), Verdict::Wait);
        assert_eq!(latch.check(at(1), 7, now), Verdict::Accept);
        assert_eq!(latch.check(at(1), 8, now), Verdict::Wait, "one packet of another source changes nothing");
        assert_eq!(latch.check(at(1), 8, now), Verdict::Switch);
        assert_eq!(latch.check(at(1), 7, now), Verdict::Wait);
    }

    #[test]
    fn a_reinvite_opens_and_its_new_address_counts_at_once() {
        let (mut latch, now) = latch();
        latch.check(at(1), 7, now);
        let now = now + LATER;
        latch.reopen(Some(at(4)), now);
        assert_eq!(latch.target(), Some(at(4)), "ours go there before anything came");
        assert_eq!(latch.check(at(1), 7, now), Verdict::Accept, "what was on its way");
        assert_eq!(latch.check(at(4), 7, now), Verdict::Switch);
        assert_eq!(latch.check(at(1), 7, now + LATER), Verdict::Refuse);
    }

    #[test]
    fn an_address_that_a_reinvite_named_counts_however_late_it_speaks() {
        let (mut latch, now) = latch();
        latch.check(at(1), 7, now);
        let now = now + LATER;
        latch.reopen(Some(at(4)), now);
        // Silent for a minute but for a stranger; ours go where the signalling says.
        let now = now + LATER * 20;
        assert_eq!((latch.check(at(9), 7, now), latch.target()), (Verdict::Refuse, Some(at(4))));
        // A refresh that names it again changes nothing.
        latch.reopen(Some(at(4)), now);
        let now = now + LATER;
        assert_eq!(latch.check(at(4), 7, now), Verdict::Switch);
        assert_eq!((latch.target(), latch.check(at(1), 7, now)), (Some(at(4)), Verdict::Refuse));
        // Who was learned in its place is not thrown out by it afterwards.
        latch.reopen(Some(at(5)), now);
        (0..3).for_each(|_| assert_ne!(latch.check(at(6), 7, now), Verdict::Refuse));
        assert_eq!(latch.check(at(5), 7, now + LATER), Verdict::Refuse);
        assert_eq!(latch.target(), Some(at(6)));
    }

    #[test]
    fn without_learning_ours_go_where_the_signalling_says() {
        let now = Instant::now();
        let mut latch = Latch::new(Some(at(1)), false);
        latch.check(at(1), 7, now);
        latch.reopen(Some(at(4)), now);
        assert_eq!(latch.check(at(1), 7, now + LATER), Verdict::Accept, "what was on its way");
        assert_eq!(latch.target(), Some(at(4)));
        assert_eq!(latch.check(at(4), 7, now + LATER), Verdict::Switch);
    }

    #[test]
    fn a_refreshed_session_behind_a_nat_keeps_its_address() {
        let (mut latch, now) = latch();
        (0..3).for_each(|_| assert_ne!(latch.check(at(2), 7, now), Verdict::Refuse));
        let now = now + LATER;
        latch.reopen(Some(at(1)), now);
        assert_eq!(latch.target(), Some(at(2)), "the same SDP as before");
        assert_eq!(latch.check(at(2), 7, now), Verdict::Accept);
        // A moved NAT mapping is learned while the latch is open, and not afterwards.
        let mut moved = latch.clone();
        assert_eq!((0..3).map(|_| moved.check(at(5), 7, now)).last(), Some(Verdict::Switch));
        assert_eq!(moved.target(), Some(at(5)));
        assert_eq!((0..3).map(|_| latch.check(at(5), 7, now + LATER)).last(), Some(Verdict::Refuse));
    }

    #[test]
    fn who_moved_in_the_signalling_alone_is_heard_and_told_where_he_is() {
        let (mut latch, now) = latch();
        latch.check(at(1), 7, now);
        latch.reopen(Some(at(4)), now);
        assert_eq!(latch.check(at(1), 7, now + LATER), Verdict::Accept);
        assert_eq!(latch.target(), Some(at(1)));
        for nowhere in [None, Some(([0, 0, 0, 0], 4).into())] {
            latch.reopen(nowhere, now + LATER);
            assert_eq!(latch.target(), Some(at(1)), "a hold of old");
        }
    }

    #[test]
    fn who_was_not_signalled_is_learned_before_anything_is_sent() {
        let (mut latch, now) = (Latch::new(None, true), Instant::now());
        assert_eq!(latch.target(), None);
        assert_eq!((0..3).map(|_| latch.check(at(2), 7, now)).last(), Some(Verdict::Accept));
        assert_eq!(latch.target(), Some(at(2)));
    }

    #[test]
    fn without_symmetric_rtp_only_what_was_signalled_counts() {
        let now = Instant::now();
        let mut latch = Latch::new(Some(at(1)), false);
        for _ in 0..10 {
            assert_eq!(latch.check(at(2), 7, now), Verdict::Refuse);
        }
        assert_eq!(latch.check(at(1), 7, now), Verdict::Accept);
        assert_eq!(latch.refused(), 10);
    }
}
