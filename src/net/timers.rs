//! When which link wants to be called: one deadline per slot, and a heap that is only touched when one moves *forward*.
//!
//! A link's deadline (loss detection, idle, keep-alive) moves back with every packet. So an entry stays in the heap until its time;
//! only then, or when it is the next to wait for, is it compared with what the slot wants now. Moving back costs two stores.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    wanted: Option<Instant>,
    /// The earliest entry of this slot in the heap; later ones are stale.
    queued: Option<Instant>,
}

impl Timers {
    pub(super) fn arm(&mut self, slot: usize, deadline: Option<Instant>) {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot::default());
        }
        let entry = &mut self.slots[slot];
        entry.wanted = deadline;
        if let Some(deadline) = deadline
            && entry.queued.is_none_or(|queued| deadline < queued)
        {
            entry.queued = Some(deadline);
            self.heap.push(Reverse((deadline, slot)));
        }
        if self.heap.len() > 64 + 4 * self.slots.len() {
            self.rebuild();
        }
    }

    /// The earliest deadline of all.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some(&Reverse((time, slot))) = self.heap.peek() {
            let entry = &mut self.slots[slot];
            if entry.queued == Some(time) {
                match entry.wanted {
                    Some(wanted) if wanted <= time => return Some(wanted),
                    wanted => {
                        entry.queued = wanted;
                        self.heap.pop();
                        self.heap.extend(wanted.map(|wanted| Reverse((wanted, slot))));
                        continue;
                    }
                }
            }
            self.heap.pop();
        }
        None
    }

    /// A slot whose time has come; its deadline is gone.
    pub(super) fn expire(&mut self, now: Instant) -> Option<usize> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, slot)) = self.heap.pop()?;
        self.slots[slot] = Slot::default();
        Some(slot)
    }

    /// Drops stale entries, of which a slot whose deadline jumps to and fro leaves one per jump.
    fn rebuild(&mut self) {
        self.heap.clear();
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            entry.queued = entry.wanted;
            self.heap.extend(entry.wanted.map(|wanted| Reverse((wanted, slot))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn slots_expire_in_order_and_moved_deadlines_count() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut timers = Timers::default();
        timers.arm(0, at(10));
        timers.arm(1, at(20));
        timers.arm(2, at(30));
        timers.arm(0, at(25));
        timers.arm(2, at(5));
        timers.arm(1, None);
        assert_eq!(timers.next(), at(5));
        assert_eq!(timers.expire(start), None);
        let now = start + Duration::from_millis(40);
        assert_eq!([timers.expire(now), timers.expire(now), timers.expire(now)], [Some(2), Some(0), None]);
    }

    #[test]
    fn agrees_with_a_plain_list_and_stays_small() {
        let start = Instant::now();
        let (mut timers, mut list, mut random) = (Timers::default(), [None; 16], 1u64);
        for step in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, delay) = ((random >> 33) as usize % 16, random >> 50 & 1023);
            let deadline = (delay > 8).then(|| start + Duration::from_millis(step + delay));
            timers.arm(slot, deadline);
            list[slot] = deadline;
            let now = start + Duration::from_millis(step);
            while let Some(slot) = timers.expire(now) {
                assert!(list[slot].take().is_some_and(|deadline| deadline <= now));
            }
            assert_eq!(timers.next(), list.iter().flatten().min().copied());
            assert!(timers.heap.len() <= 64 + 4 * 16);
        }
    }
}
