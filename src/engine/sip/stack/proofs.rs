//! What proves who we are in requests of ours that have one Call-ID: those of a call, of a registration, of a trunk's OPTIONS. Several
//! parties may ask in turn, a proxy (407) and whoever is behind it (401), and each is shown its own proof in all that follows (RFC 3261
//! §22.3). The crate answers challenges one by one, and leaves out what it answered before: here it is kept, and put back with a count of
//! its own. Here it is said, too, which challenge is answered, in a call as outside of one ([`Challenges::may_answer`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::config::{Credentials, Secret};
use crate::sip::digest::{self, parameters};

/// More requests of one Call-ID are not under way at the same time.
const MOST_SENT: usize = 8;
/// Of more parties that ask, the one that asked first is forgotten.
const MOST_PARTIES: usize = 3;
/// That are made for one request: it is asked for, and twice more. As many as the crate makes.
const MOST_PROOFS: usize = 3;

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

/// A request of ours, as far as proofs depend on it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its CSeq.
    pub(super) number: u32,
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
}

/// Of one Call-ID. By default nobody is answered.
#[derive(Default)]
pub(in crate::engine::sip) struct Challenges {
    password: Option<Secret>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What each party was shown last.
    shown: Vec<(Party, String)>,
    /// From the first that shows a proof on, the newest first.
    sent: VecDeque<Sent>,
}

/// A request: it may be sent more than once.
struct Sent {
    number: u32,
    method: String,
    /// Whose challenge it answers; `None`: nobody has asked, and it shows what was shown before.
    answers: Option<Party>,
    /// How many were made for it, and for those that were challenged in its place.
    proofs: usize,
    /// What it shows, to each.
    shows: Vec<(Party, String)>,
}

impl Known {
    fn sent(&self, number: u32) -> Option<&Sent> {
        self.sent.iter().find(|sent| sent.number == number)
    }
}

