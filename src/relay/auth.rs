//! Tokens into rights: the relay core's [`Gate`] over [`token`](crate::token), and what SETUP's tokens come to.
//!
//! A token is looked for in SETUP's AUTHORIZATION_TOKEN options, in the query of the path (`jwt`, `tok`, `token`) and in the
//! path's first segment; requests bring more of their own. A session without any token is let in and may do nothing. A
//! token that is wrong closes the session at SETUP, with a reason that says what to do: nobody guesses why it got no rights.
//!
//! Checking a signature costs 50 µs, so what was verified once is [`remembered`](super::remembered) by its hash. Nothing that failed
//! is: it may be right later. The wall clock is an argument; nobody is asked about a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use url::form_urlencoded;

use super::keyring::Keyring;
use super::remembered::{Hash, Remembered};
use crate::moqt::message::{Setup, Token};
use crate::moqt::relay::{Everything, Gate, Lease, Rights};
use crate::moqt::{CloseCode, RequestErrorCode, TrackNamespace};
use crate::token::{Claims, LEEWAY_S, PublicKey, TokenError};

/// Tokens in one SETUP, the path's included.
const TOKENS_PER_SETUP: usize = 8;
/// The query's names for a token, in the order they are looked for.
const QUERY_NAMES: [&str; 3] = ["jwt", "tok", "token"];
/// The one type of token that is agreed out of band (§10.2.2): our JWT.
const OUT_OF_BAND: u64 = 0;

/// Unix seconds now.
pub(super) type UnixClock = Box<dyn Fn() -> u64>;

/// Why a SETUP is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

/// What the tokens of a SETUP come to.
#[derive(Default)]
pub(super) struct Admitted {
    pub(super) rights: Vec<Arc<dyn Rights>>,
    /// The same, as their verifier knows them.
    pub(super) tokens: Vec<Arc<Verified>>,
    /// One of them publishes in every call: an engine, whose one session carries them all.
    pub(super) every_call: bool,
}

/// Verifies tokens and remembers those that passed.
pub(super) struct Verifier {
    ring: Arc<Keyring>,
    /// Nobody is asked for a token.
    open: bool,
    unix: UnixClock,
    verified: Remembered<Verified>,
}

/// A token that passed, as rights.
pub(super) struct Verified {
    claims: Claims,
    /// As it came, for the other shards.
    text: Bytes,
    hash: Hash,
    key: PublicKey,
    /// The organisation, and the holder if the token is one holder's.
    identity: String,
    lease: Option<Lease>,
    expires: Instant,
    /// Its key was taken away, or it was revoked.
    withdrawn: AtomicBool,
}

impl Verifier {
    pub(super) fn new(ring: Arc<Keyring>, unix: UnixClock) -> Self {
        Self { ring, open: false, unix, verified: Remembered::new() }
    }

    /// Whether everybody may do everything ([`Config::open`](super::Config)).
    pub(super) fn opened(self, open: bool) -> Self {
        Self { open, ..self }
    }

    /// The ring that it verifies with.
    pub(super) fn ring(&self) -> &Arc<Keyring> {
        &self.ring
    }

    /// From here on other keys and revocations count. Tokens that count no longer are withdrawn, also where they were accepted
    /// already; `true`: there were some.
    pub(super) fn replace(&mut self, ring: Arc<Keyring>) -> bool {
        let mut any = false;
        self.verified.retain(|token| {
            let counts = ring.keys.contains(&token.key) && !ring.revoked.names(&token.claims, &token.hash);
            any |= !counts;
            token.withdrawn.store(!counts, Ordering::Relaxed);
            counts
        });
        self.ring = ring;
        any
    }

    /// The rights of everything that a SETUP, or the `path` of the CONNECT it came by, brings along.
    pub(super) fn admit(&mut self, setup: &Setup, path: Option<&str>, now: Instant) -> Result<Admitted, Refused> {
        said_once(setup, path)?;
        if self.open {
            return Ok(Admitted { rights: vec![Arc::new(Everything)], ..Admitted::default() });
        }
        let in_path = setup.path.as_deref().or(path).and_then(token_in_path);
        let in_path = in_path.map(|value| Token { kind: OUT_OF_BAND, value });
        let mut admitted = Admitted::default();
        if setup.tokens.len() + in_path.iter().len() > TOKENS_PER_SETUP {
            let reason = format!("more than {TOKENS_PER_SETUP} tokens in one SETUP");
            return Err(Refused { code: CloseCode::MalformedAuthToken, reason });
        }
        for token in setup.tokens.iter().chain(in_path.as_ref()) {
            let verified = self.verify(token, now).map_err(|error| refused(&error))?;
            admitted.every_call |= verified.speaks_in_every_call();
            admitted.rights.push(verified.clone());
            admitted.tokens.push(verified);
        }
        Ok(admitted)
    }

