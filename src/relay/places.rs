//! Who is there, and from where: the places of a relay, over all its shards.
//!
//! A lock is taken when a session of a wire comes, when its tokens are known and when it goes, never in between.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use super::Admission;

/// Sessions on wires: all, by address, and by whose tokens they came with.
#[derive(Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    by_identity: HashMap<Box<str>, usize>,
}

/// Why somebody can't stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    Address,
    All,
}

impl Places {
    /// Takes a place; also who is beyond the bounds has one until [`Places::leave`], while he is being closed.
    pub(super) fn enter(&self, address: IpAddr, admission: &Admission) -> Result<(), Beyond> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all += 1;
        let there = taken.by_address.entry(counted(address)).or_default();
        *there += 1;
        if *there > admission.sessions_per_address {
            return Err(Beyond::Address);
        }
        if taken.all > admission.sessions { Err(Beyond::All) } else { Ok(()) }
    }

    pub(super) fn leave(&self, address: IpAddr) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let address = counted(address);
        if let Some(there) = taken.by_address.get_mut(&address) {
            *there -= 1;
            if *there == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

impl Places {
    /// Takes a place for each of these token identities, or none: `false`, one has `most` already. [`Places::leave_as`] gives them back.
    pub(super) fn enter_as(&self, identities: &[&str], most: usize) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |identity: &&str| taken.by_identity.get(*identity).is_some_and(|there| *there >= most);
        if identities.iter().any(full) {
            return false;
        }
        for identity in identities {
            match taken.by_identity.get_mut(*identity) {
                Some(there) => *there += 1,
                None => drop(taken.by_identity.insert(Box::from(*identity), 1)),
            }
        }
        true
    }

    pub(super) fn leave_as(&self, identities: &[&str]) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for identity in identities {
            if let Some(there) = taken.by_identity.get_mut(*identity) {
                *there -= 1;
                if *there == 0 {
                    taken.by_identity.remove(*identity);
                }
            }
        }
    }
}

/// One household is one /64.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_and_everybody_have_their_places() {
        let admission = Admission { sessions: 3, sessions_per_address: 2, ..Admission::default() };
        let (places, address) = (Places::default(), |text: &str| text.parse::<IpAddr>().unwrap());
        let enter = |text| places.enter(address(text), &admission);
        assert_eq!((enter("2001:db8::1"), enter("2001:db8::ffff:1")), (Ok(()), Ok(())));
        assert_eq!(enter("2001:db8::2"), Err(Beyond::Address));
        places.leave(address("2001:db8::2"));
        assert_eq!((enter("192.0.2.1"), enter("::ffff:192.0.2.2")), (Ok(()), Err(Beyond::All)));
        for gone in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"] {
            places.leave(address(gone));
        }
        let taken = places.0.lock().unwrap();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn a_token_has_its_places_and_one_beyond_them_takes_none_of_another() {
        let places = Places::default();
        assert!(places.enter_as(&["a", "b"], 2) && places.enter_as(&["a"], 2));
        assert!(!places.enter_as(&["b", "a"], 2) && !places.enter_as(&["a"], 2));
        assert!(places.enter_as(&["b"], 2), "the refused one took nothing of b's");
        assert!(!places.enter_as(&["b"], 2) && places.enter_as(&["b"], 3), "who may more is judged by his own bound");
        assert!(places.enter_as(&[], 0));
        places.leave_as(&["a", "b"]);
        assert!(places.enter_as(&["a"], 2));
        for gone in [&["a"][..], &["a"], &["b", "b"]] {
            places.leave_as(gone);
        }
        assert!(places.0.lock().unwrap().by_identity.is_empty());
    }
}
