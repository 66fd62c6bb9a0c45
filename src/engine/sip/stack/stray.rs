//! Answers to an INVITE of ours whose transaction is over: behind its own time (Timer B), behind a refusal, and from a branch of a fork.
//! A 2xx is acknowledged and hung up (RFC 3261 §13.2.2.4; a proxy sends each on, whatever it sent before, §16.7), and where nobody had
//! answered a phone that begins to ring is cancelled (§9.1). The crate would acknowledge such an answer, and leave it up.
//!
//! What is known of the INVITE is the ACK that the crate keeps of it for 64·T1. Each answer is looked at before the crate sees it. A 2xx is
//! taken once: then its ACK is kept instead. One CANCEL of an INVITE runs at a time. The requests are tasks that end when they are answered,
//! in 64·T1 at most.

use std::sync::{Arc, OnceLock, Weak};

use rsipstack::platform::CancellationToken;
use rsipstack::sip::headers::ToTypedHeader as _;
use rsipstack::sip::{Header, HeadersExt, Method, Request, Response, SipMessage, StatusCodeKind};
use rsipstack::transaction::endpoint::{EndpointInner, EndpointInnerRef};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipAddr;

#[derive(Clone, Default)]
pub(super) struct Strays(Arc<OnceLock<(Weak<EndpointInner>, CancellationToken)>>);

impl Strays {
    pub(super) fn watch(&self, endpoint: &EndpointInnerRef, ending: CancellationToken) {
        // The first one stays.
        let _ = self.0.set((Arc::downgrade(endpoint), ending));
    }

    /// Whether it is one, and is taken care of.
    pub(super) fn take(&self, response: &Response, from: &SipAddr) -> bool {
        let kind = response.status_code.kind();
        if !matches!(kind, StatusCodeKind::Provisional | StatusCodeKind::Successful) {
            return false;
        }
        let Some((endpoint, key, kept)) = self.kept(response) else { return false };
        let is_answered = kept.transaction_id().ok() != response.transaction_id().ok();
        if kind == StatusCodeKind::Provisional {
            let Some(cancel) = cancel(&kept).filter(|_| !is_answered) else { return false };
            // One CANCEL at a time, however often it rings.
            let cancels = TransactionKey::from_request(&cancel, TransactionRole::Client);
            if cancels.is_ok_and(|key| endpoint.transactions.get(&key).is_none()) {
                self.begin(ask(endpoint, cancel, Some(from.clone())));
            }
            return true;
        }
        if is_answered && tag(&kept) == tag(response) {
            return false;
        }
        let Some((ack, bye)) = hang_up(&endpoint, kept, response) else { return false };
        endpoint.finished_transactions.insert(key, Some(SipMessage::Request(ack.clone())));
        self.begin(async move {
            ask(Arc::clone(&endpoint), ack, None).await;
            ask(endpoint, bye, None).await;
        });
        true
    }

    /// It ends with the stack at the latest.
    fn begin(&self, asking: impl Future<Output = ()> + Send + 'static) {
        let Some((_, ending)) = self.0.get() else { return };
        tokio::spawn(ending.clone().run_until_cancelled_owned(asking));
    }

    /// The ACK of an INVITE that is over.
    fn kept(&self, response: &Response) -> Option<(EndpointInnerRef, TransactionKey, Request)> {
        let is_of_invite = response.cseq_header().ok()?.method().ok()? == Method::Invite;
        let endpoint = self.0.get().filter(|_| is_of_invite)?.0.upgrade()?;
        let key = TransactionKey::from_response(response, TransactionRole::Client).ok()?;
        if endpoint.transactions.get(&key).is_some() {
            return None;
        }
        match endpoint.finished_transactions.get(&key)?? {
            SipMessage::Request(kept) if kept.method == Method::Ack => Some((endpoint, key, kept)),
            _ => None,
        }
    }
}

fn tag(message: &impl HeadersExt) -> Option<String> {
    Some(message.to_header().ok()?.tag().ok()??.value().to_owned())
}

/// To, without the tag of anybody.
fn nobodys(kept: &Request) -> Option<Header> {
    Some(Header::To(format!("<{}>", kept.to_header().ok()?.typed().ok()?.uri).into()))
}

fn number(kept: &Request) -> Option<u32> {
    kept.cseq_header().ok()?.seq().ok()
}

fn hang_up(endpoint: &EndpointInnerRef, mut kept: Request, answer: &Response) -> Option<(Request, Request)> {
    // As of an INVITE that begins a dialog: the answer says by which way.
    kept.headers.unique_push(nobodys(&kept)?);
    let ack = endpoint.make_ack(&kept, answer).ok()?;
    let mut bye = Request { method: Method::Bye, ..ack.clone() };
    bye.headers.unique_push(Header::Via(endpoint.get_via(None, None).ok()?.into()));
    bye.headers.unique_push(Header::CSeq(format!("{} BYE", number(&kept)?.wrapping_add(1)).into()));
    Some((ack, bye))
}

/// The ACK of a refusal has the Via of its INVITE.
fn cancel(kept: &Request) -> Option<Request> {
    let mut cancel = Request { method: Method::Cancel, ..kept.clone() };
    cancel.headers.unique_push(nobodys(kept)?);
    cancel.headers.unique_push(Header::CSeq(format!("{} CANCEL", number(kept)?).into()));
    Some(cancel)
}

/// Until it is answered; an ACK is said and no more.
async fn ask(endpoint: EndpointInnerRef, request: Request, to: Option<SipAddr>) {
    let is_ack = request.method == Method::Ack;
    let Ok(key) = TransactionKey::from_request(&request, TransactionRole::Client) else { return };
    let mut transaction = Transaction::new_client(key, request, endpoint, None);
    transaction.destination = to;
    if transaction.send().await.is_err() || is_ack {
        return;
    }
    while let Some(SipMessage::Response(response)) = transaction.receive().await {
        if response.status_code.kind() != StatusCodeKind::Provisional {
            return;
        }
    }
}
