//! Maps by numbers that this process gives out itself, or that a peer must count up one by one.
//!
//! Every frame is looked up some twenty times on its way: the standard hasher, made for keys that an enemy may choose, would cost more
//! than what is found. Where a peer can choose the key (aliases, names) the standard map stays.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by small numbers.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Multiplies by an odd constant; the upper bits, which are the best mixed, become the lower ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

/// 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.wrapping_add(number).wrapping_mul(FACTOR);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;

    fn hash(key: impl Hash) -> u64 {
        let mut hasher = IdHasher::default();
        key.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn ids_that_follow_each_other_spread_over_buckets_and_tags() {
        for (step, shift) in [(1u64, 0), (2, 0), (4, 0), (1, 32)] {
            let hashes: Vec<u64> = (0..1024u64).map(|id| hash((id * step) << shift)).collect();
            let buckets: HashSet<u64> = hashes.iter().map(|hash| hash % 2048).collect();
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert!(buckets.len() > 600, "{step} << {shift}: {} buckets", buckets.len());
            assert!(tags.len() > 50, "{step} << {shift}: {} tags", tags.len());
        }
        assert_ne!(hash((1u64, 2u64)), hash((2u64, 1u64)));
    }
}
