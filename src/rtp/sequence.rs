//! Sequence numbers of one source: order, loss, probation and restart (RFC 3550 §A.1).
//!
//! A source is believed after a few packets in a row; a jump is believed when the packet behind it goes on from
//! there, for then its sender has begun anew. Duplicates are told from late packets as far as 64 packets back.

use std::ops::Add;

/// A step ahead by less is loss.
const MAX_DROPOUT: u16 = 3000;
/// A step back by less is a late packet.
const MAX_MISORDER: u16 = 100;
const SEQ_MOD: u64 = 1 << 16;
/// Packets behind the newest that are known one by one.
const WINDOW: u64 = 64;

/// What one packet is among those of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its source is not believed yet.
    Probation,
    /// The next one, behind `lost` that did not come so far. `number` never wraps.
    Next { number: u64, lost: u32 },
    /// Newer ones have come before it.
    Late { number: u64 },
    /// It has come before, or is older than anybody remembers.
    Duplicate,
    /// Far from all others. Believed only if the next one follows it.
    Stray,
    /// The source has begun anew: what was counted before is another story.
    Restart { number: u64 },
}

/// Counts over any number of stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub expected: u64,
    /// Never negative here.
    pub lost: u64,
    /// Runs of lost packets.
    pub gaps: u64,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            expected: self.expected + other.expected,
            lost: self.lost + other.lost,
            gaps: self.gaps + other.gaps,
        }
    }
}

/// Counts of RFC 3550 §A.3, since the source's begin or its last restart; [`Sequence::totals`] over all of it.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// `None` until the first packet.
    newest: Option<u64>,
    first: u64,
    /// Packets in a row that are still wanted.
    probation: u32,
    wanted: u32,
    /// What would follow a stray packet.
    after_stray: Option<u16>,
    /// Bit n: the packet n before the newest has come.
    seen: u64,
    received: u64,
    /// Runs of missing packets, for the burst ratio.
    gaps: u64,
    /// At the last report.
    expected_before: u64,
    received_before: u64,
    /// Before the last restart.
    ended: Totals,
}

impl Sequence {
    /// `probation`: packets in a row before a source is believed; 1 believes the first.
    pub fn new(probation: u32) -> Self {
        let wanted = probation.max(1);
        Self {
            newest: None,
            first: 0,
            probation: wanted,
            wanted,
            after_stray: None,
            seen: 0,
            received: 0,
            gaps: 0,
            expected_before: 0,
            received_before: 0,
            ended: Totals::default(),
        }
    }

    pub fn update(&mut self, sequence: u16) -> Arrival {
        let Some(newest) = self.newest else { return self.first(sequence) };
        if self.probation > 0 {
            return self.probe(newest, sequence);
        }
        let ahead = sequence.wrapping_sub(newest as u16);
        if ahead == 0 {
            return Arrival::Duplicate;
        }
        if ahead < MAX_DROPOUT {
            return self.advance(newest, u64::from(ahead));
        }
        let back = newest_minus(newest, sequence);
        if back <= MAX_MISORDER {
            return self.late(newest, u64::from(back));
        }
        if self.after_stray == Some(sequence) {
            return self.restart(sequence);
        }
        self.after_stray = Some(sequence.wrapping_add(1));
        Arrival::Stray
    }

