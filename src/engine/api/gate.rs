//! Who may ask: the key, what it may do, for whom, and how often.
//!
//! Keys of the engine's own file stay as they are; those of the key file are replaced as a whole ([`Gate::replace`]). A key that is
//! there before and after keeps its rate; one that has gone is refused from the next request on, and what it holds open ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
use tokio::sync::watch;

use super::answer::{Code, Failure};
use crate::engine::config::{ApiKey, Limits, MOST_KEY_BYTES};

pub(super) struct Gate {
    fixed: Vec<Arc<Holder>>,
    /// Those of the key file behind the fixed ones.
    keys: ArcSwap<Vec<Arc<Holder>>>,
    per_s: f64,
    burst: f64,
}

/// Somebody with a key.
struct Holder {
    key: ApiKey,
    bucket: Mutex<Bucket>,
    /// Falls with the holder: who looks at it sees that the key has gone.
    here: watch::Sender<()>,
}

/// Requests that may come now; it fills up with time.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// A request whose key is known.
pub(super) struct Key(Arc<Holder>);

/// Ends when a key has gone.
#[derive(Clone)]
pub(super) struct Gone(watch::Receiver<()>);

impl Gate {
    pub(super) fn new(fixed: &[ApiKey], limits: &Limits) -> Self {
        let (per_s, burst) = (f64::from(limits.requests_per_s), f64::from(limits.request_burst));
        let fixed: Vec<_> = fixed.iter().map(|key| Holder::new(key.clone(), burst)).collect();
        Self { keys: ArcSwap::from_pointee(fixed.clone()), fixed, per_s, burst }
    }

    /// The keys of the file, all of them.
    pub(super) fn replace(&self, of_file: Vec<ApiKey>) {
        let before = self.keys.load();
        let kept = |key: &ApiKey| before.iter().skip(self.fixed.len()).find(|holder| holder.key == *key).cloned();
        let of_file = of_file.into_iter().map(|key| kept(&key).unwrap_or_else(|| Holder::new(key, self.burst)));
        self.keys.store(Arc::new(self.fixed.iter().cloned().chain(of_file).collect()));
    }

    /// How many of them count until the engine ends.
    pub(super) fn fixed(&self) -> usize {
        self.fixed.len()
    }

    /// How many keys count.
    pub(super) fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// Looks at the headers alone. All keys are compared, each in constant time; what is longer than any key is none, at the price of none.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Key, Failure> {
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| Failure::new(Code::Unauthorized, "no API key: send it as `Authorization: Bearer <key>`"))?;
        let text =
            header.to_str().ok().and_then(bearer).filter(|text| text.len() <= MOST_KEY_BYTES).unwrap_or_default();
        let keys = self.keys.load();
        let found = keys.iter().fold(None, |found, holder| if holder.key.is(text) { Some(holder) } else { found });
        let holder = found.ok_or_else(|| {
            Failure::new(Code::Unauthorized, "the API key is not known here: check CLUTCHCALL_API_KEY")
        })?;
        if !self.take(&holder.bucket, Instant::now()) {
            let message = format!("more than {} requests per second with this key: slow down", self.per_s);
            return Err(Failure::new(Code::TooManyRequests, message));
        }
        Ok(Key(Arc::clone(holder)))
    }

    fn take(&self, bucket: &Mutex<Bucket>, now: Instant) -> bool {
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_s).min(self.burst);
        bucket.filled = now;
        let has_one = bucket.tokens >= 1.0;
        if has_one {
            bucket.tokens -= 1.0;
        }
        has_one
    }
}

impl Holder {
    fn new(key: ApiKey, burst: f64) -> Arc<Self> {
        let bucket = Mutex::new(Bucket { tokens: burst, filled: Instant::now() });
        Arc::new(Self { key, bucket, here: watch::Sender::default() })
    }
}

/// RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

impl Key {
    /// Its name in a log.
    pub(super) fn id(&self) -> String {
        self.0.key.id()
    }

    /// `voice.calls.get` needs `voice:calls.get`, or a wider scope such as `voice:*`.
    pub(super) fn check_scope(&self, procedure: &str) -> Result<(), Failure> {
        let scope = procedure.replacen('.', ":", 1);
        if self.0.key.allows(&scope) {
            return Ok(());
        }
        Err(Failure::new(
            Code::Forbidden,
            format!("the API key lacks the scope {scope}: use one that has it, or voice:*"),
        ))
    }

