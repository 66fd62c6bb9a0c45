//! Who wants to hear of namespaces under which prefix: the SUBSCRIBE_NAMESPACEs that were accepted (§10.18).
//!
//! Found by their request, and by namespace with a look-up for each of its prefixes, as interests are: how many listings others have
//! costs neither an announcement nor a listing that is asked anew anything. It knows nothing of what is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::rights::{Credentials, Rights, shows};
use crate::moqt::TrackNamespace;
use crate::moqt::session::RequestId;

/// A request, by session.
type Who = (u64, RequestId);

/// One accepted SUBSCRIBE_NAMESPACE. It is told of what its holder may subscribe to, and of nothing else.
pub(super) struct Listing {
    /// Of another relay: it is not told what only it has told.
    pub(super) relay: bool,
    pub(super) prefix: TrackNamespace,
    pub(super) credentials: Credentials,
}

impl Listing {
    pub(super) fn shows(&self, namespace: &TrackNamespace, now: Option<Instant>) -> bool {
        namespace.starts_with(&self.prefix) && shows(&self.credentials, namespace, now)
    }
}

#[derive(Default)]
pub(super) struct Listings {
    by_request: BTreeMap<Who, Listing>,
    /// Each of them once.
    by_prefix: BTreeMap<TrackNamespace, BTreeSet<Who>>,
    /// Listings that were looked at.
    #[cfg(test)]
    looked_at: std::cell::Cell<u64>,
}

impl Listings {
    /// §"SUBSCRIBE_NAMESPACE": prefixes of one session must not overlap. `moved` is the listing that gets this one.
    pub(super) fn overlaps(&self, key: u64, prefix: &TrackNamespace, moved: Option<RequestId>) -> bool {
        let overlap = |other: &TrackNamespace| other.starts_with(prefix) || prefix.starts_with(other);
        let own = self.by_request.range((key, RequestId(0))..=(key, RequestId(u64::MAX)));
        let mut own = own.inspect(|_| self.look());
        own.any(|((_, request), listing)| Some(*request) != moved && overlap(&listing.prefix))
    }

    pub(super) fn add(&mut self, who: Who, listing: Listing) {
        self.by_prefix.entry(listing.prefix.clone()).or_default().insert(who);
        self.by_request.insert(who, listing);
    }

    pub(super) fn remove(&mut self, who: Who) {
        if let Some(gone) = self.by_request.remove(&who) {
            self.unlist(&gone.prefix, who);
        }
    }

    fn unlist(&mut self, prefix: &TrackNamespace, who: Who) {
        if let Some(listed) = self.by_prefix.get_mut(prefix) {
            listed.remove(&who);
            if listed.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
    }

    pub(super) fn find(&self, who: Who) -> Option<&Listing> {
        self.look();
        self.by_request.get(&who)
    }

    /// Another prefix, or other rights.
    pub(super) fn relist(&mut self, who: Who, prefix: Option<&TrackNamespace>, credentials: Option<Credentials>) {
        let Some(listing) = self.by_request.get_mut(&who) else { return };
        listing.credentials = credentials.unwrap_or(std::mem::take(&mut listing.credentials));
        let Some(prefix) = prefix else { return };
        let before = std::mem::replace(&mut listing.prefix, prefix.clone());
        self.unlist(&before, who);
        self.by_prefix.entry(prefix.clone()).or_default().insert(who);
    }

    /// Whoever asked for the namespace or a prefix of it: the shortest prefix first, and in the order of sessions and requests.
    pub(super) fn of<'a>(&'a self, namespace: &'a TrackNamespace) -> impl Iterator<Item = (Who, &'a Listing)> {
        let fields = namespace.fields();
        // Without a listing no prefix is made.
        let lengths = 0..if self.by_request.is_empty() { 0 } else { fields.len() + 1 };
        let prefixes = lengths.filter_map(|n| TrackNamespace::new(fields[..n].iter().cloned()).ok());
        let requests = prefixes.filter_map(|prefix| self.by_prefix.get(&prefix)).flatten();
        requests.filter_map(|who| Some((*who, self.find(*who)?)))
    }

