//! What the control plane granted a bridge: the call's tracks, the relay they are on, and tokens for it, again and again.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::calls::{self, Client, TERMINAL};
use super::media::{Boxed, Dialer, Prepared, Refused, RouteKey, Seat, Standing, Verdict};
use super::options::Options;
use super::relay::{Relay, token};
use super::tokens::renew_after;
use crate::call::wire::{TokenAnswer, TokenRequest, TrackRef};
use crate::error::{Error, Kind, Result};
use crate::moqt::message::Token;
use crate::moqt::{FullTrackName, TrackNamespace};

/// Where audio is when neither the control plane nor the user says so.
const DEFAULT_RELAY: &str = "moqt://relay.clutchcall.dev";
/// A token this young, and younger than half its life, serves the next dial; an older one is fetched afresh.
const FRESH: Duration = Duration::from_secs(5);

/// A token answer, read.
pub(super) struct Granted {
    relay: Relay,
    route: RouteKey,
    token: String,
    renew_at: Option<Instant>,
    pub(super) publish: FullTrackName,
    pub(super) subscribe: FullTrackName,
    /// `None`: this engine tells nothing beside audio.
    pub(super) control: Option<FullTrackName>,
}

impl Granted {
    pub(super) fn read(answer: &TokenAnswer, holder: &str, options: &Options) -> Result<Self> {
        let foreign = |why: String| Error::new(Kind::ApiStatus, format!("the token answer can't be used: {why}"));
        let url = Some(answer.relay.url.as_str()).filter(|url| !url.is_empty()).unwrap_or(DEFAULT_RELAY);
        let relay = Relay::new(url, &answer.relay.certificate_hashes, false).map_err(foreign)?;
        let relay = match &options.relay_host {
            Some(host) => relay.at_host(host),
            None => relay,
        };
        let relay = relay.with_drafts(options.drafts.clone());
        let route = RouteKey {
            url: relay.url.to_string(),
            trust: relay.hashes.clone(),
            anything: false,
            drafts: options.drafts.clone(),
            cap: answer.relay.pool.clamp(1, options.pool),
        };
        Ok(Self {
            relay,
            route,
            token: answer.token.clone(),
            renew_at: Some(Instant::now() + renew_after(answer.expires_in_s, holder)),
            publish: track(&answer.publish).map_err(foreign)?,
            subscribe: track(&answer.subscribe).map_err(foreign)?,
            control: answer.control.as_ref().map(track).transpose().map_err(foreign)?,
        })
    }

    /// A link that bridges share belongs to none of them: each request shows its own bridge's token, and no right of one is
    /// another's (decision 0045).
    fn setup_tokens(&self) -> Vec<Token> {
        if self.route.cap > 1 { Vec::new() } else { vec![token(&self.token)] }
    }

    pub(super) fn seat(&self, dialer: BridgeDialer, standing: Arc<Standing>) -> Seat {
        Seat {
            route: self.route.clone(),
            tokens: vec![token(&self.token)],
            dialer: Arc::new(dialer),
            standing,
            states: None,
            ends_with_track: true,
            renew_at: self.renew_at,
        }
    }
}

fn track(name: &TrackRef) -> std::result::Result<FullTrackName, String> {
    let fields = name.namespace.iter().map(|field| Bytes::copy_from_slice(field.as_bytes()));
    let namespace = TrackNamespace::new(fields).map_err(|error| error.to_string())?;
    FullTrackName::new(namespace, name.name.clone().into_bytes()).map_err(|error| error.to_string())
}

/// Fetches tokens for one bridge and learns whether its call still lives.
pub(super) struct BridgeDialer {
    inner: Arc<calls::Inner>,
    request: TokenRequest,
    /// The answer to `attach`, until it is used or old.
    first: Mutex<Option<(TokenAnswer, Instant)>>,
    attempt: Arc<AtomicUsize>,
}

