//! The other side of a digest (RFC 7616, RFC 8760; RFC 3261 §22): a [`Challenger`] challenges a caller and judges her answer.
//!
//! A nonce is its time, its number and a keyed hash of both, so that nothing is kept of callers who never answer. It counts for a minute, and every
//! answer once: the count of an answer with `qop` has to grow, one without has none. What was used is remembered as long as its nonce
//! counts, within a bound. Answers are compared in constant time; a wrong name costs what a wrong password costs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use ring::{digest, hmac};

/// How long a nonce counts.
const NONCE_LIFE: Duration = Duration::from_secs(60);
/// Nonces that were used and count yet; beyond, all are forgotten, and with them what was challenged before.
const MOST_USED: usize = 4096;
/// Longer answers are not read.
const MAX_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    /// The preferred first (RFC 8760 §2.4).
    pub const ALL: [Algorithm; 2] = [Self::Sha256, Self::Md5];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Sha256 => hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()),
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
        }
    }
}

/// Who may call.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub realm: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Its nonce is too old or was used: challenge again.
    Stale,
    Wrong,
}

/// An Authorization header, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub username: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Algorithm,
    /// Count and client nonce of `qop=auth`.
    qop: Option<(String, String)>,
}

impl Answer {
    /// `None`: none that we asked for.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(char::is_whitespace)?;
        if header.len() > MAX_BYTES || !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let pairs = parameters(rest);
        let find = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| unquoted(value))
        };
        let algorithm = find("algorithm").unwrap_or_else(|| "MD5".to_owned());
        let qop = match find("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => Some((find("nc")?, find("cnonce")?)),
            Some(_) => return None,
        };
        Some(Self {
            username: find("username")?,
            realm: find("realm")?,
            nonce: find("nonce")?,
            uri: find("uri")?,
            response: find("response")?.to_ascii_lowercase(),
            algorithm: Algorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(&algorithm))?,
            qop,
        })
    }

    fn expected(&self, method: &str, password: &str) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let Self { username, realm, nonce, uri, .. } = self;
        let (who, what) = (hash(&format!("{username}:{realm}:{password}")), hash(&format!("{method}:{uri}")));
        match &self.qop {
            Some((count, cnonce)) => hash(&format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}")),
            None => hash(&format!("{who}:{nonce}:{what}")),
        }
    }

    /// `None`: it has no count, and can be used once.
    fn count(&self) -> Option<u32> {
        let (count, _) = self.qop.as_ref()?;
        Some(u32::from_str_radix(count, 16).unwrap_or(0))
    }
}

/// The same proof in another request: with the next count, since whoever counts takes what was counted for a replay (RFC 7616 §3.4.5).
/// `None`: it is none, or was counted to the end.
pub fn again(proof: &str, method: &str, uri: &str, password: &str) -> Option<String> {
    let mut text = proof.to_owned();
    if let Some((count, _)) = Answer::parse(proof)?.qop {
        let next = u32::from_str_radix(&count, 16).unwrap_or(0).checked_add(1)?;
        text = text.replace(&format!("nc={count}"), &format!("nc={next:08x}"));
    }
    made_for(&text, method, uri, password)
}

/// The same proof of this URI, with its own count: a request is checked against the URI that it has (RFC 7616 §3.4.6). `None`: it is none, or
/// is one of this URI.
pub fn of_uri(proof: &str, method: &str, uri: &str, password: &str) -> Option<String> {
    if Answer::parse(proof)?.uri == uri { None } else { made_for(proof, method, uri, password) }
}

fn made_for(proof: &str, method: &str, uri: &str, password: &str) -> Option<String> {
    let before = Answer::parse(proof)?;
    let now = Answer { uri: uri.to_owned(), ..before.clone() };
    let response = now.expected(method, password);
    let text = proof.replace(&format!("response=\"{}\"", before.response), &format!("response=\"{response}\""));
    Some(text.replace(&format!("uri=\"{}\"", before.uri), &format!("uri=\"{uri}\"")))
}

/// See the file's contract.
pub struct Challenger {
    key: hmac::Key,
    began: Instant,
    /// Of the next nonce: callers of one moment have nonces of their own.
    number: u64,
    /// By nonce: when it was made, and the last count.
    used: HashMap<String, (Duration, u32)>,
}