    /// They go on with the rights that are left to them.
    pub(super) fn revoke(&mut self, is_revoked: &mut dyn FnMut(&dyn Rights) -> bool) {
        for listing in self.by_request.values_mut() {
            listing.credentials.retain(|rights| !is_revoked(rights.as_ref()));
        }
    }

    #[cfg(not(test))]
    fn look(&self) {}

    #[cfg(test)]
    fn look(&self) {
        self.looked_at.set(self.looked_at.get() + 1);
    }

    #[cfg(test)]
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at.get()
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::{Announcement, Directory};
    use super::*;

    fn name(fields: &[&str]) -> TrackNamespace {
        TrackNamespace::new(fields.iter().map(|field| field.as_bytes().to_vec())).unwrap()
    }

    /// Everybody asks for a call of its own, and two for all of them.
    fn directory(others: u64) -> Directory {
        let mut directory = Directory::default();
        for key in 0..others {
            let call = format!("CA{key}");
            directory.list((key, RequestId(0)), false, name(&["voice", &call]), Vec::new());
        }
        directory.list((others, RequestId(2)), false, name(&[]), Vec::new());
        directory.list((others + 1, RequestId(4)), false, name(&["voice"]), Vec::new());
        directory
    }

    fn announced(directory: &mut Directory, namespace: &TrackNamespace) -> Vec<(u64, RequestId, TrackNamespace)> {
        let entry = Announcement { key: 9999, request: RequestId(0), lease: None, superseded: false };
        directory.announce(namespace.clone(), entry);
        // Without credentials nothing is shown; that somebody ceased is told whoever was told.
        directory.withdraw(namespace, 9999, RequestId(0));
        directory.listeners(namespace, (9999, false), None)
    }

    #[test]
    fn an_announcement_costs_what_its_own_prefixes_do() {
        for others in [10, 1000] {
            let mut directory = directory(others);
            let before = directory.looked_at();
            let told = announced(&mut directory, &name(&["voice", "CA7", "uplink"]));
            let of = |key, request, rest: &[&str]| (key, RequestId(request), name(rest));
            let expected = [
                of(others, 2, &["voice", "CA7", "uplink"]),
                of(others + 1, 4, &["CA7", "uplink"]),
                of(7, 0, &["uplink"]),
            ];
            assert_eq!(told, expected);
            assert_eq!(directory.looked_at() - before, 3, "of {others}");
        }
    }

    #[test]
    fn a_listing_that_is_asked_anew_costs_what_its_session_has() {
        for others in [10, 1000] {
            let directory = directory(others);
            let before = directory.looked_at();
            assert!(directory.overlaps(7, &name(&["voice", "CA7", "uplink"]), None));
            assert!(!directory.overlaps(7, &name(&["voice", "CA8"]), None));
            assert!(!directory.overlaps(7, &name(&["voice"]), Some(RequestId(0))));
            assert_eq!(directory.visible((7, RequestId(0)), None, 10), []);
            assert_eq!(directory.looked_at() - before, 4, "of {others}");
        }
    }

    #[test]
    fn a_listing_that_moves_or_ends_is_found_where_it_is() {
        let mut directory = directory(3);
        directory.relist((1, RequestId(0)), Some(&name(&["sip"])), None);
        let told = |directory: &mut Directory, fields: &[&str]| {
            let keys: Vec<_> = announced(directory, &name(fields)).into_iter().map(|(key, ..)| key).collect();
            keys
        };
        assert_eq!(told(&mut directory, &["voice", "CA1"]), [3, 4]);
        assert_eq!(told(&mut directory, &["sip", "1"]), [3, 1]);
        directory.unlist(1, RequestId(0));
        directory.unlist(3, RequestId(2));
        assert_eq!(told(&mut directory, &["sip", "1"]), [0; 0]);
        assert_eq!(told(&mut directory, &["voice", "CA0"]), [4, 0]);
    }
}
