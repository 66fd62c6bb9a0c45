//! Who is there, and from where: the places of a relay, over all its shards.
//!
//! A lock is taken when a session of a wire comes and when it goes, never in between.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use super::Admission;

/// Sessions on wires, all and by address.
#[derive(Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
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
}
