//! Requests of the far side. Those of a call's dialog go to the call or are answered here at once; the crate's own dialog is not
//! asked, since it drops what comes while it waits for something else. What belongs to no call is refused, and of a stranger dropped.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Header, HeadersExt, Method, SipMessage, StatusCode};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::{Semaphore, oneshot};

use super::super::{Gate, Timers, Transport};
use super::connections::Connections;
use super::{
    ALLOW, Agreed, Call, Calls, Heard, Offer, OfferRefused, Reception, Terms, came, demands, info, reasons, refresh,
};

/// Requests that are being answered. A re-INVITE is one until its ACK.
const MOST_AT_ONCE: usize = 4096;

/// A BYE may overtake the 200 that it ends; the far side repeats it if it was early by more than this.
const OVERTAKEN: Duration = Duration::from_millis(500);
/// When an UPDATE before the answer may be tried again (RFC 3311 §5.2), in seconds.
const UPDATE_LATER: &str = "3";
const TOO_EARLY: u16 = 500;

pub(super) struct Taker {
    pub(super) calls: Arc<Calls>,
    pub(super) gate: Arc<Gate>,
    pub(super) dialogs: Arc<DialogLayer>,
    pub(super) reception: Arc<OnceLock<Arc<dyn Reception>>>,
    pub(super) connections: Arc<Connections>,
    pub(super) transport: Transport,
    /// As the far side is told.
    pub(super) address: SocketAddr,
    pub(super) timers: Timers,
}

impl Taker {
    pub(super) async fn run(self, mut incoming: TransactionReceiver, ending: CancellationToken) {
        let (taker, places) = (Arc::new(self), Arc::new(Semaphore::new(MOST_AT_ONCE)));
        loop {
            let transaction = tokio::select! {
                () = ending.cancelled() => return,
                transaction = incoming.recv() => transaction,
            };
            let Some(mut transaction) = transaction else { return };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                // Who means it asks again.
                taker.gate.counts.busy.fetch_add(1, Relaxed);
                continue;
            };
            let taker = Arc::clone(&taker);
            // Apart, because a transaction has to be driven to its end by one owner.
            tokio::spawn(async move {
                let method = transaction.original.method;
                // It ends with the stack: a call that rings has no other end of its own.
                let taken = taker.connections.ending.run_until_cancelled(taker.take(&mut transaction)).await;
                if let Some(Err(error)) = taken {
                    tracing::debug!(%method, %error, "a request was not answered");
                }
                came::forget_refusal(&transaction);
                drop(place);
            });
        }
    }

    async fn take(&self, request: &mut Transaction) -> rsipstack::Result<()> {
        let call_id = request.original.call_id_header()?.value().to_owned();
        let from = request.original.from_header()?.tag()?.map(|tag| tag.value().to_owned());
        let Some(to) = request.original.to_header()?.tag()?.map(|tag| tag.value().to_owned()) else {
            return self.out_of_dialog(request, &call_id, from).await;
        };
        let Some(call) = self.calls.find(&call_id, &to) else {
            if !self.calls.has(&call_id) && self.is_strangers(request) {
                self.drop_silently();
                return Ok(());
            }
            return stray(request, true).await;
        };
        match self.tag_of(&call, request.original.method).await {
            // The branch of a fork that lost, or somebody who knows no more than a Call-ID.
            Some(tag) if Some(&tag) != from.as_ref() => request.reply(StatusCode::CallTransactionDoesNotExist).await,
            Some(_) => self.in_dialog(&call, request).await,
            None if request.original.method == Method::Bye => {
                request.reply(StatusCode::CallTransactionDoesNotExist).await
            }
            None => {
                let later = vec![Header::RetryAfter(UPDATE_LATER.into())];
                request.reply_with(StatusCode::ServerInternalError, later, None).await
            }
        }
    }

    async fn out_of_dialog(
        &self,
        request: &mut Transaction,
        call_id: &str,
        from: Option<String>,
    ) -> rsipstack::Result<()> {
        if request.original.method != Method::Invite {
            if self.is_strangers(request) {
                self.drop_silently();
                return Ok(());
            }
            return stray(request, false).await;
        }
        let known = from.and_then(|from| self.calls.came_from(call_id, &from));
        if known.is_some_and(|call| !call.dialog.state().is_terminated()) {
            // The same call by another way (RFC 3261 §8.2.2.2). One of ours that comes back is another call.
            return request.reply(StatusCode::LoopDetected).await;
        }
        self.invited(request).await
    }

    /// Strangers are heard where they may call, and only with calls.
    fn is_strangers(&self, request: &Transaction) -> bool {
        came::source(request).is_none_or(|source| !self.gate.knows(source.ip()))
    }

    pub(super) fn drop_silently(&self) {
        self.gate.counts.strangers.fetch_add(1, Relaxed);
    }

    async fn tag_of(&self, call: &Call, method: Method) -> Option<String> {
        let mut confirmed = call.confirmed.clone();
        let now = confirmed.borrow_and_update().clone();
        if now.is_some() || method != Method::Bye {
            return now;
        }
        let soon = tokio::time::timeout(OVERTAKEN, confirmed.wait_for(Option::is_some)).await;
        soon.ok()?.ok()?.clone()
    }

    async fn in_dialog(&self, call: &Call, request: &mut Transaction) -> rsipstack::Result<()> {
        match request.original.method {
            Method::Bye => {
                let reason = reasons(&request.original);
                tell(call, Heard::Bye { reason });
                request.reply(StatusCode::OK).await
            }
            Method::Invite | Method::Update => self.offered(call, request).await,
            Method::Info => info::answer(call, request).await,
            Method::Notify if is_of_refer(request) => {
                let state = request.original.header_value("Subscription-State");
                tell(call, Heard::Notified { body: request.original.body.clone(), state });
                request.reply(StatusCode::OK).await
            }
            // RFC 6665 §4.1.3.
            Method::Notify => request.reply(StatusCode::BadEvent).await,
            Method::Refer if self.reception.get().is_some_and(|reception| reception.takes_transfers()) => {
                let (answer, answered) = oneshot::channel();
                tell(call, Heard::TransferAsked { answer });
                match answered.await {
                    Ok(code) => request.reply_with(StatusCode::from(code), vec![self.contact()], None).await,
                    // Nobody says anything, or the call ended meanwhile.
                    Err(_) => Ok(()),
                }
            }
            Method::PRack => {
                let rack = request.original.header_value("RAck").unwrap_or_default();
                let then = call.insistence.as_ref().and_then(|insistence| insistence.handle_prack(&rack));
                // RFC 3262 §3.
                let code = if then.is_some() { StatusCode::OK } else { StatusCode::CallTransactionDoesNotExist };
                let replied = request.reply(code).await;
                then.into_iter().for_each(|then| then());
                replied
            }
            Method::Options => request.reply_with(StatusCode::OK, vec![allow()], None).await,
            _ => request.reply_with(StatusCode::MethodNotAllowed, vec![allow()], None).await,
        }
    }

    /// Asks the call, answers, and waits for the ACK that a re-INVITE has.
    async fn offered(&self, call: &Call, request: &mut Transaction) -> rsipstack::Result<()> {
        if let Some(refusal) = demands::demanded(&request.original) {
            return came::refuse(request, refusal).await;
        }
        let is_update = request.original.method == Method::Update;
        // What waits for its ACK is kept for as long as 64·T1: one of each call.
        let Ok(_change) = call.change.try_acquire_many(u32::from(!is_update)) else {
            return request.reply(StatusCode::RequestPending).await;
        };
        let (answer, answered) = oneshot::channel();
        let body = request.original.body.clone();
        tell(call, Heard::Offer(Offer { is_update, body, terms: Terms::of(&request.original), answer }));
        let agreed = match answered.await {
            Ok(Ok(agreed)) => agreed,
            Ok(Err(OfferRefused { code, min_se_s })) => {
                let least = min_se_s.map(|least| make_header("Min-SE", least.to_string()));
                // Before our answer (RFC 3311 §5.2).
                let later = (code == TOO_EARLY).then(|| Header::RetryAfter(UPDATE_LATER.into()));
                let headers = least.into_iter().chain(later).collect();
                return request.reply_with(StatusCode::from(code), headers, None).await;
            }
            // The call ended meanwhile.
            Err(_) => return request.reply(StatusCode::CallTransactionDoesNotExist).await,
        };
        retarget(&call.dialog, &request.original);
        let Agreed { body, session_expires } = agreed;
        let mut headers = vec![self.contact(), allow()];
        headers.extend(body.as_ref().map(|_| Header::ContentType("application/sdp".into())));
        headers.extend(refresh::agreed(session_expires));
        request.reply_with(StatusCode::OK, headers, body.map(String::into_bytes)).await?;
        if is_update {
            return Ok(());
        }
        while let Some(message) = request.receive().await {
            if let SipMessage::Request(ack) = message
                && ack.method == Method::Ack
            {
                tell(call, Heard::Acked { body: ack.body });
                return Ok(());
            }
        }
        tell(call, Heard::Unacked);
        Ok(())
    }

    fn contact(&self) -> Header {
        Header::Contact(format!("<{}>", self.uri()).into())
    }

    /// Where we are reached.
    pub(super) fn uri(&self) -> String {
        format!("sip:{}{}", self.address, self.transport.parameter())
    }
}

