//! What is due when: at most one time per key, in order of time. Pure; a time that is taken back leaves nothing behind.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

#[derive(Debug)]
pub struct Timers<K> {
    due: BTreeSet<(Instant, K)>,
    /// The entry of each key in `due`.
    set: HashMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), set: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Sets the key's time in place of the one before; `None` takes it back.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.set.insert(key, at),
            None => self.set.remove(&key),
        };
        if let Some(before) = before {
            self.due.remove(&(before, key));
        }
        if let Some(at) = at {
            self.due.insert((at, key));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A key whose time has come; it has none from then on. Call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (_, key) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.set(key, None);
        Some(key)
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_key_has_one_time_and_gives_it_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set("a", Some(at(10)));
        timers.set("b", Some(at(10)));
        timers.set("c", Some(at(5)));
        timers.set("a", Some(at(20)));
        timers.set("c", None);
        assert_eq!((timers.next(), timers.len()), (Some(at(10)), 2));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(30)), Some("b"));
        assert_eq!(timers.pop(at(30)), Some("a"));
        assert_eq!((timers.pop(at(30)), timers.next(), timers.is_empty()), (None, None, true));
    }
}
