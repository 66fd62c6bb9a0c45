//! Which namespaces are announced, by whom, and who wants to hear of them (§"Namespace Discovery").

use std::collections::BTreeMap;
use std::time::Instant;

use super::listings::{Listing, Listings};
use super::rights::{Credentials, Lease, Rights};
use crate::moqt::session::RequestId;
use crate::moqt::{FullTrackName, TrackNamespace};

/// One accepted PUBLISH_NAMESPACE.
#[derive(Clone, Debug)]
pub(super) struct Announcement {
    pub(super) key: u64,
    pub(super) request: RequestId,
    pub(super) lease: Option<Lease>,
    /// A newer epoch publishes: this one is asked for nothing more.
    pub(super) superseded: bool,
}

impl Announcement {
    /// A publisher whose token leases one track is asked for no other.
    pub(super) fn offers(&self, name: &[u8]) -> bool {
        !self.superseded && self.lease.as_ref().is_none_or(|lease| lease.track == name)
    }
}

/// A newer epoch publishes already.
#[derive(Debug)]
pub(super) struct Superseded;

#[derive(Default)]
pub(super) struct Directory {
    announced: BTreeMap<TrackNamespace, Vec<Announcement>>,
    listings: Listings,
}

impl Directory {
    pub(super) fn announce(&mut self, namespace: TrackNamespace, announcement: Announcement) {
        self.announced.entry(namespace).or_default().push(announcement);
    }

    /// `true`: it was announced.
    pub(super) fn withdraw(&mut self, namespace: &TrackNamespace, key: u64, request: RequestId) -> bool {
        let Some(entries) = self.announced.get_mut(namespace) else { return false };
        let before = entries.len();
        entries.retain(|entry| (entry.key, entry.request) != (key, request));
        let withdrawn = entries.len() < before;
        if entries.is_empty() {
            self.announced.remove(namespace);
        }
        withdrawn
    }

    /// Retires the announcements that this lease replaces, and says whose they are.
    pub(super) fn supersede(
        &mut self,
        namespace: &TrackNamespace,
        lease: &Lease,
    ) -> Result<Vec<(u64, RequestId)>, Superseded> {
        let Some(entries) = self.announced.get_mut(namespace) else { return Ok(Vec::new()) };
        let same = |entry: &&mut Announcement| entry.lease.as_ref().is_some_and(|other| other.excludes(lease));
        let mut older: Vec<_> = entries.iter_mut().filter(same).collect();
        if older.iter().any(|entry| entry.lease.as_ref().is_some_and(|other| other.epoch > lease.epoch)) {
            return Err(Superseded);
        }
        older.iter_mut().for_each(|entry| entry.superseded = true);
        Ok(older.iter().map(|entry| (entry.key, entry.request)).collect())
    }

    /// Everybody who announced the track's namespace or a prefix of it, and may be asked for the track.
    pub(super) fn publishers(&self, track: &FullTrackName) -> Vec<Announcement> {
        let fields = track.namespace.fields();
        (0..=fields.len())
            .filter_map(|n| TrackNamespace::new(fields[..n].iter().cloned()).ok())
            .filter_map(|prefix| self.announced.get(&prefix))
            .flatten()
            .filter(|entry| entry.offers(&track.name))
            .cloned()
            .collect()
    }

    /// The announced namespaces under a prefix.
    pub(super) fn under<'a>(&'a self, prefix: &'a TrackNamespace) -> impl Iterator<Item = &'a TrackNamespace> {
        self.announced.range(prefix.clone()..).map(|(namespace, _)| namespace).take_while(|n| n.starts_with(prefix))
    }

    pub(super) fn len(&self) -> usize {
        self.announced.len()
    }

    /// §"SUBSCRIBE_NAMESPACE": prefixes of one session must not overlap. `moved` is the listing that gets this one.
    pub(super) fn overlaps(&self, key: u64, prefix: &TrackNamespace, moved: Option<RequestId>) -> bool {
        self.listings.overlaps(key, prefix, moved)
    }

