//! Who may ask: the key, what it may do, for whom, and how often.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};

use super::answer::{Code, Failure};
use crate::engine::config::{ApiKey, Limits};

pub(super) struct Gate {
    keys: Vec<(ApiKey, Mutex<Bucket>)>,
    per_s: f64,
    burst: f64,
}

/// Requests that may come now; it fills up with time.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// A request whose key is known.
pub(super) struct Key<'a>(&'a ApiKey);

impl Gate {
    pub(super) fn new(keys: Vec<ApiKey>, limits: &Limits) -> Self {
        let burst = f64::from(limits.request_burst);
        let bucket = |key| (key, Mutex::new(Bucket { tokens: burst, filled: Instant::now() }));
        Self { keys: keys.into_iter().map(bucket).collect(), per_s: f64::from(limits.requests_per_s), burst }
    }

    /// Looks at the headers alone. All keys are compared, each in constant time.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Key<'_>, Failure> {
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| Failure::new(Code::Unauthorized, "no API key: send it as `Authorization: Bearer <key>`"))?;
        let text = header.to_str().ok().and_then(bearer).unwrap_or_default();
        let found = self.keys.iter().fold(None, |found, key| if key.0.is(text) { Some(key) } else { found });
        let (key, bucket) = found.ok_or_else(|| {
            Failure::new(Code::Unauthorized, "the API key is not known here: check CLUTCHCALL_API_KEY")
        })?;
        if !self.take(bucket, Instant::now()) {
            let message = format!("more than {} requests per second with this key: slow down", self.per_s);
            return Err(Failure::new(Code::TooManyRequests, message));
        }
        Ok(Key(key))
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

/// RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

impl<'a> Key<'a> {
    /// `voice.calls.get` needs `voice:calls.get`, or a wider scope such as `voice:*`.
    pub(super) fn check_scope(&self, procedure: &str) -> Result<(), Failure> {
        let scope = procedure.replacen('.', ":", 1);
        if self.0.allows(&scope) {
            return Ok(());
        }
        Err(Failure::new(
            Code::Forbidden,
            format!("the API key lacks the scope {scope}: use one that has it, or voice:*"),
        ))
    }

    /// The organisation of the request: the key's, also when none is named.
    pub(super) fn check_org(&self, named: Option<&str>) -> Result<&'a str, Failure> {
        match named {
            Some(org) if org != self.0.org => {
                Err(Failure::new(Code::Forbidden, format!("orgId {org:?} is not the API key's organisation")))
            }
            _ => Ok(&self.0.org),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::config::mint;

    #[test]
    fn requests_per_second_come_back_with_time() {
        let (key, _) = mint("org_a", &["voice:*"]);
        let limits = Limits { requests_per_s: 2, request_burst: 3, ..Limits::default() };
        let gate = Gate::new(vec![key], &limits);
        let (bucket, now) = (&gate.keys[0].1, Instant::now() + Duration::from_secs(1));
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
}
