//! Relays among themselves: this one as an edge of another, and another as an edge of this one.
//!
//! An *uplink* is a session of ours to the relay that is in charge of some namespaces. What is announced or published here under
//! them is announced there; what is announced there is learned by one SUBSCRIBE_NAMESPACE of everything and stands in our
//! directory as the uplink's, so that subscribers here are served through it, once per track. A SUBSCRIBE for
//! what nobody has announced yet is asked of the uplink too, and held there as it is held here.
//!
//! Nothing runs in circles: each namespace has one uplink at most, what an uplink told is told to no uplink, and what came from a
//! relay (an uplink, or an *edge* that called itself one) never goes back to it: neither a namespace, nor a
//! SUBSCRIBE, nor an object. A source that only its own relay wants is no source; a subscriber that only its own relay
//! feeds is ended.
//!
//! Tracks are offered across relays as [`abroad`](super::abroad) says.
//!
//! Relays of one process (*sisters*) hand each request's token on, so that leases replace each other over all of them. Another's
//! relay is asked with the rights of our own session, once per namespace, and not told of again what we told it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::abroad::Abroad;
use super::directory::Announcement;
use super::rights::Everything;
use super::track::Track;
use super::{Core, Limits, Sessions};
use crate::moqt::message::Token;
use crate::moqt::session::RequestId;
use crate::moqt::{RequestErrorCode, TrackNamespace};

/// A request of a peer, by session.
type Who = (u64, RequestId);

/// Which namespaces a relay is in charge of.
pub type Scope = Arc<dyn Fn(&TrackNamespace) -> bool + Send + Sync>;

/// What is known of the relay at the other end.
#[derive(Clone)]
pub struct Upstream {
    pub scope: Scope,
    /// It runs in this process under the same keys: tokens are handed on, and it knows what is ours.
    pub sister: bool,
}

/// Our session to it.
pub(super) struct Uplink {
    pub(super) key: u64,
    upstream: Upstream,
    /// Our SUBSCRIBE_NAMESPACE of everything.
    listing: RequestId,
    /// What it told, in its scope.
    told: BTreeSet<TrackNamespace>,
    announced: BTreeMap<Place, Up>,
    /// What it is to offer us.
    pub(super) tracks: Vec<Abroad>,
}

/// A namespace, and for a sister whose it is: it hears of each publisher by itself.
type Place = (TrackNamespace, Option<Who>);

/// One PUBLISH_NAMESPACE of ours, and on whose behalf.
struct Up {
    request: RequestId,
    answered: bool,
    of: Vec<Who>,
}

impl Uplink {
    fn place(&self, namespace: &TrackNamespace, who: Who) -> Place {
        (namespace.clone(), self.upstream.sister.then_some(who))
    }

    /// We have announced it there ourselves, and it would only tell us so.
    fn is_ours(&self, namespace: &TrackNamespace) -> bool {
        !self.upstream.sister && self.announced.contains_key(&(namespace.clone(), None))
    }
}

impl Core {
    /// Takes in a session of ours to another relay, whose SETUP has come. [`Core::handle_down`] is its end; a new session to the
    /// same relay is another uplink.
    pub fn insert_uplink(&mut self, sessions: &mut dyn Sessions, key: u64, upstream: Upstream, now: Instant) {
        self.insert_relay(key, now);
        let Some(session) = sessions.session(key) else { return };
        let everything = TrackNamespace::new(Vec::<bytes::Bytes>::new()).expect("no field is no wrong field");
        let listing = session.subscribe_namespace(everything, Vec::new());
        let (told, announced) = (BTreeSet::new(), BTreeMap::new());
        self.uplinks.push(Uplink { key, upstream, listing, told, announced, tracks: Vec::new() });
        self.ask_all_abroad(sessions, key);
        for (namespace, who) in self.published_here() {
            self.announce_up(sessions, &namespace, who, &[]);
        }
        let wanted: Vec<u64> = self.names.values().copied().collect();
        for id in wanted {
            let Some(track) = self.tracks.get(&id).filter(|track| track.is_wanted_from(key)) else { continue };
            let namespace = track.name.namespace.clone();
            if self.uplinks.last().is_some_and(|uplink| (uplink.upstream.scope)(&namespace)) {
                let longest = track.waiting.iter().filter(|w| w.rendezvous).map(|w| w.until).max();
                let hold = longest.map(|until| until.saturating_duration_since(now));
                self.ask(sessions, id, &uplinks_word(key), hold, now);
            }
        }
    }

    /// Takes in a session of another relay of this process, as its edge.
    pub fn insert_edge(&mut self, key: u64, now: Instant) {
        self.insert_relay(key, now);
    }

    fn insert_relay(&mut self, key: u64, now: Instant) {
        let limits = Limits { expiry_grace: None, ..Limits::engine() };
        // The other relay was chosen by whoever runs this one, and has checked those behind it.
        self.insert(key, vec![Arc::new(Everything)], limits, now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.relay = true;
            self.relays += 1;
        }
    }

