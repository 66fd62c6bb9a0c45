//! Requests outside of any call, such as OPTIONS.

use std::net::SocketAddr;
use std::sync::Arc;

use rsipstack::dialog::authenticate::{AuthRetry, handle_client_authenticate};
use rsipstack::sip::headers::make_header;
use rsipstack::sip::{HeadersExt as _, Method, Request, SipMessage, StatusCodeKind, Uri, typed};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::make_tag;
use rsipstack::transaction::transaction::Transaction;

use super::proofs::Challenges;
use super::route::Unreached;
use super::{Failure, Reply, Stack, mend, reply, uac};
use crate::engine::config::{Credentials, Host};
use crate::engine::sip::names::Draw;

/// What is asked, in texts.
pub(in crate::engine::sip) struct Ask {
    pub(in crate::engine::sip) method: &'static str,
    pub(in crate::engine::sip) uri: String,
    pub(in crate::engine::sip) from: String,
    pub(in crate::engine::sip) to: String,
    /// The same for every question of one kind.
    pub(in crate::engine::sip) call_id: String,
    /// Of the next question; a challenge costs one too.
    pub(in crate::engine::sip) number: u32,
    /// Who was asked last; `None`: nobody, or the host leads nowhere.
    pub(in crate::engine::sip) place: Option<SocketAddr>,
    pub(in crate::engine::sip) headers: Vec<(String, String)>,
    pub(in crate::engine::sip) credentials: Option<Credentials>,
    /// Who asked for them in the questions before.
    pub(in crate::engine::sip) challenges: Arc<Challenges>,
}

impl Stack {
    /// Asks one place of this host, and waits for the final answer, 64·T1 at most. A place that does not answer is passed over: the next
    /// question goes to another one, and so do calls.
    pub(in crate::engine::sip) async fn ask(&self, host: &Host, draw: Draw, ask: &mut Ask) -> Result<Reply, Failure> {
        ask.place = None;
        let reached = self.reach(host, draw).await;
        let place = match reached {
            Ok(place) => place,
            // A connection that can't be made is silence at once.
            Err(Unreached { place, error }) => {
                ask.place = place;
                return Err(Failure::Network(error));
            }
        };
        ask.place = Some(place);
        let expected = self.calls.expect(&ask.call_id, &ask.challenges);
        let answered = match self.request(ask) {
            Ok(request) => self.exchange(request, place, ask.credentials.clone(), &mut ask.number).await,
            Err(error) => Err(Failure::Network(error)),
        };
        drop(expected);
        ask.number = ask.number.wrapping_add(1);
        if answered.is_err() {
            self.pass_over(&host.name, place);
        }
        answered
    }

    fn request(&self, ask: &Ask) -> Result<Request, String> {
        let uri = |text: &str| Uri::try_from(text).map_err(|error| format!("{text:?} is no SIP URI: {error}"));
        let via = self.endpoint.get_via(None, None).map_err(|error| error.to_string())?;
        let from = typed::From { display_name: None, uri: uri(&ask.from)?, params: Vec::new() };
        let to = typed::To { display_name: None, uri: uri(&ask.to)?, params: Vec::new() };
        let method = ask.method.parse::<Method>().map_err(|error| error.to_string())?;
        let (from, call_id) = (from.with_tag(make_tag()), Some(ask.call_id.clone().into()));
        let mut request = self.endpoint.make_request(method, uri(&ask.uri)?, via, from, to, ask.number, call_id);
        request.headers.extend(ask.headers.iter().map(|(name, value)| make_header(name, value.clone())).collect());
        Ok(request)
    }

    async fn exchange(
        &self,
        request: Request,
        place: SocketAddr,
        credentials: Option<Credentials>,
        number: &mut u32,
    ) -> Result<Reply, Failure> {
        let broken = |error: rsipstack::Error| Failure::Network(error.to_string());
        let credential = credentials.map(uac::credential);
        let key = TransactionKey::from_request(&request, TransactionRole::Client).map_err(broken)?;
        let mut transaction = Transaction::new_client(key, request, Arc::clone(&self.endpoint), None);
        transaction.destination = Some(self.at(place));
        let mut retry = AuthRetry::new();
        transaction.send().await.map_err(broken)?;
        while let Some(message) = transaction.receive().await {
            let SipMessage::Response(response) = message else { continue };
            if response.status_code.kind() == StatusCodeKind::Provisional {
                continue;
            }
            match &credential {
                // Without a challenge in it, nobody can answer it (`mend`).
                Some(credential)
                    if matches!(response.status_code.code(), 401 | 407)
                        && (response.header_value("WWW-Authenticate").is_some()
                            || response.header_value("Proxy-Authenticate").is_some())
                        && retry.should_answer(&response) =>
                {
                    *number += 1;
                    let again = handle_client_authenticate(*number, &transaction, response, credential).await;
                    transaction = again.map_err(broken)?;
                    // Who asks may have closed the connection behind that.
                    self.connect(&place.ip().to_string(), place).await.map_err(Failure::Network)?;
                    transaction.send().await.map_err(broken)?;
                }
                _ if mend::is_made_up(&response) => return Err(Failure::Timeout),
                _ => return Ok(reply(&response)),
            }
        }
        Err(Failure::Timeout)
    }
}
