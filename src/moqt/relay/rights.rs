//! Who may do what: the relay asks, somebody who knows tokens answers.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Core, constants};
use crate::moqt::message::Token;
use crate::moqt::{RequestErrorCode, TrackNamespace};

/// What one token allows.
pub trait Rights: Send + Sync {
    fn may_publish(&self, namespace: &TrackNamespace) -> bool;
    fn may_subscribe(&self, namespace: &TrackNamespace) -> bool;
    /// When set, the only track that may be published is this one.
    fn lease(&self) -> Option<&Lease>;
    /// The token itself, for a relay of this process that checks it too.
    fn token(&self) -> Option<Token> {
        None
    }
    /// When the token runs out. `None`: never.
    fn expires(&self) -> Option<Instant> {
        None
    }
    fn is_expired(&self, now: Instant) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }
    /// It was revoked, or its key was: it allows nothing any more, and [`Core::revoke`] ends what it allowed.
    fn is_withdrawn(&self) -> bool {
        false
    }
    /// Whose token it is: what it asks for is counted together over all sessions ([`Limits`](super::Limits)), and
    /// [`Core::revoke_identity`] ends it by this name. `None`: each session is counted alone.
    fn identity(&self) -> Option<&str> {
        None
    }
}

/// The right to be the one speaker of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the track, without its namespace.
    pub track: Bytes,
    pub holder: String,
    /// A newer epoch replaces the older publication, whoever held it: who gives leases numbers them per track.
    pub epoch: u64,
}

impl Lease {
    /// Only one of the two may speak: the newer, or of equals the one that comes later.
    pub(super) fn excludes(&self, other: &Lease) -> bool {
        self.track == other.track && (self.holder == other.holder || self.epoch != other.epoch)
    }
}

/// The rights of those who need no token: other relays of ours, and whoever comes to a relay that is open to anybody.
pub struct Everything;

impl Rights for Everything {
    fn may_publish(&self, _: &TrackNamespace) -> bool {
        true
    }
    fn may_subscribe(&self, _: &TrackNamespace) -> bool {
        true
    }
    fn lease(&self) -> Option<&Lease> {
        None
    }
}

/// Turns a token into rights: form, signature and time are checked here.
pub trait Gate {
    /// The error is one of UNAUTHORIZED, MALFORMED_AUTH_TOKEN, EXPIRED_AUTH_TOKEN.
    fn rights(&mut self, token: &Token, now: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode>;
}

/// What a request can lean on: the rights of its own tokens, then those of its session.
pub(super) type Credentials = Vec<Arc<dyn Rights>>;

impl Core {
    pub(super) fn credentials(
        &mut self,
        key: u64,
        tokens: &[Token],
        now: Instant,
    ) -> Result<Credentials, RequestErrorCode> {
        if tokens.len() > constants::TOKENS_PER_REQUEST {
            return Err(RequestErrorCode::MalformedAuthToken);
        }
        let mut credentials = Vec::with_capacity(tokens.len() + 1);
        for token in tokens {
            credentials.push(self.gate.rights(token, now)?);
        }
        if let Some(peer) = self.peers.get(&key) {
            credentials.extend(peer.rights.iter().cloned());
        }
        Ok(credentials)
    }
}

/// The first rights that allow it. Rights that would allow it but have run out are told apart from none at all: neither
/// depends on whether the track exists.
pub(super) fn permit(
    credentials: &[Arc<dyn Rights>],
    now: Instant,
    allows: impl Fn(&dyn Rights) -> bool,
) -> Result<&Arc<dyn Rights>, RequestErrorCode> {
    let mut refusal = RequestErrorCode::Unauthorized;
    for rights in credentials.iter().filter(|rights| allows(rights.as_ref())) {
        if !rights.is_expired(now) {
            return Ok(rights);
        }
        refusal = RequestErrorCode::ExpiredAuthToken;
    }
    Err(refusal)
}

/// The namespace may be heard of by one of these, now.
pub(super) fn shows(credentials: &[Arc<dyn Rights>], namespace: &TrackNamespace, now: Option<Instant>) -> bool {
    let counts = |rights: &Arc<dyn Rights>| now.is_none_or(|now| !rights.is_expired(now));
    credentials.iter().any(|rights| rights.may_subscribe(namespace) && counts(rights))
}
