//! The SIP stack, and the only room that names the crate behind it (`rsipstack`, decision 0160): transport, transactions and
//! dialogs of one local address. Everybody else sees texts, numbers and the types of this file.
//!
//! | File | Holds |
//! |---|---|
//! | `calls` | whose queue hears what is said under a Call-ID |
//! | `came` | a call that comes in: who decides about it, and what is said to its caller |
//! | `demands` | what a request demands, and what of that is not here |
//! | `uac` | a call that we place: its INVITE followed to the end, and what is asked of its dialog |
//! | `refresh` | the refresh of a session, and what messages say of session timers |
//! | `request` | requests outside of any call |
//! | `users` | users of Contacts and Record-Routes, which the crate reads otherwise than the RFC |
//! | `uas` | requests of the far side, given to their calls or refused |
//! | `door` | the socket, and who is let in |
//! | `connections` | TCP and TLS: those that we open and those that are opened to us |
//! | `carry` | one of them, and what its far side has not taken yet |
//! | `owed` | requests that went over one of them and wait for a word |
//! | `shown` | the certificate of ours, over TLS |
//! | `insist` | provisional answers to a caller who demands that they arrive |
//! | `info` | INFO: keys of the far side, and ours for it |
//! | `route` | where a request goes: places, ports, transports |
//! | `prack` | where a PRACK of ours goes |
//! | `digests` | challenges and proofs as texts in headers |
//! | `proofs` | what proves who we are, to each party that asks, and who is answered |
//! | `stray` | answers to INVITEs of ours that are over |
//! | `past` | what is kept of transactions that are over |
//! | `lengths` | what a stream says of the length of its messages |
//! | `letters` | bytes of the wire that are no UTF-8, before anybody reads them |
//! | `mend` | what is put right in messages between the wire and the crate |
//!
//! A [`Stack`] lives on the control thread's runtime. Its tasks end with it: one reads the sockets, one takes requests, one
//! follows each call. What it hears of a call goes to that call's queue ([`Heard`]), found by Call-ID; it keeps no call's state,
//! reads no SDP, and decides nothing about a call but what the RFC leaves no choice in: ACK, retransmission, the BYE of a
//! branch or answer that nobody wants.

mod calls;
mod came;
mod carry;
mod connections;
mod demands;
mod digests;
mod door;
mod info;
mod insist;
mod lengths;
mod letters;
mod mend;
mod owed;
mod past;
mod prack;
mod proofs;
mod refresh;
mod request;
mod route;
mod shown;
mod stray;
mod uac;
mod uas;
mod users;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::{HasHeaders, Header, HeadersExt as _, Method, Response};
use rsipstack::transaction::EndpointBuilder;
use rsipstack::transaction::endpoint::{EndpointInnerRef, EndpointOption};
use rsipstack::transport::TransportLayer;
use tokio::sync::oneshot;

use super::names::{Names, Servers};
use super::{Gate, Local, Timers, Transport};
use calls::{Call, Calls, Cancelled, Expected};
use connections::Connections;
use insist::Insistence;

pub(in crate::engine) use came::{Came, Knock, Reception, Refusal, Ruled, Ruling};
pub(in crate::engine) use past::Past;
pub use past::Transactions;
pub(super) use proofs::Challenges;
pub(in crate::engine) use refresh::Terms;
pub(super) use request::Ask;
pub(super) use uac::Invite;
pub(in crate::engine) use uac::Line;

/// What we say that we take (RFC 3261 §20.5).
const ALLOW: [Method; 9] = [
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Bye,
    Method::Options,
    Method::Info,
    Method::Update,
    Method::Notify,
    Method::PRack,
];
const USER_AGENT: &str = concat!("clutchcall/", env!("CARGO_PKG_VERSION"));

