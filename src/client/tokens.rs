//! Tokens ahead of their end: when a holder is to have the next one, and where that of a [`MoqtClient`](super::moqt) comes from.
//!
//! A client's token is a text, which nobody can renew, or somebody is asked for one: before each dial, ahead of the end that the
//! last one names, and when the relay refuses it. He is asked through a ring, like any callback, and the worker waits for nobody.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::http::random_id;
use super::media::{Boxed, Delivered, Dialer, Prepared, Refused, Verdict};
use super::relay::{Relay, token};
use crate::ring::RingSender;
use crate::token::peek;

/// This long before its end a token is renewed for the requests of a link that stays up, or at half its life if that is later; and
/// each holder up to so great a part of the token's life earlier, so that those of one moment don't renew in one moment.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
const RENEW_SPREAD: u32 = 10;
/// A token that is over as soon as it is given is no reason to ask without a pause.
const RENEW_LEAST: Duration = Duration::from_millis(500);
/// A token that says it counts for longer is renewed as if it counted for a day.
const LONGEST_LIFE_S: u64 = 86_400;
/// Whoever is asked for a token has this long.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a token of this holder serves before it is renewed.
pub(super) fn renew_after(expires_in_s: u64, holder: &str) -> Duration {
    let left = Duration::from_secs(expires_in_s.min(LONGEST_LIFE_S));
    let latest = left.saturating_sub(RENEW_BEFORE).max(left / 2);
    let earlier = (left / RENEW_SPREAD).mul_f64(f64::from(part_of(holder)) / f64::from(u32::MAX));
    latest.saturating_sub(earlier).max(RENEW_LEAST)
}

/// A number that is the holder's own, spread evenly (FNV-1a, its halves folded).
fn part_of(holder: &str) -> u32 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = holder.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash ^ (hash >> 32)) as u32
}

/// One question for a token, to be answered on whatever thread takes it out of its ring.
#[derive(Debug)]
pub struct Asked(oneshot::Sender<Result<String, String>>);

impl Asked {
    /// The token's text, or why there is none.
    pub fn answer(self, token: Result<String, String>) {
        // Who asked may have gone.
        let _ = self.0.send(token);
    }
}

/// Where a client's token comes from.
pub(super) enum TokenSource {
    None,
    Text(String),
    /// Questions go here.
    Asks(RingSender<Delivered>),
}

/// The same relay for ever, with a token of now.
pub(super) struct ClientDialer {
    relay: Relay,
    source: TokenSource,
    attempt: Arc<AtomicUsize>,
    /// Tells this client's renewals from others'.
    holder: String,
}

impl ClientDialer {
    pub(super) fn new(relay: Relay, source: TokenSource) -> Self {
        Self { relay, source, attempt: Arc::default(), holder: random_id() }
    }

    fn token(&self) -> Boxed<Result<Option<String>, String>> {
        match &self.source {
            TokenSource::None => Box::pin(std::future::ready(Ok(None))),
            TokenSource::Text(text) => Box::pin(std::future::ready(Ok(Some(text.clone())))),
            TokenSource::Asks(ring) => {
                let (answer, told) = oneshot::channel();
                ring.push(Delivered::Token(Asked(answer)));
                Box::pin(async move {
                    match tokio::time::timeout(ANSWER_LIMIT, told).await {
                        Ok(Ok(token)) => token.map(Some),
                        Ok(Err(_)) => Err("nobody answers for a token any more".to_owned()),
                        Err(_) => Err(format!("the callable for a token did not return within {ANSWER_LIMIT:?}")),
                    }
                })
            }
        }
    }
}

impl Dialer for ClientDialer {
    fn prepare(&self, uri: Option<String>) -> Boxed<Result<Prepared, Refused>> {
        let (relay, attempt) = (self.relay.clone().follow(uri.as_deref()), self.attempt.clone());
        let (wanted, holder) = (self.token(), self.holder.clone());
        let renews = matches!(self.source, TokenSource::Asks(_));
        Box::pin(async move {
            let no = |reason| Refused { reason, ask: false };
            let text = wanted.await.map_err(no)?;
            let left = text.as_deref().filter(|_| renews).and_then(expires_in_s);
            let tokens: Vec<_> = text.iter().map(|text| token(text)).collect();
            let dial = relay.dial(tokens.clone(), &attempt).await.map_err(no)?;
            let renew_at = left.map(|left_s| Instant::now() + renew_after(left_s, &holder));
            Ok(Prepared { dial, tokens, renew_at })
        })
    }

    fn verdict(&self) -> Boxed<Verdict> {
        Box::pin(std::future::ready(Verdict::Lives))
    }
}

/// As far as the token can be read and names its end (RFC 7519 §4.1.4).
fn expires_in_s(text: &str) -> Option<u64> {
    let (_, claims) = peek(text).ok()?;
    let exp = claims.get("exp")?.as_f64().filter(|exp| exp.is_finite())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some((exp as u64).saturating_sub(now.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand bridges that came at once renew over a tenth of the token's life, each at a time that is its own.
    #[test]
    fn holders_of_one_moment_renew_one_after_the_other() {
        for (life_s, latest_s) in [(3600, 3540.0), (86_400, 86_340.0), (90, 45.0), (4, 2.0)] {
            let renewals = (0..1000).map(|_| renew_after(life_s, &random_id()).as_secs_f64());
            let (spread_s, mut tenths) = (life_s as f64 / 10.0, [0; 10]);
            for renewal_s in renewals {
                assert!((latest_s - spread_s..=latest_s).contains(&renewal_s), "{renewal_s} of {life_s}");
                tenths[((latest_s - renewal_s) / spread_s * 10.0).min(9.0) as usize] += 1;
            }
            assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
        }
        assert_eq!(renew_after(3600, "a"), renew_after(3600, "a"));
        assert_ne!(renew_after(3600, "a"), renew_after(3600, "b"));
        assert_eq!(renew_after(0, "a"), RENEW_LEAST);
        assert!(renew_after(u64::MAX, "a") <= Duration::from_secs(LONGEST_LIFE_S));
    }

    #[test]
    fn a_token_tells_its_end_where_it_can_be_read() {
        let jwt = |claims: &str| {
            use base64::Engine as _;
            let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
            format!("{}.{}.x", part("{}"), part(claims))
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let left = expires_in_s(&jwt(&format!("{{\"exp\":{}}}", now + 100))).unwrap();
        assert!((98..=100).contains(&left));
        assert_eq!(expires_in_s(&jwt("{\"exp\":1}")), Some(0));
        for none in [jwt("{}"), jwt("{\"exp\":\"soon\"}"), "secret".to_owned(), String::new()] {
            assert_eq!(expires_in_s(&none), None, "{none}");
        }
    }
}