    fn verify(&mut self, token: &Token, now: Instant) -> Result<Arc<Verified>, TokenError> {
        if token.kind != OUT_OF_BAND {
            return Err(TokenError::Malformed("its type is not 0, which is where our JWT travels"));
        }
        let hash = ring::digest::digest(&ring::digest::SHA256, &token.value);
        let hash: Hash = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(known) = self.verified.find(&hash) {
            return if known.is_expired(now) { Err(TokenError::Expired) } else { Ok(known) };
        }
        let unix = (self.unix)();
        let (claims, key) = Claims::decode_with_key(&token.value, &self.ring.keys, unix, LEEWAY_S)?;
        if self.ring.revoked.names(&claims, &hash) {
            return Err(TokenError::Revoked);
        }
        // A copy: a slice would hold the whole packet that it came in.
        let text = Bytes::copy_from_slice(&token.value);
        let verified = Arc::new(Verified::new(claims, text, (hash, key), unix, now));
        self.verified.insert(hash, verified.clone());
        Ok(verified)
    }
}

/// The core's gate; the shard that made it checks SETUP with the same verifier, on the same thread.
pub(super) struct SharedGate(pub(super) Rc<RefCell<Verifier>>);

impl Gate for SharedGate {
    fn rights(&mut self, token: &Token, now: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode> {
        let mut verifier = self.0.borrow_mut();
        if verifier.open {
            return Ok(Arc::new(Everything));
        }
        match verifier.verify(token, now) {
            Ok(verified) => Ok(verified),
            Err(TokenError::Malformed(_) | TokenError::Algorithm) => Err(RequestErrorCode::MalformedAuthToken),
            Err(TokenError::Expired) => Err(RequestErrorCode::ExpiredAuthToken),
            Err(TokenError::UnknownKey | TokenError::Signature | TokenError::NotYetValid | TokenError::Revoked) => {
                Err(RequestErrorCode::Unauthorized)
            }
        }
    }
}

impl Verified {
    fn new(claims: Claims, text: Bytes, (hash, key): (Hash, PublicKey), unix: u64, now: Instant) -> Self {
        // A token without end in sight ends with this process at the latest; an Instant can't hold every u64.
        let left = claims.exp.saturating_add(LEEWAY_S).saturating_sub(unix).min(10 * 365 * 86_400);
        let lease = claims.lease.as_ref().map(|lease| Lease {
            track: Bytes::copy_from_slice(lease.track.as_bytes()),
            holder: lease.holder.clone(),
            epoch: lease.epoch,
        });
        let expires = now + Duration::from_secs(left);
        let identity = match &claims.lease {
            Some(lease) => format!("{}/{}", claims.sub, lease.holder),
            None => claims.sub.clone(),
        };
        Self { claims, text, hash, key, identity, lease, expires, withdrawn: AtomicBool::new(false) }
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// 0xff stands in no UTF-8 text, so only a wildcard lets it through.
    fn speaks_in_every_call(&self) -> bool {
        self.lease.is_none() && self.claims.may_publish(&[&b"voice"[..], b"\xff", b"uplink"])
    }
}

impl Rights for Verified {
    fn may_publish(&self, namespace: &TrackNamespace) -> bool {
        !self.is_withdrawn() && self.claims.may_publish(namespace.fields())
    }
    fn may_subscribe(&self, namespace: &TrackNamespace) -> bool {
        !self.is_withdrawn() && self.claims.may_subscribe(namespace.fields())
    }
    fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
    fn token(&self) -> Option<Token> {
        Some(Token { kind: OUT_OF_BAND, value: self.text.clone() })
    }
    fn expires(&self) -> Option<Instant> {
        Some(self.expires)
    }
    fn is_withdrawn(&self) -> bool {
        self.is_withdrawn()
    }
    fn identity(&self) -> Option<&str> {
        Some(&self.identity)
    }
}

/// PATH and AUTHORITY are raw QUIC's: a WebTransport session has them from its CONNECT (§10.3.1).
fn said_once(setup: &Setup, connect: Option<&str>) -> Result<(), Refused> {
    let code = match connect {
        Some(_) if setup.path.is_some() => CloseCode::InvalidPath,
        Some(_) if setup.authority.is_some() => CloseCode::InvalidAuthority,
        _ => return Ok(()),
    };
    let reason =
        "a WebTransport session says its path and authority in CONNECT alone: leave them out of SETUP".to_owned();
    Err(Refused { code, reason })
}

fn refused(error: &TokenError) -> Refused {
    let code = match error {
        TokenError::Malformed(_) | TokenError::Algorithm => CloseCode::MalformedAuthToken,
        TokenError::Expired => CloseCode::ExpiredAuthToken,
        TokenError::UnknownKey | TokenError::Signature | TokenError::NotYetValid | TokenError::Revoked => {
            CloseCode::Unauthorized
        }
    };
    Refused { code, reason: error.to_string() }
}

/// `/any?jwt=…`, or `/<JWT>/any`. A first segment that has not a JWT's three parts is a path and nothing else.
fn token_in_path(path: &str) -> Option<Bytes> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let in_query = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    if let Some((_, value)) = QUERY_NAMES.iter().find_map(|name| in_query(name)) {
        return Some(Bytes::copy_from_slice(value.as_bytes()));
    }
    let first = path.trim_start_matches('/').split('/').next()?;
    let parts = first.split('.').filter(|part| !part.is_empty()).count();
    (parts == 3 && first.starts_with("ey")).then(|| Bytes::copy_from_slice(first.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Revoked, SigningKey};

    fn key() -> SigningKey {
        SigningKey::generate(&ring::rand::SystemRandom::new()).unwrap().0
    }

    fn claims(patterns: &[&str], exp: u64) -> Claims {
        let ns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        Claims { sub: "acme".into(), exp, ns, ..Claims::default() }
    }

    fn verifier(key: &SigningKey, unix: u64) -> Verifier {
        Verifier::new(ring(&[key], ""), Box::new(move || unix))
    }

    fn ring(keys: &[&SigningKey], revoked: &str) -> Arc<Keyring> {
        let keys = keys.iter().map(|key| key.public()).collect();
        Arc::new(Keyring { keys, revoked: Revoked::read(revoked).unwrap() })
    }

    fn setup(tokens: &[String]) -> Setup {
        let token = |text: &String| Token { kind: 0, value: Bytes::from(text.clone()) };
        Setup { tokens: tokens.iter().map(token).collect(), ..Setup::default() }
    }

    fn namespace(fields: &[&'static str]) -> TrackNamespace {
        TrackNamespace::new(fields.iter().copied()).unwrap()
    }

    #[test]
    fn a_token_is_found_in_every_place_it_may_stand() {
        let (key, now) = (key(), Instant::now());
        let mut verifier = verifier(&key, 1000);
        let token = claims(&["voice/CA1/*"], 2000).encode(&key);
        let uplink = namespace(&["voice", "CA1", "uplink"]);
        let with_path = |path: String| Setup { path: Some(path), ..Setup::default() };
        let ours = [
            setup(std::slice::from_ref(&token)),
            with_path(format!("/moq?jwt={token}")),
            with_path(format!("/?room=1&tok={token}")),
            with_path(format!("?token={token}")),
            with_path(format!("/{token}/moq")),
            with_path(format!("/{token}")),
        ];
        for setup in &ours {
            let admitted = verifier.admit(setup, None, now).unwrap();
            assert_eq!(admitted.rights.len(), 1, "{setup:?}");
            assert!(admitted.rights[0].may_publish(&uplink) && !admitted.every_call);
            assert!(!admitted.rights[0].may_subscribe(&namespace(&["voice", "CA2", "uplink"])));
        }
        let by_connect = verifier.admit(&Setup::default(), Some(&format!("/?jwt={token}")), now).unwrap();
        assert_eq!(by_connect.rights.len(), 1);
        for path in ["/", "/moq", "/a.b.c", "", "/?x=1"] {
            assert!(verifier.admit(&with_path(path.into()), None, now).unwrap().rights.is_empty(), "{path}");
        }
        assert_eq!(verifier.verified.len(), 1, "the same token is verified once");
    }

    #[test]
    fn what_the_connect_says_the_setup_does_not_say_again() {
        let (key, now) = (key(), Instant::now());
        let path = Setup { path: Some("/x".into()), ..Setup::default() };
        let authority = Setup { authority: Some("relay:443".into()), ..Setup::default() };
        for (setup, code) in [(path, CloseCode::InvalidPath), (authority, CloseCode::InvalidAuthority)] {
            for open in [false, true] {
                let mut verifier = Verifier { open, ..verifier(&key, 1000) };
                let refused = verifier.admit(&setup, Some("/x"), now).map(|_| ()).unwrap_err();
                assert_eq!(refused.code, code);
                assert!(verifier.admit(&setup, None, now).is_ok(), "raw QUIC has no other place for it");
            }
        }
    }

    #[test]
    fn a_wrong_token_closes_with_its_own_code_and_a_remedy() {
        let (key, stranger, now) = (key(), key(), Instant::now());
        let mut verifier = verifier(&key, 1000);
        let mut code = |text: String| verifier.admit(&setup(&[text]), None, now).map(|_| ()).unwrap_err();
        let expired = code(claims(&["voice/**"], 900).encode(&key));
        assert_eq!(expired.code, CloseCode::ExpiredAuthToken);
        assert!(expired.reason.contains("fetch a fresh one"), "{}", expired.reason);
        assert_eq!(code("rubbish".into()).code, CloseCode::MalformedAuthToken);
        assert_eq!(code(claims(&["voice/**"], 2000).encode(&stranger)).code, CloseCode::Unauthorized);
        let foreign = Setup { tokens: vec![Token { kind: 7, value: Bytes::new() }], ..Setup::default() };
        let refusal = verifier.admit(&foreign, None, now).map(|_| ()).unwrap_err();
        assert_eq!(refusal.code, CloseCode::MalformedAuthToken);
        let many = vec![claims(&["voice/**"], 2000).encode(&key); TOKENS_PER_SETUP + 1];
        assert!(verifier.admit(&setup(&many), None, now).is_err());
    }

    #[test]
    fn rights_run_out_and_a_remembered_token_with_them() {
        let (key, now) = (key(), Instant::now());
        let mut verifier = verifier(&key, 1000);
        let text = setup(&[claims(&["voice/**"], 1060).encode(&key)]);
        let admitted = verifier.admit(&text, None, now).unwrap();
        assert!(admitted.every_call, "a wildcard speaks in every call");
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(
            !admitted.rights[0].is_expired(at(60 + LEEWAY_S - 1)) && admitted.rights[0].is_expired(at(60 + LEEWAY_S))
        );
        let later = verifier.admit(&text, None, at(60 + LEEWAY_S)).map(|_| ()).unwrap_err();
        assert_eq!(later.code, CloseCode::ExpiredAuthToken);
    }

    /// The old key's tokens count until it is taken away; then they are withdrawn where they were accepted, and refused anew.
    #[test]
    fn keys_are_rolled_over_and_a_revoked_token_is_withdrawn() {
        let (old, new, now) = (key(), key(), Instant::now());
        let mut verifier = verifier(&old, 1000);
        let uplink = namespace(&["voice", "CA1", "uplink"]);
        let text = |key: &SigningKey, jti: &str| {
            setup(&[Claims { jti: Some(jti.into()), ..claims(&["voice/CA1/*"], 2000) }.encode(key)])
        };
        let first = verifier.admit(&text(&old, "1"), None, now).unwrap();
        assert!(verifier.admit(&text(&new, "2"), None, now).is_err(), "the new key is not there yet");
        assert!(!verifier.replace(ring(&[&old, &new], "")), "both count");
        let second = verifier.admit(&text(&new, "2"), None, now).unwrap();
        let third = verifier.admit(&text(&new, "3"), None, now).unwrap();
        assert!(first.rights[0].may_publish(&uplink) && second.rights[0].may_publish(&uplink));
        assert!(verifier.replace(ring(&[&new], "jti 2")));
        for withdrawn in [&first, &second] {
            assert!(withdrawn.tokens[0].is_withdrawn());
            assert!(!withdrawn.rights[0].may_publish(&uplink) && !withdrawn.rights[0].may_subscribe(&uplink));
        }
        assert!(third.rights[0].may_publish(&uplink));
        let again = verifier.admit(&text(&new, "2"), None, now).map(|_| ()).unwrap_err();
        assert_eq!(again.code, CloseCode::Unauthorized);
        assert!(again.reason.contains("revoked"), "{}", again.reason);
        assert_eq!(verifier.admit(&text(&old, "1"), None, now).map(|_| ()).unwrap_err().code, CloseCode::Unauthorized);
        assert_eq!(verifier.verified.len(), 1);
    }

    #[test]
    fn a_lease_is_the_cores_lease() {
        let (key, now) = (key(), Instant::now());
        let lease = crate::token::Lease { track: "audio".into(), holder: "bridge-1".into(), epoch: 3 };
        let token = Claims { lease: Some(lease), ..claims(&["voice/**"], 2000) }.encode(&key);
        let admitted = verifier(&key, 1000).admit(&setup(&[token]), None, now).unwrap();
        let expected = Lease { track: Bytes::from_static(b"audio"), holder: "bridge-1".into(), epoch: 3 };
        assert_eq!(admitted.rights[0].lease(), Some(&expected));
        assert!(!admitted.every_call, "one speaker of one track is no engine");
    }
}
