//! SUBSCRIBE_TRACKS between relays: what is published at another one is offered to this one's users too.
//!
//! Each relay that we hold a session to (the other shards, an upstream relay) is asked for the prefixes that users here asked for, the
//! widest of them once, with FORWARD 0. What it offers is a PUBLISH like others, and offered on. A shard offers another only
//! what its own users publish, and no shard asks on behalf of another: each asks all, so an offer takes one step.
//! What came from a relay leaves when nobody here wants it and no interest is left.
//!
//! A relay that is not of this process asks us nothing: a client refuses SUBSCRIBE_TRACKS. It knows of our namespaces, and offers its
//! own users what they subscribe to.

use super::edge::Uplink;
use super::{Core, Sessions};
use crate::moqt::session::RequestId;
use crate::moqt::{RequestErrorCode, Session, TrackNamespace};

/// A request of ours that was cancelled may still stand when a wider one comes; it is asked again so often.
const ATTEMPTS: u32 = 3;

/// One SUBSCRIBE_TRACKS of ours.
pub(super) struct Abroad {
    prefix: TrackNamespace,
    request: RequestId,
    attempts: u32,
}

impl Uplink {
    fn ask_tracks(&mut self, session: &mut Session, prefix: &TrackNamespace) {
        if self.tracks.iter().any(|asked| prefix.starts_with(&asked.prefix)) {
            return;
        }
        self.tracks.retain(|asked| {
            let narrower = asked.prefix.starts_with(prefix);
            if narrower {
                session.cancel(asked.request);
            }
            !narrower
        });
        let request = session.subscribe_tracks(prefix.clone(), false, Vec::new());
        self.tracks.push(Abroad { prefix: prefix.clone(), request, attempts: 1 });
    }
}

impl Core {
    /// A user here wants every track under the prefix.
    pub(super) fn ask_abroad(&mut self, sessions: &mut dyn Sessions, prefix: &TrackNamespace) {
        for uplink in &mut self.uplinks {
            if let Some(session) = sessions.session(uplink.key) {
                uplink.ask_tracks(session, prefix);
            }
        }
    }

    /// Everything that users here want, of an uplink that has just come.
    pub(super) fn ask_all_abroad(&mut self, sessions: &mut dyn Sessions, key: u64) {
        let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.key == key) else { return };
        let Some(session) = sessions.session(key) else { return };
        for prefix in self.interests.of_users() {
            uplink.ask_tracks(session, prefix);
        }
    }

    /// An interest of a user is over.
    pub(super) fn unask_abroad(&mut self, sessions: &mut dyn Sessions, prefix: &TrackNamespace) {
        for uplink in &mut self.uplinks {
            let Some(session) = sessions.session(uplink.key) else { continue };
            uplink.tracks.retain(|asked| {
                let wanted = self.interests.of_users().any(|prefix| prefix.starts_with(&asked.prefix));
                if !wanted {
                    session.cancel(asked.request);
                }
                wanted
            });
        }
        if !self.uplinks.is_empty() {
            for id in self.tracks_under(prefix) {
                self.rest(sessions, id);
            }
        }
    }

    /// Another relay offers us no tracks. `true`: it was asked to.
    pub(super) fn handle_abroad_refused(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        code: u64,
    ) -> bool {
        let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.key == key) else { return false };
        let Some(asked) = uplink.tracks.iter_mut().find(|asked| asked.request == request) else { return false };
        if code == RequestErrorCode::PrefixOverlap as u64
            && asked.attempts < ATTEMPTS
            && let Some(session) = sessions.session(key)
        {
            asked.attempts += 1;
            asked.request = session.subscribe_tracks(asked.prefix.clone(), false, Vec::new());
        }
        true
    }
}
