#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Buffer, Pulled, Rules};

const WAIT: Duration = Duration::from_millis(20);

fn buffer(wait: Duration) -> (Buffer<u64>, Instant) {
    (Buffer::new(Rules { wait, capacity: 8 }), Instant::now())
}

fn item(number: u64) -> Pulled<u64> {
    Pulled::Item { number, timestamp: number * 160, item: number }
}

fn missing(first: u64, count: u64) -> Pulled<u64> {
    Pulled::Missing { first, count }
}

fn insert(buffer: &mut Buffer<u64>, number: u64, now: Instant) -> bool {
    buffer.insert(number, number * 160, number, now)
}

fn all(buffer: &mut Buffer<u64>, now: Instant) -> Vec<Pulled<u64>> {
    std::iter::from_fn(|| buffer.pull(now)).collect()
}

#[test]
fn what_is_in_order_waits_for_nothing() {
    let (mut buffer, now) = buffer(WAIT);
    for number in 70_000..70_020 {
        assert!(insert(&mut buffer, number, now));
        assert_eq!(all(&mut buffer, now), [item(number)]);
        assert_eq!(buffer.poll_timeout(), None);
    }
}

#[test]
fn a_hole_is_waited_for_and_then_named() {
    let (mut buffer, now) = buffer(WAIT);
    insert(&mut buffer, 1, now);
    insert(&mut buffer, 4, now);
    insert(&mut buffer, 5, now + WAIT / 2);
    assert_eq!(all(&mut buffer, now + WAIT / 2), [item(1)]);
    assert_eq!((buffer.poll_timeout(), buffer.len()), (Some(now + WAIT), 2));
    assert_eq!(all(&mut buffer, now + WAIT), [missing(2, 2), item(4), item(5)]);
    assert!(!insert(&mut buffer, 3, now + WAIT));
    assert_eq!((buffer.counters().late, buffer.counters().missing), (1, 2));
}

#[test]
fn a_packet_that_comes_while_its_place_is_kept_is_in_order() {
    let (mut buffer, now) = buffer(WAIT);
    for number in [1, 3, 4, 2] {
        assert!(insert(&mut buffer, number, now));
    }
    assert_eq!(all(&mut buffer, now), [item(1), item(2), item(3), item(4)]);
    assert!(!insert(&mut buffer, 4, now), "it was pulled");
    insert(&mut buffer, 6, now);
    assert!(!insert(&mut buffer, 6, now));
    assert_eq!((buffer.counters().double, buffer.counters().late), (1, 1));
}

#[test]
fn without_a_wait_nothing_is_held_up() {
    let (mut buffer, now) = buffer(Duration::ZERO);
    insert(&mut buffer, 1, now);
    insert(&mut buffer, 3, now);
    assert_eq!(all(&mut buffer, now), [item(1), missing(2, 1), item(3)]);
    assert!(!insert(&mut buffer, 2, now));
}

#[test]
fn what_does_not_fit_gives_up_the_hole_in_front() {
    let (mut buffer, now) = buffer(WAIT);
    insert(&mut buffer, 1, now);
    assert_eq!(all(&mut buffer, now), [item(1)]);
    for number in [3, 5, 9, 11] {
        assert!(insert(&mut buffer, number, now));
    }
    // 11 needs the place of 3, so that nothing below 4 can be waited for.
    assert_eq!(all(&mut buffer, now), [missing(2, 1), item(3)]);
    assert_eq!(
        all(&mut buffer, now + WAIT),
        [missing(4, 1), item(5), missing(6, 3), item(9), missing(10, 1), item(11)]
    );
    insert(&mut buffer, 1_000_000, now);
    assert_eq!(all(&mut buffer, now), [missing(12, 999_981)]);
    assert_eq!(all(&mut buffer, now + WAIT), [missing(999_993, 7), item(1_000_000)]);
    assert_eq!(buffer.counters().overflowed, 1 + 999_981);
}

#[test]
fn another_stream_begins_where_it_likes() {
    let (mut buffer, now) = buffer(WAIT);
    insert(&mut buffer, 900, now);
    insert(&mut buffer, 902, now);
    buffer.clear();
    assert_eq!((buffer.pull(now + WAIT), buffer.is_empty()), (None, true));
    insert(&mut buffer, 3, now);
    assert_eq!(all(&mut buffer, now), [item(3)]);
}

#[test]
fn nobody_pulls_and_it_stays_small() {
    let (mut buffer, now) = buffer(WAIT);
    (0..10_000).for_each(|number| assert!(insert(&mut buffer, number * 2, now)));
    assert!(all(&mut buffer, now + WAIT).len() <= 2 * 8 + 2 * 8);
}

proptest! {
    /// Whatever comes in whatever order: items leave in order, each once, and every number between first and last is an item or
    /// missing.
    #[test]
    fn nothing_is_out_of_order_twice_or_unaccounted(
        numbers in proptest::collection::vec((0u64..200, 0u64..15), 1..300),
        wait in 0u64..60,
    ) {
        let (mut buffer, mut now) = (Buffer::new(Rules { wait: Duration::from_millis(wait), capacity: 16 }), Instant::now());
        let (mut next, mut seen, mut inserted) = (None, HashSet::new(), 0);
        let mut drain = |buffer: &mut Buffer<u64>, now| {
            while let Some(pulled) = buffer.pull(now) {
                let (first, count) = match pulled {
                    Pulled::Item { number, timestamp, item } => {
                        assert_eq!((timestamp, item), (number * 160, number));
                        assert!(seen.insert(number));
                        (number, 1)
                    }
                    Pulled::Missing { first, count } => (first, count),
                };
                assert!(count > 0 && next.is_none_or(|next| next == first), "{next:?} {first}");
                next = Some(first + count);
            }
            seen.len()
        };
        for (number, pause_ms) in numbers {
            now += Duration::from_millis(pause_ms);
            inserted += usize::from(insert(&mut buffer, number, now));
            drain(&mut buffer, now);
            prop_assert!(buffer.poll_timeout().is_none_or(|at| at > now), "what is due was pulled");
        }
        let pulled = drain(&mut buffer, now + Duration::from_secs(1));
        prop_assert_eq!(pulled, inserted);
    }
}