    /// `Some` of its key: what comes from this session does not go back to it.
    pub(super) fn relay(&self, key: u64) -> Option<u64> {
        self.peers.get(&key).filter(|peer| peer.relay).map(|_| key)
    }

    /// Who is in charge of a namespace; not whom it is for.
    pub(super) fn uplink_of(&self, namespace: &TrackNamespace, who: u64) -> Option<u64> {
        let in_charge = |uplink: &&Uplink| uplink.key != who && (uplink.upstream.scope)(namespace);
        self.uplinks.iter().find(in_charge).map(|uplink| uplink.key)
    }

    fn is_uplink(&self, key: u64) -> bool {
        self.uplinks.iter().any(|uplink| uplink.key == key)
    }

    /// Everything that is announced or published by others than uplinks.
    fn published_here(&self) -> Vec<(TrackNamespace, Who)> {
        let announced = self.directory.all().map(|(namespace, entry)| (namespace.clone(), (entry.key, entry.request)));
        let pushed = self.tracks.values().flat_map(|track| {
            let pushed = track.sources.iter().filter(|source| source.pushed);
            pushed.map(|source| (track.name.namespace.clone(), (source.key, source.request)))
        });
        let mut all: Vec<_> = announced.chain(pushed).filter(|(_, (key, _))| !self.is_uplink(*key)).collect();
        all.sort_unstable();
        all
    }

    /// Somebody here publishes under this namespace: the relay in charge of it is to know.
    pub(super) fn announce_up(
        &mut self,
        sessions: &mut dyn Sessions,
        namespace: &TrackNamespace,
        who: Who,
        tokens: &[Token],
    ) {
        if self.uplinks.is_empty() || self.is_uplink(who.0) {
            return;
        }
        for uplink in self.uplinks.iter_mut().filter(|uplink| (uplink.upstream.scope)(namespace)) {
            let Some(session) = sessions.session(uplink.key) else { continue };
            let tokens = if uplink.upstream.sister { tokens.to_vec() } else { Vec::new() };
            let place = uplink.place(namespace, who);
            let up = uplink.announced.entry(place).or_insert_with(|| {
                let request = session.publish_namespace(namespace.clone(), tokens);
                Up { request, answered: false, of: Vec::new() }
            });
            up.of.push(who);
        }
    }

    /// They don't any more.
    pub(super) fn withdraw_up(&mut self, sessions: &mut dyn Sessions, namespace: &TrackNamespace, who: Who) {
        let mut told_by_others = Vec::new();
        for uplink in &mut self.uplinks {
            let place = uplink.place(namespace, who);
            let Some(up) = uplink.announced.get_mut(&place) else { continue };
            up.of.retain(|other| *other != who);
            if up.of.is_empty()
                && let Some(up) = uplink.announced.remove(&place)
            {
                if let Some(session) = sessions.session(uplink.key) {
                    session.cancel(up.request);
                }
                if !uplink.upstream.sister && uplink.told.contains(namespace) {
                    told_by_others.push(uplink.key);
                }
            }
        }
        let Some(now) = self.now else { return };
        for key in told_by_others {
            self.learn(sessions, key, namespace.clone(), now);
        }
    }

