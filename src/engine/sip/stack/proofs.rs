//! What proves who we are in a call of ours: who may be answered, and with what. Several parties may ask in turn, a proxy (407) and
//! whoever is behind it (401), and each is to be shown its own proof again from then on (RFC 3261 §22.3). The crate answers one
//! challenge, and leaves out what it answered before: here it is kept, and put back with a count of its own.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::config::Secret;
use crate::sip::digest::{self, parameters};

/// More requests of one call are not challenged at the same time.
const MOST_PROOFS: usize = 8;
/// More do not ask for one call.
const MOST_PARTIES: usize = 3;

/// Who asks: its realm as it writes it, and whether as a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    is_proxy: bool,
    realm: String,
}

impl Party {
    /// Of the value of a challenge, or of its answer.
    pub(super) fn of(is_proxy: bool, value: &str) -> Option<Self> {
        let (_, rest) = value.trim().split_once(char::is_whitespace)?;
        let realm = parameters(rest).into_iter().find(|(name, _)| name.eq_ignore_ascii_case("realm"))?.1;
        Some(Self { is_proxy, realm: realm.to_owned() })
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.is_proxy
    }
}

/// Of one call.
#[derive(Default)]
pub(super) struct Challenges {
    password: Option<Secret>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The newest CSeq numbers that came with a proof.
    numbers: VecDeque<u32>,
    /// By its INVITE: what each party was shown last.
    shown: Vec<(Party, String)>,
    /// What the newest INVITE shows beside its own proof: it may be sent more than once.
    beside: (u32, Vec<(Party, String)>),
}

impl Challenges {
    pub(super) fn new(password: Option<Secret>) -> Self {
        Self { password, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_proof(&self, number: u32) {
        let mut known = self.known();
        let numbers = &mut known.numbers;
        if !numbers.contains(&number) {
            numbers.truncate(MOST_PROOFS - 1);
            numbers.push_front(number);
        }
    }

    /// Who has credentials answers a request's challenge once.
    pub(super) fn may_answer(&self, number: u32) -> bool {
        self.password.is_some() && !self.known().numbers.contains(&number)
    }

    /// Behind the proof of somebody else: no word about a password.
    pub(super) fn is_another(&self, party: &Party) -> bool {
        let known = self.known();
        let shown = &known.shown;
        (1..MOST_PARTIES).contains(&shown.len()) && shown.iter().all(|(known, _)| known != party)
    }

    /// The INVITE of this number shows a proof: what else it has to show.
    pub(super) fn show(&self, number: u32, party: Party, proof: &str) -> Vec<(Party, String)> {
        let Some(password) = &self.password else { return Vec::new() };
        let mut known = self.known();
        let known = &mut *known;
        if known.beside.0 != number {
            known.shown.retain(|(other, _)| *other != party);
            for (_, theirs) in &mut known.shown {
                if let Some(again) = digest::again(theirs, "INVITE", password.reveal()) {
                    *theirs = again;
                }
            }
            known.beside = (number, known.shown.clone());
            known.shown.push((party, proof.to_owned()));
        }
        known.beside.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXYS: &str = r#"Digest username="u", realm="p", nonce="n", uri="sip:1@h", response="00", algorithm=MD5, qop=auth, nc=00000001, cnonce="c""#;
    const CARRIERS: &str = r#"Digest username="u", realm="c", nonce="m", uri="sip:1@h", response="11", algorithm=MD5"#;

    fn party(is_proxy: bool, value: &str) -> Party {
        Party::of(is_proxy, value).unwrap()
    }

    #[test]
    fn each_party_is_shown_its_own_proof_again() {
        let challenges = Challenges::new(Some(Secret::new("secret")));
        let (proxy, carrier) = (party(true, PROXYS), party(false, CARRIERS));
        assert!(!challenges.is_another(&carrier), "nobody has asked before");
        assert!(challenges.show(2, proxy.clone(), PROXYS).is_empty());
        assert!(!challenges.is_another(&proxy) && challenges.is_another(&carrier));
        let others = challenges.show(3, carrier.clone(), CARRIERS);
        assert_eq!(challenges.show(3, carrier.clone(), CARRIERS), others, "what is sent again is the same");
        assert_eq!(others.len(), 1);
        assert!(others[0].0 == proxy && others[0].1.contains("nc=00000002"), "{others:?}");
        assert!(!challenges.is_another(&carrier), "what it said last is its word about a password");
        let others = challenges.show(4, proxy, PROXYS);
        assert_eq!(others, [(carrier, CARRIERS.to_owned())], "one without a count is shown as it is");
    }

    #[test]
    fn not_everybody_is_answered() {
        let challenges = Challenges::new(Some(Secret::new("secret")));
        for realm in 0..MOST_PARTIES as u32 {
            let value = format!("Digest realm=\"{realm}\"");
            assert_eq!(challenges.is_another(&party(true, &value)), realm > 0);
            challenges.show(realm + 2, party(true, &value), &value);
        }
        assert!(!challenges.is_another(&party(true, "Digest realm=\"more\"")));
        assert!(Challenges::default().show(2, party(true, PROXYS), PROXYS).is_empty());
        assert_eq!(Party::of(true, "Digest nonce=\"n\""), None);
    }
}