impl Challenges {
    pub(in crate::engine::sip) fn of(credentials: Option<&Credentials>) -> Arc<Self> {
        let password = credentials.map(|ours| ours.sip_password.clone());
        Arc::new(Self { password, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a challenge to the request of this number is answered. Behind a proof that was made for this request it is the party's
    /// word about the password, unless it calls the nonce stale (RFC 7616 §3.3). One that was shown before may have become old unsaid.
    pub(super) fn may_answer(&self, number: u32, party: &Party, is_stale: bool) -> bool {
        let mut known = self.known();
        let is_news = |sent: &Sent| sent.proofs < MOST_PROOFS && (is_stale || sent.answers.as_ref() != Some(party));
        let answers = self.password.is_some() && known.sent(number).is_none_or(is_news);
        if !answers {
            // It is not shown again what it has refused.
            known.shown.retain(|(other, _)| other != party);
        }
        answers
    }

    /// A request of ours is about to be sent, with a proof that was made for it, or with none: all that it shows. Its own is of its URI as
    /// it is sent, which the crate may have known otherwise.
    pub(super) fn show(&self, asked: Asked<'_>, own: Option<(Party, String)>) -> Vec<(Party, String)> {
        let Some(password) = &self.password else { return own.into_iter().collect() };
        let mut known = self.known();
        let known = &mut *known;
        // Once more, or its ACK, which shows the same (RFC 3261 §22.1).
        if let Some(sent) = known.sent(asked.number) {
            return sent.shows.clone();
        }
        let was_asked = !known.shown.is_empty() || !known.sent.is_empty();
        if own.is_none() && (!was_asked || asked.method == "ACK") {
            return Vec::new();
        }
        let Asked { number, method, uri } = asked;
        let answers = own.as_ref().map(|(party, _)| party.clone());
        known.shown.retain(|(other, _)| Some(other) != answers.as_ref());
        for (_, theirs) in &mut known.shown {
            if let Some(again) = digest::again(theirs, method, uri, password.reveal()) {
                *theirs = again;
            }
        }
        known.shown.extend(own.map(|(party, proof)| {
            let of_uri = digest::of_uri(&proof, method, uri, password.reveal());
            (party, of_uri.unwrap_or(proof))
        }));
        let shows = known.shown.clone();
        // One request of a method waits for its answer before the next.
        let before = known.sent.iter().find(|sent| sent.method == method).map_or(0, |sent| sent.proofs);
        let proofs = answers.as_ref().map_or(0, |_| before + 1);
        let many = known.shown.len().saturating_sub(MOST_PARTIES);
        known.shown.drain(..many);
        known.sent.truncate(MOST_SENT - 1);
        known.sent.push_front(Sent { number, method: method.to_owned(), answers, proofs, shows: shows.clone() });
        shows
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

    fn challenges() -> Arc<Challenges> {
        let ours = Credentials { sip_username: "u".to_owned(), sip_password: Secret::new("secret") };
        Challenges::of(Some(&ours))
    }

    fn asked(number: u32, method: &'static str) -> Asked<'static> {
        Asked { number, method, uri: "sip:1@h" }
    }

    /// A challenge of this party to the request of this number is answered, by the next one.
    #[track_caller]
    fn answered(challenges: &Challenges, asked: Asked<'_>, value: (bool, &str)) -> Vec<(Party, String)> {
        let party = party(value.0, value.1);
        assert!(challenges.may_answer(asked.number - 1, &party, false));
        challenges.show(asked, Some((party, value.1.to_owned())))
    }

    #[test]
    fn each_party_is_shown_its_own_proof_again() {
        let challenges = challenges();
        assert!(challenges.show(asked(1, "INVITE"), None).is_empty(), "nobody has asked");
        let [(proxy, proof)] = &answered(&challenges, asked(2, "INVITE"), (true, PROXYS))[..] else { panic!() };
        assert!(*proxy == party(true, PROXYS) && proof.contains("nc=00000001"), "{proof}");
        let shows = answered(&challenges, asked(3, "INVITE"), (false, CARRIERS));
        assert_eq!(challenges.show(asked(3, "INVITE"), None), shows, "what is sent again is the same");
        assert_eq!(challenges.show(asked(3, "ACK"), None), shows, "and what acknowledges it");
        let [(proxy, proof), (carrier, _)] = &shows[..] else { panic!("{shows:?}") };
        assert!(*proxy == party(true, PROXYS) && proof.contains("nc=00000002"), "{proof}");
        assert!(*carrier == party(false, CARRIERS));
        // It has let the carrier speak, and wants another nonce all the same.
        let shows = answered(&challenges, asked(4, "INVITE"), (true, PROXYS));
        assert!(shows.len() == 2 && shows[0].0 == party(false, CARRIERS), "{shows:?}");
        assert!(challenges.show(asked(1, "ACK"), None).is_empty(), "its INVITE showed nothing");
    }

    /// The crate names where it sends a request, and the request where it is to arrive.
    #[test]
    fn a_proof_is_one_for_the_uri_of_its_request() {
        let challenges = challenges();
        let of = |challenges: &Challenges, number, uri| {
            challenges.show(Asked { uri, ..asked(number, "PRACK") }, Some((party(true, PROXYS), PROXYS.to_owned())))
        };
        let there = of(&challenges, 2, "sip:far;x=1@there");
        assert!(there[0].1.contains("uri=\"sip:far;x=1@there\"") && there[0].1.contains("nc=00000001"), "{there:?}");
        let expected = digest::of_uri(PROXYS, "PRACK", "sip:far;x=1@there", "secret").unwrap();
        assert_eq!(there[0].1, expected);
        assert_ne!(expected, PROXYS);
        assert_eq!(of(&challenges, 2, "sip:far;x=1@there"), there, "sent again");
    }

    #[test]
    fn who_refuses_a_proof_that_was_made_for_it_speaks_of_the_password() {
        let (challenges, carrier) = (challenges(), party(false, CARRIERS));
        answered(&challenges, asked(2, "REGISTER"), (false, CARRIERS));
        assert!(challenges.may_answer(2, &carrier, true), "it was only old");
        assert!(!challenges.may_answer(2, &carrier, false));
        assert!(challenges.show(asked(3, "REGISTER"), None).is_empty(), "it is not shown again what it refused");
        assert!(challenges.may_answer(3, &carrier, false));
    }

    #[test]
    fn what_was_shown_once_is_shown_in_every_request_behind_it() {
        let challenges = challenges();
        answered(&challenges, asked(2, "REGISTER"), (true, PROXYS));
        answered(&challenges, asked(3, "REGISTER"), (false, CARRIERS));
        let bye = challenges.show(Asked { uri: "sip:far@there", ..asked(4, "BYE") }, None);
        let told: Vec<_> = bye.iter().map(|(party, proof)| (party.is_proxy(), proof.as_str())).collect();
        let [(true, proxys), (false, carriers)] = told[..] else { panic!("{told:?}") };
        assert!(proxys.contains("nc=00000003") && proxys.contains("uri=\"sip:far@there\""), "{proxys}");
        // Of another method, at another place: another response, without a count too.
        assert!(carriers.contains("uri=\"sip:far@there\"") && !carriers.contains("response=\"11\""), "{carriers}");
        // It may have grown old without a word about it.
        for (is_proxy, value) in [(true, PROXYS), (false, CARRIERS)] {
            assert!(challenges.may_answer(4, &party(is_proxy, value), false));
        }
    }

    #[test]
    fn a_request_is_proved_three_times_and_the_next_one_as_often() {
        let challenges = challenges();
        let carrier = party(false, CARRIERS);
        for first in [10, 20] {
            challenges.show(asked(first, "OPTIONS"), None);
            for nth in 0..3 {
                assert!(challenges.may_answer(first + nth, &carrier, nth > 0), "{first} {nth}");
                challenges.show(asked(first + nth + 1, "OPTIONS"), Some((carrier.clone(), CARRIERS.to_owned())));
            }
            assert!(!challenges.may_answer(first + 3, &carrier, true), "its nonces are all stale");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_without_a_password_it_is_nothing() {
        let challenges = challenges();
        for number in 2..40 {
            let value = format!("Digest realm=\"{number}\"");
            challenges.show(asked(number, "INFO"), Some((party(true, &value), value.clone())));
        }
        let known = challenges.known();
        assert_eq!((known.shown.len(), known.sent.len()), (MOST_PARTIES, MOST_SENT));
        assert_eq!(known.shown[0].0, party(true, "Digest realm=\"37\""));
        let nobodys = Challenges::default();
        assert!(nobodys.show(asked(2, "BYE"), None).is_empty());
        assert!(!nobodys.may_answer(1, &party(true, PROXYS), true));
        assert_eq!(Party::of(true, "Digest nonce=\"n\""), None);
    }
}