    /// NAMESPACE: somebody publishes at the other relay.
    pub(super) fn handle_told(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, listing): Who,
        namespace: TrackNamespace,
        now: Instant,
    ) {
        let uplink = self.uplinks.iter_mut().find(|uplink| (uplink.key, uplink.listing) == (key, listing));
        let Some(uplink) = uplink.filter(|uplink| (uplink.upstream.scope)(&namespace)) else { return };
        if uplink.told.insert(namespace.clone()) && !uplink.is_ours(&namespace) {
            self.learn(sessions, key, namespace, now);
        }
    }

    fn learn(&mut self, sessions: &mut dyn Sessions, key: u64, namespace: TrackNamespace, now: Instant) {
        let Some(request) = self.uplinks.iter().find(|uplink| uplink.key == key).map(|uplink| uplink.listing) else {
            return;
        };
        let announcement = Announcement { request, ..uplinks_word(key) };
        self.directory.announce(namespace.clone(), announcement.clone());
        self.tell(sessions, &namespace, key, true);
        self.ask_for_wanted(sessions, &namespace, &announcement, now);
    }

    /// NAMESPACE_DONE: nobody does any more. What flows goes on until it ends.
    pub(super) fn handle_untold(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, listing): Who,
        namespace: &TrackNamespace,
    ) {
        let uplink = self.uplinks.iter_mut().find(|uplink| (uplink.key, uplink.listing) == (key, listing));
        if uplink.is_some_and(|uplink| uplink.told.remove(namespace))
            && self.directory.withdraw(namespace, key, listing)
        {
            self.tell(sessions, namespace, key, false);
        }
    }

    /// The uplink is gone, and what it told with it.
    pub(super) fn lose_uplink(&mut self, sessions: &mut dyn Sessions, key: u64) {
        let Some(at) = self.uplinks.iter().position(|uplink| uplink.key == key) else { return };
        let uplink = self.uplinks.remove(at);
        // Nobody answers for them any more.
        for (key, request) in uplink.announced.values().filter(|up| !up.answered).flat_map(|up| &up.of) {
            if let Some(session) = sessions.session(*key) {
                session.accept(*request);
            }
        }
        for namespace in uplink.told {
            if self.directory.withdraw(&namespace, key, uplink.listing) {
                self.tell(sessions, &namespace, key, false);
            }
        }
    }

    /// A sister in charge of the namespace answers before we do: who has our answer can be found everywhere.
    pub(super) fn awaits_up(&self, namespace: &TrackNamespace, key: u64) -> bool {
        let sister = |uplink: &Uplink| uplink.upstream.sister && (uplink.upstream.scope)(namespace);
        self.uplinks.iter().any(sister) && !self.is_uplink(key)
    }

    /// The other relay has accepted a PUBLISH_NAMESPACE of ours.
    pub(super) fn handle_up_ok(&mut self, sessions: &mut dyn Sessions, (key, request): Who) {
        let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.key == key) else { return };
        let Some(up) = uplink.announced.values_mut().find(|up| up.request == request) else { return };
        up.answered = true;
        for (key, request) in &up.of {
            if let Some(session) = sessions.session(*key) {
                session.accept(*request);
            }
        }
    }

    /// The other relay ended a PUBLISH_NAMESPACE of ours. A sister does so when a newer epoch of its lease speaks elsewhere: then the
    /// older falls silent here too. `true`: it was one.
    pub(super) fn handle_up_refused(&mut self, sessions: &mut dyn Sessions, (key, request): Who, code: u64) -> bool {
        let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.key == key) else { return false };
        let place = uplink.announced.iter().find(|(_, up)| up.request == request).map(|(place, _)| place.clone());
        let Some((place, up)) = place.and_then(|place| uplink.announced.remove_entry(&place)) else { return false };
        let sister = uplink.upstream.sister;
        for who in up.of.into_iter().filter(|_| sister) {
            match up.answered {
                true => self.retire(sessions, &place.0, who),
                false => self.refuse_late(sessions, who, code),
            }
        }
        true
    }

    /// What the relay in charge refuses is refused here too.
    fn refuse_late(&mut self, sessions: &mut dyn Sessions, (key, request): Who, code: u64) {
        let known = [
            RequestErrorCode::Unauthorized,
            RequestErrorCode::ExpiredAuthToken,
            RequestErrorCode::ExcessiveLoad,
            RequestErrorCode::GoingAway,
        ];
        let code = known.into_iter().find(|known| *known as u64 == code).unwrap_or(RequestErrorCode::InternalError);
        self.refuse(sessions, key, request, code);
        self.withdraw(sessions, key, request);
    }

    fn retire(&mut self, sessions: &mut dyn Sessions, namespace: &TrackNamespace, (key, request): Who) {
        if let Some(lease) = self.directory.retire(namespace, key, request) {
            self.counters.superseded += 1;
            for id in self.tracks_under(namespace) {
                let Some(track) = self.tracks.get(&id).filter(|track| track.name.name == lease.track) else { continue };
                let own = track.sources.iter().find(|source| source.key == key).map(|source| source.request);
                if let Some(request) = own {
                    self.cancel_source(sessions, id, key, request);
                }
            }
        }
    }

    /// A SUBSCRIBE that nobody here can serve may be served there.
    pub(super) fn ask_up(
        &mut self,
        sessions: &mut dyn Sessions,
        id: u64,
        who: u64,
        hold: Option<Duration>,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(&id) else { return };
        let from_there = |uplink: &&Uplink| uplink.key != who && (uplink.upstream.scope)(&track.name.namespace);
        let keys: Vec<u64> = self.uplinks.iter().filter(from_there).map(|uplink| uplink.key).collect();
        for key in keys {
            self.ask(sessions, id, &uplinks_word(key), hold, now);
        }
    }
}

/// An uplink as a publisher of whatever it is asked for.
fn uplinks_word(key: u64) -> Announcement {
    Announcement { key, request: RequestId(u64::MAX), lease: None, superseded: false }
}

impl Track {
    /// Somebody gives it to this subscriber: anybody, but for a relay itself.
    pub(super) fn is_live_for(&self, relay: Option<u64>) -> bool {
        self.sources.iter().any(|source| !source.is_asked() && Some(source.key) != relay)
    }

    /// The same, answered or not; but a relay that holds our SUBSCRIBE has nothing yet.
    pub(super) fn has_source_for(&self, relay: Option<u64>) -> bool {
        self.sources.iter().any(|source| !(source.held && source.is_asked()) && Some(source.key) != relay)
    }

    /// Somebody wants it from this session: anybody, but for a relay itself.
    pub(super) fn is_wanted_from(&self, key: u64) -> bool {
        self.subscribers.iter().any(|s| s.relay != Some(key)) || self.waiting.iter().any(|w| w.relay != Some(key))
    }

    /// The same, and wants its objects now.
    pub(super) fn is_heard_from(&self, key: u64) -> bool {
        self.subscribers.iter().any(|s| s.forward && s.relay != Some(key))
            || self.waiting.iter().any(|w| w.forward && w.relay != Some(key))
    }
}