    /// The newest packet's number: cycles above 16 bits, as a report wants it (RFC 3550 §6.4.1).
    pub fn newest(&self) -> u64 {
        // Numbers begin one cycle up, so that late packets of the first cycle have one.
        self.newest.unwrap_or(SEQ_MOD) - SEQ_MOD
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn expected(&self) -> u64 {
        match self.newest {
            Some(newest) if self.probation == 0 => newest - self.first + 1,
            _ => 0,
        }
    }

    /// Negative when duplicates outnumber what is missing (RFC 3550 §A.3).
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// How often packets were missing: one or many in a row.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Restarts or not.
    pub fn totals(&self) -> Totals {
        let lost = u64::try_from(self.lost()).unwrap_or_default();
        self.ended + Totals { packets: self.received, expected: self.expected(), lost, gaps: self.gaps }
    }

    /// The share lost since the last call, in 256ths (RFC 3550 §A.3).
    pub fn fraction_lost(&mut self) -> u8 {
        let expected = self.expected() - self.expected_before;
        let received = self.received.saturating_sub(self.received_before);
        (self.expected_before, self.received_before) = (self.expected(), self.received);
        match expected.saturating_sub(received) {
            0 => 0,
            lost => ((lost << 8) / expected).min(255) as u8,
        }
    }

    fn first(&mut self, sequence: u16) -> Arrival {
        self.newest = Some(SEQ_MOD + u64::from(sequence));
        self.probation = self.wanted - 1;
        if self.probation > 0 { Arrival::Probation } else { self.believe(Arrival::Next { number: 0, lost: 0 }) }
    }

    fn probe(&mut self, newest: u64, sequence: u16) -> Arrival {
        if sequence != (newest as u16).wrapping_add(1) {
            self.newest = Some(SEQ_MOD + u64::from(sequence));
            self.probation = self.wanted - 1;
            return Arrival::Probation;
        }
        self.newest = Some(newest + 1);
        self.probation -= 1;
        if self.probation > 0 { Arrival::Probation } else { self.believe(Arrival::Next { number: 0, lost: 0 }) }
    }

    /// Counting begins with the packet that has just come.
    fn believe(&mut self, as_what: Arrival) -> Arrival {
        let newest = self.newest.unwrap_or(SEQ_MOD);
        (self.first, self.seen, self.received, self.gaps) = (newest, 1, 1, 0);
        (self.expected_before, self.received_before, self.after_stray) = (0, 0, None);
        let number = newest - SEQ_MOD;
        match as_what {
            Arrival::Restart { .. } => Arrival::Restart { number },
            _ => Arrival::Next { number, lost: 0 },
        }
    }

    fn advance(&mut self, newest: u64, ahead: u64) -> Arrival {
        self.newest = Some(newest + ahead);
        self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
        self.received += 1;
        self.gaps += u64::from(ahead > 1);
        self.after_stray = None;
        Arrival::Next { number: newest + ahead - SEQ_MOD, lost: ahead as u32 - 1 }
    }

    fn late(&mut self, newest: u64, back: u64) -> Arrival {
        let number = newest - back;
        if back >= WINDOW || number < self.first || self.seen >> back & 1 == 1 {
            return Arrival::Duplicate;
        }
        self.seen |= 1 << back;
        self.received += 1;
        Arrival::Late { number: number - SEQ_MOD }
    }

    /// Numbers go on above all that were given, so that nobody takes the new for the old.
    fn restart(&mut self, sequence: u16) -> Arrival {
        self.ended = self.totals();
        let newest = self.newest.unwrap_or(SEQ_MOD);
        let base = (newest / SEQ_MOD + 1) * SEQ_MOD;
        self.newest = Some(base + u64::from(sequence));
        self.believe(Arrival::Restart { number: 0 })
    }
}

fn newest_minus(newest: u64, sequence: u16) -> u16 {
    (newest as u16).wrapping_sub(sequence)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn believed(first: u16) -> Sequence {
        let mut sequence = Sequence::new(1);
        assert_eq!(sequence.update(first), Arrival::Next { number: u64::from(first), lost: 0 });
        sequence
    }

    #[test]
    fn the_wrap_is_one_step() {
        let mut sequence = believed(65_534);
        assert_eq!(sequence.update(65_535), Arrival::Next { number: 65_535, lost: 0 });
        assert_eq!(sequence.update(0), Arrival::Next { number: 65_536, lost: 0 });
        assert_eq!(sequence.update(2), Arrival::Next { number: 65_538, lost: 1 });
        assert_eq!(sequence.update(1), Arrival::Late { number: 65_537 });
        assert_eq!((sequence.newest(), sequence.lost(), sequence.expected()), (65_538, 0, 5));
    }

    #[test]
    fn a_late_packet_of_before_the_wrap_keeps_its_number() {
        let mut sequence = believed(65_533);
        assert_eq!(sequence.update(1), Arrival::Next { number: 65_537, lost: 3 });
        assert_eq!(sequence.update(65_535), Arrival::Late { number: 65_535 });
        assert_eq!(sequence.update(65_535), Arrival::Duplicate);
        assert_eq!(sequence.update(65_532), Arrival::Duplicate, "from before the first one: nobody waits for it");
    }

    #[test]
    fn a_source_is_believed_when_packets_follow_each_other() {
        let mut sequence = Sequence::new(2);
        assert_eq!(sequence.update(500), Arrival::Probation);
        assert_eq!(sequence.update(9), Arrival::Probation, "a jump begins it anew");
        assert_eq!(sequence.expected(), 0);
        assert_eq!(sequence.update(10), Arrival::Next { number: 10, lost: 0 });
        assert_eq!((sequence.received(), sequence.expected()), (1, 1), "RFC 3550 §A.1: counting begins here");
    }

    #[test]
    fn a_jump_counts_when_the_next_packet_goes_on_from_it() {
        let mut sequence = believed(100);
        assert_eq!(sequence.update(40_000), Arrival::Stray);
        assert_eq!(sequence.update(101), Arrival::Next { number: 101, lost: 0 });
        assert_eq!(sequence.update(40_001), Arrival::Stray, "the one between spoiled it");
        let Arrival::Restart { number } = sequence.update(40_002) else { panic!("two in a row") };
        assert!(number > 101 && number as u16 == 40_002);
        assert_eq!((sequence.received(), sequence.lost()), (1, 0));
        assert_eq!(sequence.totals(), Totals { packets: 3, expected: 3, lost: 0, gaps: 0 });
        assert_eq!(sequence.update(40_003), Arrival::Next { number: number + 1, lost: 0 });
    }

    #[test]
    fn a_sender_that_begins_anew_below_its_number_goes_up() {
        let mut sequence = believed(30_000);
        sequence.update(7);
        let Arrival::Restart { number } = sequence.update(8) else { panic!("two in a row") };
        assert!(number > 30_000);
    }

    #[test]
    fn loss_as_rfc_3550_a_3_counts_it() {
        let mut sequence = believed(0);
        for number in [1, 2, 3, 8, 9] {
            sequence.update(number);
        }
        assert_eq!((sequence.expected(), sequence.received(), sequence.lost(), sequence.gaps()), (10, 6, 4, 1));
        assert_eq!(sequence.fraction_lost(), (4 * 256 / 10) as u8);
        assert_eq!(sequence.fraction_lost(), 0, "nothing since");
        sequence.update(12);
        assert_eq!(sequence.fraction_lost(), (2 * 256 / 3) as u8);
        // Two that were counted as lost come after all, in the next interval: no loss, and no less than none.
        sequence.update(10);
        sequence.update(11);
        assert_eq!((sequence.fraction_lost(), sequence.lost()), (0, 4));
    }

    proptest! {
        #[test]
        fn whatever_comes_numbers_rise_and_counts_hold(first: u16, steps in proptest::collection::vec(0u16..400, 1..400)) {
            let mut sequence = Sequence::new(1);
            let mut newest = None;
            let mut at = first;
            for step in steps {
                // Mostly forward, sometimes back.
                at = if step > 380 { at.wrapping_sub(step % 90) } else { at.wrapping_add(step % 7) };
                match sequence.update(at) {
                    Arrival::Next { number, .. } | Arrival::Restart { number } => {
                        prop_assert!(newest.is_none_or(|newest| number > newest));
                        prop_assert_eq!(number as u16, at);
                        newest = Some(number);
                    }
                    Arrival::Late { number } => {
                        prop_assert!(newest.is_some_and(|newest| number < newest));
                        prop_assert_eq!(number as u16, at);
                    }
                    Arrival::Duplicate | Arrival::Stray | Arrival::Probation => {}
                }
                prop_assert!(sequence.received() <= sequence.expected());
            }
        }

        /// Each packet once, in any order within the window: nothing is lost and nothing comes twice.
        #[test]
        fn a_shuffled_stream_arrives_whole(first: u16, swaps in proptest::collection::vec(0usize..40, 200)) {
            let mut order: Vec<u16> = (0..200).map(|n| first.wrapping_add(n)).collect();
            // Behind the first one, in blocks: none is later than the window is long.
            for (block, swaps) in order[1..].chunks_mut(32).zip(swaps.chunks(32)) {
                (0..block.len()).for_each(|at| block.swap(at, swaps[at] % block.len()));
            }
            let mut sequence = Sequence::new(1);
            let arrivals: Vec<_> = order.iter().map(|number| sequence.update(*number)).collect();
            let whole = arrivals.iter().all(|arrival| matches!(arrival, Arrival::Next { .. } | Arrival::Late { .. }));
            prop_assert!(whole, "{:?}", arrivals);
            prop_assert_eq!((sequence.lost(), sequence.received()), (0, 200));
        }
    }
}
