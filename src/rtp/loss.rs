//! How much of our stream the far end will lose, for whoever makes it: what its reports say (RFC 3550 §6.4.1), smoothed.
//!
//! A report counts for as much as it covers, so that many short ones say no more than one long one, and one that comes twice says nothing.
//! At the usual distance of five seconds the half of what it says is believed at once, nearly all of it after three; a line that
//! has become good is taken for good within half a minute.

use super::rtcp::ReportBlock;

/// Packets of which a report is believed by half.
const HALF: f64 = 100.0;

/// Of one stream of ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    share: f64,
    highest: Option<u32>,
}

impl Expected {
    /// What the far end says of our stream.
    pub(super) fn handle(&mut self, block: &ReportBlock) {
        let now = block.highest_sequence;
        let covered = self.highest.replace(now).map_or(HALF, |before| f64::from(now.wrapping_sub(before) as i32));
        // One that was overtaken, or counts without its cycles, is where the next one begins.
        if covered > 0.0 {
            let lost = f64::from(block.fraction_lost) / 256.0;
            self.share += (lost - self.share) * covered / (covered + HALF);
        }
    }

    /// Less than half a percent is nothing.
    pub(super) fn percent(&self) -> u8 {
        (self.share * 100.0).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(percent: u8, highest_sequence: u32) -> ReportBlock {
        let fraction_lost = (u32::from(percent) * 256 / 100).min(255) as u8;
        ReportBlock { fraction_lost, highest_sequence, ..ReportBlock::default() }
    }

    #[test]
    fn what_reports_say_is_believed_by_and_by_and_forgotten_when_it_is_over() {
        let (mut expected, mut highest) = (Expected::default(), 70_000);
        let mut told = |percent| {
            highest += 250;
            expected.handle(&block(percent, highest));
            expected.percent()
        };
        assert_eq!([0, 0, 10, 10, 10].map(&mut told), [0, 0, 7, 9, 10]);
        let after = [0; 6].map(&mut told);
        assert_eq!((after[0], after[5]), (3, 0), "{after:?}");
        assert!(after.is_sorted_by(|one, next| one >= next));
        assert_eq!(told(100), 71);
    }

    #[test]
    fn a_report_counts_for_what_it_covers() {
        let (mut long, mut short) = (Expected::default(), Expected::default());
        long.handle(&block(0, 0));
        short.handle(&block(0, 0));
        long.handle(&block(20, 100));
        (1..=100).for_each(|packet| short.handle(&block(20, packet)));
        assert!((9..=13).contains(&long.percent()) && (9..=13).contains(&short.percent()));
        // The same once more, a thousand times; an older one; and a counter that begins anew.
        let before = long.percent();
        (0..1000).for_each(|_| long.handle(&block(100, 100)));
        long.handle(&block(100, 50));
        long.handle(&block(100, u32::MAX));
        assert_eq!(long.percent(), before);
        long.handle(&block(0, 400));
        assert!(long.percent() < before);
    }
}