impl BridgeDialer {
    pub(super) fn new(client: &Client, request: TokenRequest, answer: TokenAnswer) -> Self {
        let first = Mutex::new(Some((answer, Instant::now())));
        Self { inner: client.inner().clone(), request, first, attempt: Arc::default() }
    }
}

impl Dialer for BridgeDialer {
    fn prepare(&self, uri: Option<String>) -> Boxed<std::result::Result<Prepared, Refused>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fresh = |answer: &TokenAnswer| FRESH.min(Duration::from_secs(answer.expires_in_s) / 2);
        let first = first.filter(|(answer, at)| at.elapsed() < fresh(answer)).map(|(answer, _)| answer);
        let (inner, request, attempt) = (self.inner.clone(), self.request.clone(), self.attempt.clone());
        Box::pin(async move {
            let answer = match first {
                Some(answer) => answer,
                None => inner.token(&request).await.map_err(refused)?,
            };
            let no = |reason| Refused { reason, ask: false };
            // A restarted engine may name another port or certificate than before.
            let granted = Granted::read(&answer, &request.holder, &inner.options).map_err(refused)?;
            let tokens = vec![token(&answer.token)];
            let relay = granted.relay.clone().follow(uri.as_deref());
            let dial = relay.dial(granted.setup_tokens(), &attempt).await.map_err(no)?;
            Ok(Prepared { dial, tokens, renew_at: granted.renew_at })
        })
    }

    fn verdict(&self) -> Boxed<Verdict> {
        let (inner, sid) = (self.inner.clone(), self.request.sid.clone());
        Box::pin(async move {
            match inner.call(&sid).await {
                Ok(row) if TERMINAL.contains(&row.status) => {
                    let reason = row.end_reason.map_or_else(String::new, |reason| format!(": {reason}"));
                    Verdict::Over(format!("the call ended{reason}"))
                }
                Ok(_) => Verdict::Lives,
                Err(error) if error.kind() == Kind::NotFound => Verdict::Over("the engine knows no such call".into()),
                Err(_) => Verdict::Unknown,
            }
        })
    }
}

/// A refusal by name may mean that the call is over; silence means nothing.
fn refused(error: Error) -> Refused {
    let ask = matches!(error.kind(), Kind::NotFound | Kind::Conflict | Kind::BadRequest);
    Refused { reason: format!("no token for the relay: {error}"), ask }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::options::{Arguments, Surroundings};

    fn granted(relay: serde_json::Value, relay_host: Option<&str>) -> String {
        let text = |text: &str| Some(text.to_owned());
        let (base_url, api_key, org_id) = (text("http://h"), text("k"), text("o"));
        let relay_host = relay_host.map(str::to_owned);
        let arguments = Arguments { base_url, api_key, org_id, relay_host, ..Arguments::default() };
        let options = Options::resolve(arguments, &Surroundings { variable: &|_| None, dev_state: None }).unwrap();
        let track = json!({"namespace": ["voice", "CA1", "uplink"], "name": "audio"});
        let mut answer = json!({"token": "t", "expiresInS": 60, "publish": track, "subscribe": track});
        if !relay.is_null() {
            answer["relay"] = relay;
        }
        let answer: TokenAnswer = serde_json::from_value(answer).unwrap();
        Granted::read(&answer, "holder", &options).unwrap().route.url
    }

    #[test]
    fn the_answers_relay_then_the_users_then_the_documented_one() {
        let named = json!({"url": "moqt://relay.example:4443"});
        assert_eq!(granted(named.clone(), None), "moqt://relay.example:4443");
        assert_eq!(granted(named, Some("mine.example")), "moqt://mine.example:4443");
        for absent in [json!(null), json!({}), json!({"url": ""})] {
            assert_eq!(granted(absent.clone(), None), "moqt://relay.clutchcall.dev");
            assert_eq!(granted(absent, Some("mine.example:7")), "moqt://mine.example:7");
        }
    }
}