/// Something happened to a call, in order.
#[derive(Debug)]
pub(in crate::engine) enum Heard {
    /// 100.
    Trying,
    /// 101..=199; the body of some has an answer already.
    Progress { code: u16, body: Vec<u8> },
    /// 2xx, which was acknowledged.
    Answered { body: Vec<u8>, terms: Terms },
    /// A final answer of the far side, 300..=699.
    Refused(Reply),
    /// No final answer came. `Cancelled`: and none is waited for any more.
    Failed(Failure),
    /// The far end hung up, and was told that it is well. Its Reason headers as they stand.
    Bye { reason: Option<String> },
    /// Our BYE was answered, or nobody answers it.
    Gone,
    /// A re-INVITE or UPDATE: what to answer is waited for.
    Offer(Offer),
    /// The ACK of a re-INVITE, or of our 200 to a call that came in; it may bring the answer to an offer of ours.
    Acked { body: Vec<u8> },
    /// Our 2xx to a re-INVITE, or to a call that came in, was never acknowledged (RFC 3261 §13.3.1.4: to be ended).
    Unacked,
    /// The caller gave up before our answer, and was told 487. The Reason headers of her CANCEL.
    Cancelled { reason: Option<String> },
    /// The far end has signalled a key (INFO).
    Key { key: char, duration_ms: u32 },
    /// The final answer to a key of ours; `None`: nobody answers.
    Pressed { code: Option<u16> },
    /// The final answer to our refresh of the session; `None`: nobody answers.
    Refreshed(Option<Reply>),
    /// The far end is to go elsewhere (REFER): the code of our answer is waited for, and nothing is said without one.
    TransferAsked { answer: oneshot::Sender<u16> },
    /// The final answer to our REFER.
    Referred { code: u16 },
    /// A NOTIFY of what became of it: its body, and its Subscription-State.
    Notified { body: Vec<u8>, state: Option<String> },
}

/// A re-INVITE or UPDATE of the far side.
#[derive(Debug)]
pub(in crate::engine) struct Offer {
    pub(in crate::engine) is_update: bool,
    /// Empty: a re-INVITE asks for an offer of ours, an UPDATE refreshes the session and no more (RFC 4028 §7.4).
    pub(in crate::engine) body: Vec<u8>,
    pub(in crate::engine) terms: Terms,
    pub(in crate::engine) answer: oneshot::Sender<Answer>,
}

/// What it is answered.
pub(in crate::engine) type Answer = Result<Agreed, OfferRefused>;

/// A 200.
#[derive(Debug)]
pub(in crate::engine) struct Agreed {
    /// `None`: nothing was offered.
    pub(in crate::engine) body: Option<String>,
    pub(in crate::engine) session_expires: Option<String>,
}

/// A final code; a 422 with the `Min-SE` that is asked for.
#[derive(Debug)]
pub(in crate::engine) struct OfferRefused {
    pub(in crate::engine) code: u16,
    pub(in crate::engine) min_se_s: Option<u32>,
}

impl From<u16> for OfferRefused {
    fn from(code: u16) -> Self {
        Self { code, min_se_s: None }
    }
}

/// A final answer in texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Reply {
    pub(in crate::engine) code: u16,
    pub(in crate::engine) phrase: String,
    /// Its Reason headers as they stand.
    pub(in crate::engine) reason: Option<String>,
    pub(in crate::engine) retry_after: Option<String>,
    /// Each Contact header as it stands: of a redirect, or the bindings of a registration.
    pub(in crate::engine) contacts: Vec<String>,
    pub(in crate::engine) expires: Option<String>,
    pub(in crate::engine) min_expires: Option<String>,
    pub(in crate::engine) terms: Terms,
    pub(in crate::engine) body: Vec<u8>,
}