pub(super) fn tell(call: &Call, heard: Heard) {
    // A call that nobody follows any more is over.
    let _ = call.heard.send(heard);
}

/// What is said to the far end from now on goes to its newest Contact: of a request of its own, or of its 2xx to one of ours (RFC 3261
/// §12.2.2, §12.2.1.2).
pub(super) fn retarget(dialog: &InviteDialog, message: &impl HeadersExt) {
    let contacts = message.typed_contact_headers().unwrap_or_default();
    if let Some(contact) = contacts.into_iter().next() {
        let header = message.contact_header().ok().cloned();
        Dialog::Invite(dialog.clone()).set_remote_target(contact.uri, header);
    }
}

/// The only events that we ever asked for.
fn is_of_refer(request: &Transaction) -> bool {
    let event = request.original.header_value("Event").unwrap_or_default();
    event.split(';').next().is_some_and(|event| event.trim().eq_ignore_ascii_case("refer"))
}

pub(super) fn allow() -> Header {
    Header::Allow(ALLOW.map(|method| method.to_string()).join(", ").into())
}

/// Of no call that is known here.
async fn stray(request: &mut Transaction, is_in_dialog: bool) -> rsipstack::Result<()> {
    match request.original.method {
        _ if is_in_dialog => request.reply(StatusCode::CallTransactionDoesNotExist).await,
        Method::Options => request.reply_with(StatusCode::OK, vec![allow()], None).await,
        _ => request.reply_with(StatusCode::MethodNotAllowed, vec![allow()], None).await,
    }
}
