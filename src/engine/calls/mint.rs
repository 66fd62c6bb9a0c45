//! What the engine makes up: sids, and tokens for the relay.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use crate::call::wire::{BridgeRole, TrackRef};
use crate::token::{Claims, Lease, Pattern, SigningKey};
use crate::tracks::Side;
use crate::tracks::names::{CONTROL, EVENTS, VOICE};

const ISSUER: &str = "clutchcall-engine";
/// Every sid's beginning; the node follows.
const SID_PREFIX: &str = "CA";
/// Crockford's base 32: no letter that is taken for another.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_DIGITS: u32 = 10;
const RANDOM_DIGITS: usize = 16;

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// `CA`, the node, and a ULID: letters and digits, unique, growing with time.
pub(super) fn sid(node: &str, unix_ms: u64) -> String {
    let mut random = [0; RANDOM_DIGITS];
    SystemRandom::new().fill(&mut random).expect("the system has randomness; without it no sid is unique");
    let time = (0..TIME_DIGITS).rev().map(|digit| unix_ms >> (5 * digit));
    let digits = time.chain(random.into_iter().map(u64::from));
    let ulid: String = digits.map(|digit| char::from(ALPHABET[(digit % 32) as usize])).collect();
    format!("{SID_PREFIX}{node}{ulid}")
}

/// Names this run of the engine.
pub(super) fn run() -> String {
    sid("", unix_ms()).split_off(SID_PREFIX.len())
}

/// Signs the tokens of bridges and of the engine itself.
pub struct Minter {
    key: SigningKey,
    life_s: u64,
}

impl Minter {
    /// `life`: how long its tokens count, in whole seconds.
    pub fn new(key: SigningKey, life: Duration) -> Self {
        Self { key, life_s: life.as_secs().max(1) }
    }

    pub(super) fn life_s(&self) -> u64 {
        self.life_s
    }

    /// For the engine's own sessions: every track of every call.
    pub fn engine(&self) -> String {
        let pattern = Pattern::try_from(format!("{VOICE}/*/*")).expect("three whole fields");
        Claims { ns: vec![pattern], ..self.claims("engine") }.encode(&self.key)
    }

    /// Exactly the tracks of one bridge.
    pub(super) fn bridge(&self, org: &str, tracks: &Tracks, lease: Lease) -> String {
        let of = |track: &TrackRef| Pattern::try_from(track.namespace.join("/")).expect("a sid is letters and digits");
        let subscribe = [&tracks.subscribe].into_iter().chain(&tracks.control).map(of).collect();
        let (publish, subscribe) = (Some(vec![of(&tracks.publish)]), Some(subscribe));
        Claims { publish, subscribe, lease: Some(lease), ..self.claims(org) }.encode(&self.key)
    }

    fn claims(&self, subject: &str) -> Claims {
        let now = unix_ms() / 1000;
        Claims {
            iss: Some(ISSUER.to_owned()),
            sub: subject.to_owned(),
            iat: Some(now),
            exp: now + self.life_s,
            ..Claims::default()
        }
    }
}

/// What a bridge says and hears.
pub(super) struct Tracks {
    pub(super) speaks: Side,
    pub(super) publish: TrackRef,
    pub(super) subscribe: TrackRef,
    /// Whoever stands for the caller presses keys, and is not told of them.
    pub(super) control: Option<TrackRef>,
}

pub(super) fn tracks(sid: &str, role: BridgeRole, rendition: &str) -> Tracks {
    let (speaks, hears) = match role {
        BridgeRole::Server => (Side::Downlink, Side::Uplink),
        BridgeRole::Caller => (Side::Uplink, Side::Downlink),
    };
    let track = |last: &str, name: &str| TrackRef {
        namespace: [VOICE, sid, last].map(str::to_owned).to_vec(),
        name: name.to_owned(),
    };
    let (publish, subscribe) = (track(speaks.as_str(), rendition), track(hears.as_str(), rendition));
    let control = (role == BridgeRole::Server).then(|| track(CONTROL, EVENTS));
    Tracks { speaks, publish, subscribe, control }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{KeySet, LEEWAY_S};

    #[test]
    fn sids_are_letters_and_digits_and_grow() {
        let (first, second) = (sid("fra1", 1), sid("fra1", 1 << 40));
        assert!(first < second && first.starts_with("CAfra1"));
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(sid("1", 7), sid("1", 7));
    }

    #[test]
    fn a_bridges_token_is_for_its_call_alone() {
        let (key, _) = SigningKey::generate(&SystemRandom::new()).unwrap();
        let keys = KeySet::from_iter([key.public()]);
        let minter = Minter::new(key, Duration::from_secs(7));
        let caller = tracks("CA1", BridgeRole::Caller, "audio");
        let tracks = tracks("CA1", BridgeRole::Server, "audio");
        let lease = Lease { track: "audio".to_owned(), holder: "h".to_owned(), epoch: 1 };
        let token = minter.bridge("org_a", &tracks, lease);
        let now = unix_ms() / 1000;
        let claims = Claims::decode(token.as_bytes(), &keys, now, LEEWAY_S).unwrap();
        assert!(claims.may_publish(&["voice", "CA1", "downlink"]) && claims.may_subscribe(&["voice", "CA1", "uplink"]));
        assert!(!claims.may_publish(&["voice", "CA1", "uplink"]) && !claims.may_subscribe(&["voice", "CA2", "uplink"]));
        assert!(
            claims.may_subscribe(&["voice", "CA1", "control"]) && !claims.may_publish(&["voice", "CA1", "control"])
        );
        assert!(!claims.may_subscribe(&["voice", "CA2", "control"]));
        assert_eq!(claims.exp - claims.iat.unwrap(), 7);
        assert_eq!(claims.lease.unwrap().track, "audio");
        let lease = Lease { track: "audio".to_owned(), holder: "c".to_owned(), epoch: 1 };
        let claims = Claims::decode(minter.bridge("org_a", &caller, lease).as_bytes(), &keys, now, LEEWAY_S).unwrap();
        assert!(claims.may_publish(&["voice", "CA1", "uplink"]));
        assert!(!claims.may_subscribe(&["voice", "CA1", "control"]), "keys are none of the caller's to hear");
        let engine = Claims::decode(minter.engine().as_bytes(), &keys, now, LEEWAY_S).unwrap();
        assert!(engine.may_publish(&["voice", "CA9", "uplink"]) && engine.lease.is_none());
    }
}