    pub(super) fn list(
        &mut self,
        who: (u64, RequestId),
        relay: bool,
        prefix: TrackNamespace,
        credentials: Credentials,
    ) {
        self.listings.add(who, Listing { relay, prefix, credentials });
    }

    /// Another prefix, or other rights.
    pub(super) fn relist(
        &mut self,
        who: (u64, RequestId),
        prefix: Option<&TrackNamespace>,
        credentials: Option<Credentials>,
    ) {
        self.listings.relist(who, prefix, credentials);
    }

    /// What a listing may hear of now, by suffix: at most `most` of it.
    pub(super) fn visible(
        &self,
        (key, request): (u64, RequestId),
        now: Option<Instant>,
        most: usize,
    ) -> Vec<TrackNamespace> {
        let Some(listing) = self.listings.find((key, request)) else { return Vec::new() };
        let told = |namespace: &&TrackNamespace| !listing.relay || self.is_announced_beside(namespace, key);
        let shown = self.under(&listing.prefix).filter(|namespace| listing.shows(namespace, now)).filter(told);
        shown.filter_map(|namespace| namespace.strip_prefix(&listing.prefix)).take(most).collect()
    }

    pub(super) fn unlist(&mut self, key: u64, request: RequestId) {
        self.listings.remove((key, request));
    }

    /// Listings go on with the rights that are left to them.
    pub(super) fn revoke(&mut self, is_revoked: &mut dyn FnMut(&dyn Rights) -> bool) {
        self.listings.revoke(is_revoked);
    }

    /// Who is told that `actor` began or ceased to announce this namespace, and by which suffix: whoever hears of the first
    /// and of the last; a relay of the first and last but itself.
    pub(super) fn listeners(
        &self,
        namespace: &TrackNamespace,
        (actor, announced): (u64, bool),
        now: Option<Instant>,
    ) -> Vec<(u64, RequestId, TrackNamespace)> {
        let entries = self.announced.get(namespace).map_or(&[][..], Vec::as_slice);
        let news = |key: u64, listing: &Listing| {
            let others = |entry: &&Announcement| !listing.relay || entry.key != key;
            let count = entries.iter().filter(others).count();
            (!listing.relay || actor != key) && count == usize::from(announced)
        };
        // Whoever was not told of its beginning is told of no end by its session.
        let shows = |listing: &Listing| !announced || listing.shows(namespace, now);
        let shown = self.listings.of(namespace).filter(|((key, _), listing)| news(*key, listing) && shows(listing));
        shown.filter_map(|((key, request), l)| Some((key, request, namespace.strip_prefix(&l.prefix)?))).collect()
    }

    /// Every announcement with its namespace.
    pub(super) fn all(&self) -> impl Iterator<Item = (&TrackNamespace, &Announcement)> {
        self.announced.iter().flat_map(|(namespace, entries)| entries.iter().map(move |entry| (namespace, entry)))
    }

    /// Somebody other than this session announces the namespace.
    pub(super) fn is_announced_beside(&self, namespace: &TrackNamespace, key: u64) -> bool {
        self.announced.get(namespace).is_some_and(|entries| entries.iter().any(|entry| entry.key != key))
    }

    /// The one track that an announcement may be asked for.
    pub(super) fn lease(&self, namespace: &TrackNamespace, key: u64, request: RequestId) -> Option<&Lease> {
        let mut entries = self.announced.get(namespace)?.iter();
        entries.find(|entry| (entry.key, entry.request) == (key, request))?.lease.as_ref()
    }

    /// This one is asked for nothing more; its lease, if it had one and was not retired before.
    pub(super) fn retire(&mut self, namespace: &TrackNamespace, key: u64, request: RequestId) -> Option<Lease> {
        let entries = self.announced.get_mut(namespace)?;
        let entry = entries.iter_mut().find(|entry| (entry.key, entry.request) == (key, request))?;
        let lease = entry.lease.clone().filter(|_| !entry.superseded);
        entry.superseded = true;
        lease
    }

    /// Listings that were looked at since the beginning.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> u64 {
        self.listings.looked_at()
    }
}
