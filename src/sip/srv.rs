//! Where the name of a far side leads: its SRV records (RFC 2782, RFC 3263 §4.2), in which order they are tried, and how long anything
//! that was looked up is believed.
//!
//! A name with a port, and an address, have none. The transport is known, since a trunk names it: NAPTR records, which would choose one
//! (RFC 3263 §4.1), are not asked for. Chance is an argument, and time too.

use std::time::{Duration, Instant};

use super::dice::Dice;

/// Of one answer; the rest is passed over.
pub const MOST_RECORDS: usize = 32;
/// How long an answer is believed at least, whatever it says: the requests of one call ask once.
const LEAST: Duration = Duration::from_secs(5);
/// And at most: so long the gate knows an address, and so soon a carrier that moves is found again.
const MOST: Duration = Duration::from_secs(3600);
/// Whoever did not answer is asked again after this.
const AFTER_SILENCE: Duration = Duration::from_secs(30);

/// One place of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The lower ones first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// What a name says of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    At(Vec<Record>),
    /// Its only record leads to ".": decidedly not there (RFC 2782).
    NotOffered,
    /// Nothing: the name's own addresses are meant (RFC 3263 §4.2).
    Unsaid,
}

/// In which order they are tried (RFC 2782): by priority, and by chance among equals, whose chance is their weight. Ours is drawn anew
/// for each call, so that all calls together come near the weights.
pub fn ordered(mut records: Vec<Record>, dice: &mut Dice) -> Vec<Record> {
    // Those without weight stand first, so that they are chosen by a 0 alone.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let equals = records.partition_point(|record| record.priority == first.priority);
        let sum = records[..equals].iter().map(|record| u32::from(record.weight)).sum();
        let (drawn, mut passed) = (dice.up_to(sum), 0);
        let reaches = |record: &Record| {
            passed += u32::from(record.weight);
            passed >= drawn
        };
        let at = records[..equals].iter().position(reaches).unwrap_or_default();
        ordered.push(records.remove(at));
    }
    ordered
}

/// The last answer to something that is looked up again and again. When nobody answers, what was known goes on to be known.
#[derive(Clone, Debug)]
pub struct Known<T> {
    value: Option<T>,
    due: Option<Instant>,
    is_silent: bool,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { value: None, due: None, is_silent: false }
    }
}

impl<T> Known<T> {
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// It is to be asked.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Nobody answered the last time.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// `lifetime`: as the answer says.
    pub fn handle_answer(&mut self, value: T, lifetime: Duration, now: Instant) {
        let due = Some(now + lifetime.clamp(LEAST, MOST));
        *self = Self { value: Some(value), due, is_silent: false };
    }

    pub fn handle_silence(&mut self, now: Instant) {
        (self.due, self.is_silent) = (Some(now + AFTER_SILENCE), true);
    }

    /// When to ask again; `None`: at once.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, port: u16) -> Record {
        Record { priority, weight, port, target: "h".to_owned() }
    }

    fn ports(records: &[Record]) -> Vec<u16> {
        records.iter().map(|record| record.port).collect()
    }

    #[test]
    fn the_lower_priority_comes_first_whatever_the_weights() {
        let mut dice = Dice::new(1);
        for _ in 0..100 {
            let records = vec![record(20, 9, 3), record(0, 0, 1), record(10, 65_535, 2), record(65_535, 1, 4)];
            assert_eq!(ports(&ordered(records, &mut dice)), [1, 2, 3, 4]);
        }
        assert!(ordered(Vec::new(), &mut dice).is_empty());
    }

    #[test]
    fn among_equals_the_first_is_drawn_by_weight() {
        let (mut dice, mut firsts) = (Dice::new(7), [0; 3]);
        for _ in 0..10_000 {
            let order = ordered(vec![record(1, 10, 0), record(1, 60, 1), record(1, 30, 2)], &mut dice);
            let mut all = ports(&order);
            firsts[usize::from(all[0])] += 1;
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2], "each is there once");
        }
        // Shares of 10, 60 and 30 per cent, give or take five times their deviation.
        for (times, share) in firsts.into_iter().zip([1000_i32, 6000, 3000]) {
            assert!((times - share).abs() < 250, "{firsts:?}");
        }
    }

    #[test]
    fn one_without_weight_is_hardly_ever_first_beside_one_that_has_some() {
        let (mut dice, mut first) = (Dice::new(3), 0);
        for _ in 0..10_000 {
            first += i32::from(ordered(vec![record(1, 99, 1), record(1, 0, 0)], &mut dice)[0].port == 0);
        }
        assert!((50..150).contains(&first), "one in a hundred: {first}");
    }

    #[test]
    fn after_the_first_the_rest_is_drawn_by_weight_too() {
        let (mut dice, mut seconds) = (Dice::new(5), [0; 3]);
        for _ in 0..10_000 {
            let order = ordered(vec![record(1, 0, 0), record(2, 90, 1), record(2, 10, 2)], &mut dice);
            seconds[usize::from(order[1].port)] += 1;
        }
        assert!(seconds[0] == 0 && (8700..9300).contains(&seconds[1]), "{seconds:?}");
    }

    #[test]
    fn the_largest_weights_there_are() {
        let records: Vec<Record> = (0..MOST_RECORDS as u16).map(|port| record(0, u16::MAX, port)).collect();
        assert_eq!(ordered(records, &mut Dice::new(9)).len(), MOST_RECORDS);
    }

    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_answer_is_believed_for_its_own_time_within_reason() {
        for (says, believed) in [(0, 5), (60, 60), (5, 5), (86_400, 3600)] {
            let (mut known, now) = (Known::default(), origin());
            assert!(known.is_due(now) && known.value().is_none());
            known.handle_answer(1, Duration::from_secs(says), now);
            let until = now + Duration::from_secs(believed);
            assert_eq!((known.due(), known.is_due(until - Duration::from_millis(1))), (Some(until), false), "{says}");
            assert!(known.is_due(until));
        }
    }

    #[test]
    fn what_was_known_is_known_while_nobody_answers() {
        let (mut known, mut now) = (Known::default(), origin());
        known.handle_answer("a", Duration::from_secs(10), now);
        for _ in 0..100 {
            now = known.due().unwrap();
            assert!(known.is_due(now));
            known.handle_silence(now);
            assert_eq!((known.value(), known.is_silent(), known.due()), (Some(&"a"), true, Some(now + AFTER_SILENCE)));
        }
        known.handle_answer("b", Duration::from_secs(10), now);
        assert_eq!((known.value(), known.is_silent()), (Some(&"b"), false));
    }
}
