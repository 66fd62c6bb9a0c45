//! A map that is small nearly always: what one link has of requests, streams and flows.
//!
//! Up to [`FEW`] entries lie in one row and are searched one by one; beyond, it is an [`IdMap`], until it is empty again. A link's
//! memory is cold when its frame comes, 20 ms after the last: a row is there after one fetch, a table of hashes after two that
//! wait for each other. Keys follow the rule of [`IdMap`]; the order of iteration means nothing.

use std::hash::Hash;

use super::ids::IdMap;

/// A dedicated link has half of this; the engine's own link has hundreds.
const FEW: usize = 8;

#[derive(Debug)]
pub enum FewMap<K, V> {
    Few(Vec<(K, V)>),
    Many(IdMap<K, V>),
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<K: Copy + Eq + Hash, V> FewMap<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        match self {
            // The newest entries are the ones in use.
            Self::Few(row) => row.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value),
            Self::Many(map) => map.get(key),
        }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Few(row) => row.iter_mut().rev().find(|(other, _)| other == key).map(|(_, value)| value),
            Self::Many(map) => map.get_mut(key),
        }
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Returns the value that had the key before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(std::mem::replace(old, value));
        }
        match self {
            Self::Few(row) if row.len() < FEW => row.push((key, value)),
            Self::Few(row) => {
                let mut map: IdMap<K, V> = row.drain(..).collect();
                map.insert(key, value);
                *self = Self::Many(map);
            }
            Self::Many(map) => drop(map.insert(key, value)),
        }
        None
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Few(row) => {
                let at = row.iter().rposition(|(other, _)| other == key)?;
                Some(row.swap_remove(at).1)
            }
            Self::Many(map) => {
                let removed = map.remove(key);
                if map.is_empty() {
                    self.clear();
                }
                removed
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Few(row) => row.len(),
            Self::Many(map) => map.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (row, map) = match self {
            Self::Few(row) => (&row[..], None),
            Self::Many(map) => (&[][..], Some(map)),
        };
        row.iter().map(|(key, value)| (key, value)).chain(map.into_iter().flatten())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let (row, map) = match self {
            Self::Few(row) => (&mut row[..], None),
            Self::Many(map) => (&mut [][..], Some(map)),
        };
        row.iter_mut().map(|(key, value)| (&*key, value)).chain(map.into_iter().flatten())
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Sizes that go up and down over the bound, so that both forms and both ways between them are seen.
    #[test]
    fn agrees_with_a_plain_map() {
        let (mut few, mut plain, mut random) = (FewMap::default(), BTreeMap::new(), 1_u64);
        let (mut rows, mut tables) = (0, 0);
        for step in 0..40_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 40) % (2 + (step / 1000) % 20);
            match random >> 62 {
                0 | 1 if step % 1000 < 900 => assert_eq!(few.insert(key, step), plain.insert(key, step)),
                0..=2 => assert_eq!(few.remove(&key), plain.remove(&key)),
                _ => {
                    few.iter_mut().for_each(|(_, value)| *value += 1);
                    plain.values_mut().for_each(|value| *value += 1);
                    if let (Some(one), Some(other)) = (few.get_mut(&key), plain.get_mut(&key)) {
                        (*one, *other) = (step, step);
                    }
                }
            }
            assert_eq!((few.len(), few.is_empty()), (plain.len(), plain.is_empty()));
            assert_eq!((few.get(&key), few.contains_key(&key)), (plain.get(&key), plain.contains_key(&key)));
            let mut pairs: Vec<_> = few.iter().map(|(key, value)| (*key, *value)).collect();
            pairs.sort_unstable();
            assert!(pairs.iter().eq(plain.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>().iter()));
            assert!(few.keys().count() == plain.len() && few.values().sum::<u64>() == plain.values().sum::<u64>());
            match few {
                FewMap::Few(_) => rows += 1,
                FewMap::Many(_) => tables += 1,
            }
        }
        assert!(rows > 1000 && tables > 1000, "{rows} {tables}");
        few.clear();
        assert!(few.is_empty());
    }
}
