//! One provisional answer that has to arrive (RFC 3262 §3), as whoever is called sends it: said again and again until its PRACK, and the
//! INVITE refused where none comes.
//!
//! A [`Reliable`] is one of one INVITE: nothing of ours ever needs a second. What is sent, and over which transport, is the stack's; the
//! RFC has it repeated over TCP, too, since hops behind the first may be others.

use std::time::{Duration, Instant};

/// The option's name in Require and Supported.
pub const OPTION: &str = "100rel";
/// §7.1: RSeq begins within 31 bits, so that no later one of the same INVITE would run over.
const MOST_FIRST: u32 = (1 << 31) - 1;

/// What is to be done by its timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The same once more.
    Again,
    /// Nobody has acknowledged it in 64·T1: the INVITE is to be refused (5xx).
    Refuse,
}

/// See the file's contract.
#[derive(Clone, Debug)]
pub struct Reliable {
    rseq: u32,
    invite: u32,
    pause: Duration,
    due: Instant,
    ends: Instant,
    /// Its PRACK has not come. Behind a final answer it still may (§3).
    is_open: bool,
    is_repeated: bool,
}

impl Reliable {
    /// Sent now, for the first time. `invite`: the INVITE's CSeq. `chance`: any number.
    pub fn new(chance: u32, invite: u32, t1: Duration, now: Instant) -> Self {
        let rseq = chance % MOST_FIRST + 1;
        Self { rseq, invite, pause: t1, due: now + t1, ends: now + t1 * 64, is_open: true, is_repeated: true }
    }

    pub fn rseq(&self) -> u32 {
        self.rseq
    }

    /// It was not acknowledged.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A PRACK with this RAck. `false`: it acknowledges nothing that waits for one, which is a 481 (§3).
    pub fn handle_prack(&mut self, rack: &str) -> bool {
        let mut parts = rack.split_ascii_whitespace();
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let is_its = self.is_open && number() == Some(self.rseq) && number() == Some(self.invite);
        // Methods are told apart by case (RFC 3261 §7.1).
        let is_its = is_its && parts.next() == Some("INVITE") && parts.next().is_none();
        self.is_open &= !is_its;
        is_its
    }

    /// The INVITE has its final answer: what was said before is not said again.
    pub fn close(&mut self) {
        self.is_repeated = false;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.is_open && self.is_repeated).then(|| self.due.min(self.ends))
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return None;
        }
        if now >= self.ends {
            self.is_repeated = false;
            return Some(Due::Refuse);
        }
        // §3: the pause doubles, without the bound that others have.
        self.pause *= 2;
        self.due = now + self.pause;
        Some(Due::Again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    fn sent() -> (Reliable, Instant) {
        let now = Instant::now();
        (Reliable::new(41, 7, T1, now), now)
    }

    /// When what was due, in units of T1.
    fn followed(reliable: &mut Reliable, began: Instant) -> Vec<(u32, Due)> {
        let mut all = Vec::new();
        while let Some(at) = reliable.poll_timeout() {
            let due = reliable.handle_timeout(at).expect("it wanted to be asked now");
            all.push(((at - began).div_duration_f64(T1).round() as u32, due));
        }
        all
    }

    #[test]
    fn it_is_repeated_ever_more_slowly_and_given_up_after_64_t1() {
        let (mut reliable, began) = sent();
        let again = |at: u32| (at, Due::Again);
        let expected = [again(1), again(3), again(7), again(15), again(31), again(63), (64, Due::Refuse)];
        assert_eq!(followed(&mut reliable, began), expected);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let (mut reliable, began) = sent();
        assert_eq!(reliable.handle_timeout(began), None);
        assert_eq!(reliable.handle_timeout(began + T1), Some(Due::Again));
        assert_eq!(reliable.handle_timeout(began + T1), None);
        // A clock that stood still for a minute: it is over, and not said again.
        assert_eq!(reliable.handle_timeout(began + T1 * 128), Some(Due::Refuse));
        assert_eq!(reliable.handle_timeout(began + T1 * 256), None);
    }

    #[test]
    fn its_prack_ends_it_and_no_other() {
        let (mut reliable, _) = sent();
        for other in [
            "",
            "42",
            "42 7",
            "41 7 INVITE",
            "42 8 INVITE",
            "42 7 PRACK",
            "42 7 invite",
            "42 7 INVITE x",
            "-42 7 INVITE",
        ] {
            assert!(!reliable.handle_prack(other) && reliable.is_open(), "{other:?}");
        }
        assert!(reliable.handle_prack(" 42\t7  INVITE"));
        assert_eq!((reliable.is_open(), reliable.poll_timeout()), (false, None));
        assert!(!reliable.handle_prack("42 7 INVITE"), "a second one acknowledges nothing");
    }

    #[test]
    fn behind_a_final_answer_it_is_not_said_again_and_its_prack_may_still_come() {
        let (mut reliable, began) = sent();
        reliable.close();
        assert_eq!((reliable.poll_timeout(), reliable.handle_timeout(began + T1 * 65)), (None, None));
        assert!(reliable.handle_prack("42 7 INVITE") && !reliable.handle_prack("42 7 INVITE"));
    }

    #[test]
    fn numbers_begin_within_31_bits_and_never_at_0() {
        let (_, now) = sent();
        let first = |chance| Reliable::new(chance, 1, T1, now).rseq();
        assert_eq!((first(0), first(u32::MAX), first(MOST_FIRST), first(MOST_FIRST - 1)), (1, 2, 1, MOST_FIRST));
    }
}