/// All Reason headers as one: commas part the values of one header, too (RFC 3326 §2).
fn reasons(message: &impl HasHeaders) -> Option<String> {
    let all = message.headers().iter().filter(|header| matches!(header, Header::Reason(_)));
    let values: Vec<&str> = all.map(Header::value).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn reply(response: &Response) -> Reply {
    Reply {
        code: mend::code(response),
        phrase: response.wire_reason.clone().unwrap_or_else(|| response.status_code.text().to_owned()),
        reason: reasons(response),
        retry_after: response.header_value("Retry-After"),
        contacts: response.contact_headers().iter().map(|contact| contact.value().to_owned()).collect(),
        expires: response.header_value("Expires"),
        min_expires: response.header_value("Min-Expires"),
        terms: Terms::of(response),
        body: response.body.clone(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Failure {
    /// Nothing came back in 64·T1, or nothing more in a transaction's life.
    Timeout,
    /// The far side can't be reached, or the connection broke.
    Network(String),
    /// Something of our own; nobody was asked, or the far side has no part in it.
    Local(String),
    /// We gave up, and it is over: 487 came, or an answer that was hung up, or nothing.
    Cancelled,
}

/// One local address of one transport.
pub(super) struct Stack {
    endpoint: EndpointInnerRef,
    dialogs: Arc<DialogLayer>,
    calls: Arc<Calls>,
    gate: Arc<Gate>,
    names: Arc<Names>,
    connections: Arc<Connections>,
    over: past::Over,
    /// Who decides about calls that come in; set once.
    reception: Arc<OnceLock<Arc<dyn Reception>>>,
    transport: Transport,
    /// As the far side is told.
    address: SocketAddr,
    timers: Timers,
    ending: CancellationToken,
}

impl Stack {
    /// Binds and begins to read. The error names the address.
    pub(super) async fn open(local: &Local, timers: Timers, gate: Arc<Gate>, servers: Servers) -> Result<Self, String> {
        let (ending, transport) = (CancellationToken::new(), local.transport);
        let named = |error: String| format!("{} {} can't be bound ({error})", transport.as_str(), local.bind);
        let (bound, address) = door::Bound::at(local).map_err(|error| named(error.to_string()))?;
        let names = Arc::new(Names::new(transport, Some(local.bind.ip()), servers));
        let resolver = route::Resolver(Arc::clone(&names));
        let calls = Arc::<Calls>::default();
        let strays = stray::Strays::default();
        let door = door::Door { gate: Arc::clone(&gate), calls: Arc::clone(&calls), strays: strays.clone() };
        let connections = Connections::new(local, address, resolver, Arc::clone(&gate), ending.clone())?;
        let resolver = Box::new(route::Targets(Arc::clone(&connections)));
        let layer = TransportLayer::new_with_domain_resolver(ending.clone(), resolver);
        let endpoint = EndpointBuilder::new()
            .with_transport_layer(layer)
            .with_cancel_token(ending.clone())
            .with_user_agent(USER_AGENT)
            .with_allows(ALLOW.to_vec())
            .with_option(option(timers))
            .with_inspector(Box::new(mend::Mend { calls: Arc::clone(&calls), connections: Arc::clone(&connections) }))
            .with_target_locator(Box::new(route::Targets(Arc::clone(&connections))))
            .with_transport_inspector(Box::new(door.clone()))
            .build();
        let incoming = endpoint.incoming_transactions().map_err(|error| error.to_string())?;
        let inner = Arc::clone(&endpoint.inner);
        strays.watch(&inner, ending.clone());
        bound.serve(endpoint, door, Arc::clone(&connections)).await.map_err(named)?;
        let dialogs = Arc::new(DialogLayer::new(Arc::clone(&inner)));
        let reception = Arc::<OnceLock<_>>::default();
        let taker = uas::Taker {
            calls: Arc::clone(&calls),
            dialogs: Arc::clone(&dialogs),
            gate: Arc::clone(&gate),
            reception: Arc::clone(&reception),
            connections: Arc::clone(&connections),
            transport,
            address,
            timers,
        };
        tokio::spawn(taker.run(incoming, ending.clone()));
        Ok(Self {
            over: past::Over::of(&inner, ending.clone()),
            endpoint: inner,
            dialogs,
            calls,
            gate,
            names,
            connections,
            reception,
            transport,
            address,
            timers,
            ending,
        })
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) fn timers(&self) -> Timers {
        self.timers
    }

    /// What it has in memory, told for as long as it lives.
    pub(super) fn past(&self) -> Past {
        Past::of(&self.endpoint)
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Who decides about calls that come in. Without anybody they are forbidden.
    pub(super) fn receive_with(&self, reception: Arc<dyn Reception>) {
        // The first one stays.
        let _ = self.reception.set(reception);
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

fn option(timers: Timers) -> EndpointOption {
    EndpointOption {
        t1: timers.t1,
        t2: timers.t1 * 8,
        t4: timers.t1 * 10,
        t1x64: timers.give_up(),
        // Longer than any ring timer, so that it never speaks before the call's own.
        timerc: Duration::from_secs(300),
        ..EndpointOption::default()
    }
}

/// For `crate::fuzz`: what is read here of messages, before and behind the crate.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(data: &[u8]) {
    if let Some(call_id) = door::call_id(data) {
        assert!(call_id == call_id.trim_ascii() && !call_id.contains('\n'));
    }
    digests::fuzz(data);
    lengths::fuzz(data);
    letters::fuzz(data);
    mend::fuzz(data);
    users::fuzz(data);
}