impl Challenger {
    /// `key`: random, of this run.
    pub fn new(key: &[u8; 32], now: Instant) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), began: now, number: 0, used: HashMap::new() }
    }

    /// Values of `WWW-Authenticate`, in this order.
    pub fn challenges(&mut self, realm: &str, algorithms: &[Algorithm], is_stale: bool, now: Instant) -> Vec<String> {
        let nonce = self.nonce(now.saturating_duration_since(self.began), self.number);
        self.number = self.number.wrapping_add(1);
        let stale = if is_stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            let name = algorithm.as_str();
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}")
        };
        algorithms.iter().map(challenge).collect()
    }

    fn nonce(&self, at: Duration, number: u64) -> String {
        let name = [(at.as_millis() as u64).to_be_bytes(), number.to_be_bytes()].concat();
        hex(&name) + &hex(hmac::sign(&self.key, &name).as_ref())
    }

    /// When it was made; `None`: it is none of ours.
    fn made(&self, nonce: &str) -> Option<Duration> {
        let part = |digits: Option<&str>| u64::from_str_radix(digits?, 16).ok();
        let (at, number) = (Duration::from_millis(part(nonce.get(..16))?), part(nonce.get(16..32))?);
        self.same(&self.nonce(at, number), nonce).then_some(at)
    }

    /// In constant time, but for the lengths.
    fn same(&self, one: &str, other: &str) -> bool {
        hmac::verify(&self.key, one.as_bytes(), hmac::sign(&self.key, other.as_bytes()).as_ref()).is_ok()
    }

    /// Of an answer to a request of this method.
    pub fn judge(&mut self, answer: &Answer, method: &str, account: Account<'_>, now: Instant) -> Verdict {
        let now = now.saturating_duration_since(self.began);
        let Some(made) = self.made(&answer.nonce) else { return Verdict::Stale };
        let is_right = self.same(&answer.expected(method, account.password), &answer.response);
        if answer.username != account.username || answer.realm != account.realm || !is_right {
            return Verdict::Wrong;
        }
        let is_old = now.saturating_sub(made) >= NONCE_LIFE;
        if is_old || !self.use_up(answer, made, now) { Verdict::Stale } else { Verdict::Right }
    }

    fn use_up(&mut self, answer: &Answer, made: Duration, now: Duration) -> bool {
        let count = answer.count().unwrap_or(u32::MAX);
        if self.used.get(&answer.nonce).is_some_and(|(_, last)| *last >= count) {
            return false;
        }
        if self.used.len() >= MOST_USED {
            self.used.retain(|_, (made, _)| now.saturating_sub(*made) < NONCE_LIFE);
        }
        if self.used.len() >= MOST_USED {
            // Nobody may use an answer twice: all that was challenged up to now counts no longer.
            self.used.clear();
            self.key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.key, b"next").as_ref());
            return false;
        }
        self.used.insert(answer.nonce.clone(), (made, count));
        true
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without its quotes and escapes.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let (mut plain, mut letters) = (String::new(), inner.chars());
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

