//! Which shard is in charge of a namespace, and how the shards of one relay reach each other.
//!
//! All tracks of a call live on one shard: the hash of a namespace's first two fields decides, for calls `voice` and the sid. A
//! session that came to another shard is served there: that shard is an edge of the one in charge
//! ([`moqt::relay`](crate::moqt::relay)), over a port inside the process. Each shard holds one session to every other.

use std::sync::Arc;

use crate::moqt::TrackNamespace;
use crate::moqt::relay::{Scope, Upstream};
use crate::net::{self, PortEnd};

/// Fields of a namespace that decide where it lives; a shorter one is everybody's.
const FIELDS: usize = 2;
/// FNV-1a, 64 bit.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The shard in charge, of so many.
pub fn shard_of<F: AsRef<[u8]>>(namespace: &[F], shards: usize) -> usize {
    let mut hash = FNV_OFFSET;
    for field in namespace.iter().take(FIELDS) {
        // The separator keeps ("ab", "c") and ("a", "bc") apart.
        for byte in field.as_ref().iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
    // The low bits of FNV alone follow the last byte; the sum of both halves does not.
    ((hash ^ (hash >> 32)) % shards.max(1) as u64) as usize
}

/// What this shard is in charge of.
pub(super) fn scope(shard: usize, shards: usize) -> Scope {
    Arc::new(move |namespace: &TrackNamespace| {
        let fields = namespace.fields();
        fields.len() < FIELDS || shard_of(fields, shards) == shard
    })
}

/// One shard's ways to the others.
#[derive(Default)]
pub(super) struct Ways {
    /// Our sessions to them, with what each is in charge of.
    pub(super) up: Vec<(Upstream, PortEnd)>,
    /// Theirs to us.
    pub(super) down: Vec<PortEnd>,
}

/// A port between every two shards, in both roles.
pub(super) fn mesh(shards: usize) -> Vec<Ways> {
    let mut ways: Vec<Ways> = (0..shards).map(|_| Ways::default()).collect();
    for from in 0..shards {
        for to in (0..shards).filter(|to| *to != from) {
            let (ours, theirs) = net::port();
            ways[from].up.push((Upstream { scope: scope(to, shards), sister: true }, ours));
            ways[to].down.push(theirs);
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_call_live_together_and_calls_are_spread() {
        let mut counts = [0; 4];
        for call in 0..1000 {
            let sid = format!("CAfra1{call:026}");
            let shard = shard_of(&["voice", &sid, "uplink"], 4);
            assert_eq!(shard, shard_of(&["voice", &sid, "downlink"], 4));
            assert_eq!(shard, shard_of(&["voice", &sid], 4));
            counts[shard] += 1;
        }
        assert!(counts.iter().all(|count| (150..350).contains(count)), "{counts:?}");
        assert_eq!(shard_of(&["voice", "CA1"], 1), 0);
        assert_eq!(shard_of::<&str>(&[], 0), 0);
    }

    #[test]
    fn a_namespace_has_one_shard_and_a_short_one_all() {
        let namespace = |fields: &[&'static str]| TrackNamespace::new(fields.iter().copied()).unwrap();
        let scopes: Vec<Scope> = (0..3).map(|shard| scope(shard, 3)).collect();
        let in_charge = |fields: &[&'static str]| scopes.iter().filter(|scope| scope(&namespace(fields))).count();
        assert_eq!(in_charge(&["voice", "CA1", "uplink"]), 1);
        assert_eq!((in_charge(&["voice"]), in_charge(&[])), (3, 3));
        assert!(mesh(3).iter().all(|ways| ways.up.len() == 2 && ways.down.len() == 2));
    }
}
