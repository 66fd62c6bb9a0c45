//! Who asked for all tracks under which prefix: the SUBSCRIBE_TRACKS that were accepted (§10.19).
//!
//! Found by their request, and by namespace with a look-up for each of its prefixes: how many interests others have costs neither a
//! PUBLISH nor a call anything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::rights::{Credentials, Rights};
use crate::moqt::TrackNamespace;
use crate::moqt::message::{Update, Wishes};
use crate::moqt::session::RequestId;

/// A request, by session.
type Who = (u64, RequestId);

/// One accepted SUBSCRIBE_TRACKS, or draft 16's SUBSCRIBE_NAMESPACE that asks for tracks.
pub(super) struct Interest {
    /// Of another shard, for its users.
    pub(super) relay: bool,
    pub(super) prefix: TrackNamespace,
    /// How its subscriptions begin.
    pub(super) wishes: Wishes,
    pub(super) credentials: Credentials,
    /// Tracks that were said to be blocked, by hash.
    pub(super) blocked: HashSet<u64>,
}

#[derive(Default)]
pub(super) struct Interests {
    by_request: BTreeMap<Who, Interest>,
    /// Each of them once.
    by_prefix: BTreeMap<TrackNamespace, BTreeSet<Who>>,
}

impl Interests {
    /// §10.19: prefixes of one session must not overlap; those of SUBSCRIBE_NAMESPACE are another matter.
    /// `moved` is the one that gets this prefix.
    pub(super) fn overlaps(&self, key: u64, prefix: &TrackNamespace, moved: Option<RequestId>) -> bool {
        let overlap = |other: &TrackNamespace| other.starts_with(prefix) || prefix.starts_with(other);
        let own = self.by_request.range((key, RequestId(0))..=(key, RequestId(u64::MAX)));
        own.into_iter().any(|((_, request), interest)| Some(*request) != moved && overlap(&interest.prefix))
    }

    pub(super) fn add(&mut self, who: Who, interest: Interest) {
        self.by_prefix.entry(interest.prefix.clone()).or_default().insert(who);
        self.by_request.insert(who, interest);
    }

    pub(super) fn remove(&mut self, who: Who) -> Option<Interest> {
        let gone = self.by_request.remove(&who)?;
        self.unlist(&gone.prefix, who);
        Some(gone)
    }

    fn unlist(&mut self, prefix: &TrackNamespace, who: Who) {
        if let Some(listed) = self.by_prefix.get_mut(prefix) {
            listed.remove(&who);
            if listed.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
    }

    pub(super) fn find(&mut self, who: Who) -> Option<&mut Interest> {
        self.by_request.get_mut(&who)
    }

    /// Whoever wants tracks of this namespace.
    pub(super) fn of(&self, namespace: &TrackNamespace) -> Vec<Who> {
        if self.by_request.is_empty() {
            return Vec::new();
        }
        self.under(namespace).copied().collect()
    }

    fn under<'a>(&'a self, namespace: &'a TrackNamespace) -> impl Iterator<Item = &'a Who> {
        let fields = namespace.fields();
        let prefixes = (0..=fields.len()).filter_map(|n| TrackNamespace::new(fields[..n].iter().cloned()).ok());
        prefixes.filter_map(|prefix| self.by_prefix.get(&prefix)).flatten()
    }

    /// The prefixes that users of this relay asked for.
    pub(super) fn of_users(&self) -> impl Iterator<Item = &TrackNamespace> {
        self.by_request.values().filter(|interest| !interest.relay).map(|interest| &interest.prefix)
    }

    pub(super) fn has_user(&self, namespace: &TrackNamespace) -> bool {
        let is_user = |who: &Who| self.by_request.get(who).is_some_and(|interest| !interest.relay);
        !self.by_request.is_empty() && self.under(namespace).any(is_user)
    }

    /// What is offered from here on begins otherwise (draft 20 §"FORWARD Parameter").
    pub(super) fn wish(&mut self, who: Who, update: &Update) {
        let Some(interest) = self.find(who) else { return };
        let wishes = interest.wishes;
        interest.wishes = Wishes {
            forward: update.forward.unwrap_or(wishes.forward),
            filter: update.filter.or(wishes.filter),
            priority: update.priority.or(wishes.priority),
            object_delivery_timeout: update.object_delivery_timeout.or(wishes.object_delivery_timeout),
            subgroup_delivery_timeout: update.subgroup_delivery_timeout.or(wishes.subgroup_delivery_timeout),
            ..wishes
        };
    }

    /// Another prefix, or other rights. The prefix that a user had before.
    pub(super) fn relist(
        &mut self,
        who: Who,
        prefix: Option<&TrackNamespace>,
        credentials: Option<Credentials>,
    ) -> Option<TrackNamespace> {
        let interest = self.find(who)?;
        interest.credentials = credentials.unwrap_or(std::mem::take(&mut interest.credentials));
        let prefix = prefix?;
        let before = std::mem::replace(&mut interest.prefix, prefix.clone());
        let of_user = !interest.relay;
        self.unlist(&before, who);
        self.by_prefix.entry(prefix.clone()).or_default().insert(who);
        Some(before).filter(|_| of_user)
    }

    /// They go on with the rights that are left to them.
    pub(super) fn revoke(&mut self, is_revoked: &mut dyn FnMut(&dyn Rights) -> bool) {
        for interest in self.by_request.values_mut() {
            interest.credentials.retain(|rights| !is_revoked(rights.as_ref()));
        }
    }
}