/// `name=value` pairs as they stand; a comma inside quotes parts nothing.
pub fn parameters(text: &str) -> Vec<(&str, &str)> {
    let (mut pairs, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, letter) in text.char_indices().chain([(text.len(), ',')]) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted || at == text.len() => {
                pairs.extend(text[begin..at].split_once('=').map(|(name, value)| (name.trim(), value.trim())));
                begin = (at + 1).min(text.len());
            }
            _ => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account<'_> = Account { username: "Mufasa", password: "Circle of Life", realm: "r" };

    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    fn challenger() -> (Challenger, Instant) {
        let now = Instant::now();
        (Challenger::new(&[7; 32], now), now)
    }

    /// The examples of RFC 7616 §3.9.1.
    #[test]
    fn the_examples_of_the_rfc() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let header = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, qop=auth, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", response=\"{response}\", opaque=\"x\""
            );
            let answer = Answer::parse(&header).unwrap();
            assert_eq!(answer.expected("GET", "Circle of Life"), response);
        }
    }

    /// As a caller would.
    fn answer(challenge: &str, algorithm: &str, count: Option<u32>, password: &str) -> Answer {
        let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
        let qop = count.map_or(String::new(), |count| format!(", qop=auth, nc={count:08x}, cnonce=\"c\""));
        let header = format!(
            "Digest username=\"Mufasa\", realm=\"r\", nonce=\"{nonce}\", uri=\"sip:1@h\", algorithm={algorithm}, response=\"\"{qop}"
        );
        let mut answer = Answer::parse(&header).unwrap();
        answer.response = answer.expected("INVITE", password);
        answer
    }

    #[test]
    fn who_knows_the_password_gets_in_once() {
        let (mut challenger, now) = challenger();
        let challenges = challenger.challenges("r", &Algorithm::ALL, false, now);
        assert!(challenges[0].contains("algorithm=SHA-256") && challenges[1].contains("algorithm=MD5"));
        assert!(challenges.iter().all(|challenge| !challenge.contains("stale")));
        for algorithm in ["SHA-256", "MD5"] {
            let challenge = challenger.challenges("r", &Algorithm::ALL, false, now).remove(0);
            let mut judge = |count, password| {
                challenger.judge(&answer(&challenge, algorithm, count, password), "INVITE", ACCOUNT, now)
            };
            assert_eq!(judge(Some(1), "guess"), Verdict::Wrong);
            assert_eq!(judge(Some(1), ACCOUNT.password), Verdict::Right);
            assert_eq!(judge(Some(1), ACCOUNT.password), Verdict::Stale, "the same again");
            assert_eq!(judge(Some(2), ACCOUNT.password), Verdict::Right);
            assert_eq!(judge(None, ACCOUNT.password), Verdict::Right);
            assert_eq!(judge(None, ACCOUNT.password), Verdict::Stale);
        }
    }

    #[test]
    fn callers_of_one_moment_have_nonces_of_their_own() {
        let (mut challenger, now) = challenger();
        let challenges = [(); 2].map(|()| challenger.challenges("r", &[Algorithm::Md5], false, now).remove(0));
        assert_ne!(challenges[0], challenges[1]);
        for challenge in challenges {
            let first = answer(&challenge, "MD5", Some(1), ACCOUNT.password);
            assert_eq!(challenger.judge(&first, "INVITE", ACCOUNT, now), Verdict::Right);
        }
    }

    #[test]
    fn a_nonce_has_an_end_and_is_of_this_engine() {
        let (mut challenger, now) = challenger();
        let challenge = challenger.challenges("r", &[Algorithm::Md5], true, now).remove(0);
        assert!(challenge.contains("stale=true"));
        let late = answer(&challenge, "MD5", Some(1), ACCOUNT.password);
        assert_eq!(challenger.judge(&late, "INVITE", ACCOUNT, now + NONCE_LIFE), Verdict::Stale);
        assert_eq!(challenger.judge(&late, "INVITE", Account { username: "x", ..ACCOUNT }, now), Verdict::Wrong);
        let other = Challenger::new(&[8; 32], now).challenges("r", &[Algorithm::Md5], false, now).remove(0);
        let foreign = answer(&other, "MD5", Some(1), ACCOUNT.password);
        assert_eq!(challenger.judge(&foreign, "INVITE", ACCOUNT, now), Verdict::Stale);
    }

    #[test]
    fn what_is_used_is_remembered_within_a_bound() {
        let (mut challenger, now) = challenger();
        for n in 0..=MOST_USED as u64 {
            let at = now + Duration::from_millis(n);
            let challenge = challenger.challenges("r", &[Algorithm::Md5], false, at).remove(0);
            let verdict =
                challenger.judge(&answer(&challenge, "MD5", Some(1), ACCOUNT.password), "INVITE", ACCOUNT, at);
            assert_eq!(verdict, if n < MOST_USED as u64 { Verdict::Right } else { Verdict::Stale });
        }
        assert!(challenger.used.is_empty());
    }

    #[test]
    fn the_same_proof_in_another_request() {
        let shown = |response: &str, uri: &str, rest: &str| {
            let text = format!(
                "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"{uri}\", response=\"{response}\"{rest}"
            );
            (Answer::parse(&text).unwrap(), text)
        };
        for (before, after) in [
            (", qop=auth, nc=0000000f, cnonce=\"c\"", ", qop=auth, nc=00000010, cnonce=\"c\""),
            (", algorithm=SHA-256", ", algorithm=SHA-256"),
        ] {
            let (answer, proof) = shown("00", "sip:1@h", before);
            let again = again(&proof, "BYE", "sip:far@there", "p").unwrap();
            let (expected, _) = shown("", "sip:far@there", after);
            let response = expected.expected("BYE", "p");
            assert_eq!(again, shown(&response, "sip:far@there", after).1);
            assert_ne!(response, answer.expected("BYE", "p"));
        }
        let (_, last) = shown("00", "sip:1@h", ", qop=auth, nc=ffffffff, cnonce=\"c\"");
        assert_eq!(super::again(&last, "BYE", "sip:1@h", "p"), None);
        assert_eq!(super::again("Basic dTpw", "BYE", "sip:1@h", "p"), None);
    }

    #[test]
    fn what_is_no_answer() {
        for text in
            ["", "Digest", "Basic dTpw", "Digest username=\"u\"", &format!("Digest username=\"{}\"", "u".repeat(4000))]
        {
            assert_eq!(Answer::parse(text), None, "{text}");
        }
        let full = "Digest username=\"a\\\"b\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"AB\"";
        let answer = Answer::parse(full).unwrap();
        assert_eq!(
            (answer.username.as_str(), answer.response.as_str(), answer.algorithm),
            ("a\"b", "ab", Algorithm::Md5)
        );
        assert_eq!(Answer::parse(&format!("{full}, qop=auth-int, nc=1, cnonce=\"c\"")), None);
        assert_eq!(Answer::parse(&format!("{full}, algorithm=SHA-512-256")), None);
    }
}