    /// The organisation of the request: the key's, also when none is named.
    pub(super) fn check_org(&self, named: Option<&str>) -> Result<&str, Failure> {
        let own = self.0.key.org.as_str();
        match named {
            Some(org) if org != own => {
                Err(Failure::new(Code::Forbidden, format!("orgId {org:?} is not the API key's organisation")))
            }
            _ => Ok(own),
        }
    }

    pub(super) fn gone(&self) -> Gone {
        Gone(self.0.here.subscribe())
    }
}

impl Gone {
    /// Returns when the key counts no longer.
    pub(super) async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::config::{compared, mint};

    fn gate(keys: &[ApiKey]) -> Gate {
        Gate::new(keys, &Limits { requests_per_s: 2, request_burst: 3, ..Limits::default() })
    }

    fn headers(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap())])
    }

    #[test]
    fn requests_per_second_come_back_with_time() {
        let gate = gate(&[mint("org_a", &["voice:*"]).0]);
        let (bucket, now) = (&gate.fixed[0].bucket, Instant::now() + Duration::from_secs(1));
        assert_eq!([0; 4].map(|_| gate.take(bucket, now)), [true, true, true, false]);
        let later = now + Duration::from_secs(1);
        assert_eq!([0; 3].map(|_| gate.take(bucket, later)), [true, true, false]);
    }

    #[test]
    fn only_a_bearer_is_read() {
        assert_eq!(bearer("bearer  k "), Some("k"));
        assert_eq!(bearer("Basic k"), None);
        assert_eq!(bearer("k"), None);
    }

    /// The work for a right key, a nearly right one, a wrong one and none is the same, wherever the key stands.
    #[test]
    fn every_request_is_compared_with_every_key() {
        let (keys, texts): (Vec<_>, Vec<_>) = (0..5).map(|_| mint("org_a", &["voice:*"])).unzip();
        let gate = gate(&keys[..3]);
        gate.replace(keys[3..].to_vec());
        let nearly = format!("{}0", &texts[0][..texts[0].len() - 1]);
        let asked = texts.iter().map(String::as_str).chain([nearly.as_str(), "short", ""]);
        for text in asked {
            let before = compared();
            let admitted = gate.admit(&headers(text)).is_ok();
            assert_eq!(admitted, texts.iter().any(|known| known == text), "{text}");
            assert_eq!(compared() - before, 5, "{text}");
        }
    }

    /// Nobody without a key makes the engine hash a head's 128 KiB a thousand times.
    #[test]
    fn what_is_longer_than_any_key_is_unknown_and_never_hashed() {
        let key = |text: &str| ApiKey::from_text("org_a", vec!["voice:*".to_owned()], text);
        let [longest, longer] = [MOST_KEY_BYTES, MOST_KEY_BYTES + 1].map(|bytes| "k".repeat(bytes));
        // That one is known by its hash and refused all the same shows that its text did not reach the hash.
        let gate = gate(&[key(&longest), key(&longer)]);
        gate.admit(&headers(&longest)).unwrap();
        let before = compared();
        let refused = gate.admit(&headers(&longer)).map(drop).unwrap_err();
        assert_eq!((refused.code(), compared() - before), (Code::Unauthorized, 2), "as any other wrong key");
    }

    #[tokio::test]
    async fn a_key_that_is_replaced_is_refused_and_told_so() {
        let (fixed, _) = mint("org_a", &["voice:*"]);
        let ((first, old), (second, kept)) = (mint("org_a", &["voice:*"]), mint("org_b", &["voice:*"]));
        let gate = gate(&[fixed]);
        gate.replace(vec![first, second.clone()]);
        assert_eq!(gate.len(), 3);
        let mut gone = gate.admit(&headers(&old)).unwrap().gone();
        for _ in 0..3 {
            gate.admit(&headers(&kept)).unwrap();
        }
        gate.replace(vec![second]);
        gone.wait().await;
        assert_eq!(gate.admit(&headers(&old)).map(drop).unwrap_err().code(), Code::Unauthorized);
        let refused = gate.admit(&headers(&kept)).map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::TooManyRequests, "who stays keeps the rate");
    }
}
