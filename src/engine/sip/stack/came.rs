//! A call that comes in. A [`Reception`] is asked once for each INVITE of no known call; what it rules is done here: silence, a final
//! answer, or a [`Line`] as every other call has, by which its caller is rung, answered or refused.
//!
//! The INVITE is driven by the task that took it, to its end: 100 at once, the last answer again for each INVITE that is repeated and 180
//! each minute (RFC 3261 §13.3.1.1), 487 for a CANCEL, a 200 again and again until its ACK, and a BYE where none comes in 64·T1
//! (§13.3.1.4). It ends without an answer where the caller's connection broke before there was one, and where what was ordered can't be
//! sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Header, HeadersExt as _, Method, StatusCode, Uri};
use rsipstack::transaction::TransactionState;
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipConnection;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::super::Timers;
use super::connections::Way;
use super::demands::unfit;
use super::refresh::{self, Terms};
use super::uac::Line;
use super::uas::{Taker, allow, retarget};
use super::{Call, Cancelled, Expected, Heard, Insistence};

/// Beyond what the RFC's timers take, in T1: those of the stack come first.
const MARGIN_T1: u32 = 8;
/// A minute in T1. A proxy gives an INVITE up after three without a word beyond 100, and one such word may get lost (RFC 3261 §13.3.1.1,
/// §16.6, Timer C).
const MINUTE_T1: u32 = 120;

/// An INVITE outside of any call, in texts.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Knock {
    /// Where it came from, whatever it says itself.
    pub(in crate::engine) source: SocketAddr,
    pub(in crate::engine) call_id: String,
    pub(in crate::engine) from_tag: String,
    /// The Request-URI.
    pub(in crate::engine) uri: String,
    /// From and To as they stand.
    pub(in crate::engine) from: String,
    pub(in crate::engine) to: String,
    /// Each Authorization header as it stands.
    pub(in crate::engine) authorizations: Vec<String>,
    /// Its description; empty: it asks for ours.
    pub(in crate::engine) body: Vec<u8>,
    pub(in crate::engine) terms: Terms,
    /// It demands what is not here: whoever would take it has to refuse it so.
    pub(in crate::engine) unfit: Option<Refusal>,
}

/// A final answer before anybody has taken the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Refusal {
    pub(in crate::engine) code: u16,
    pub(in crate::engine) headers: Vec<(String, String)>,
}

impl Refusal {
    pub(in crate::engine) fn of(code: u16) -> Self {
        Self { code, headers: Vec::new() }
    }
}

/// What becomes of an INVITE.
#[derive(Debug)]
pub(in crate::engine) enum Ruling {
    /// Nothing is said at all.
    Silence,
    Refuse(Refusal),
    /// Whoever takes the call waits for its line here.
    Take(oneshot::Sender<Came>),
}

pub(in crate::engine) type Ruled = Pin<Box<dyn Future<Output = Ruling> + Send>>;

/// Decides about calls that come in. It is asked for each of them, and answers soon: until it does not even 100 is said.
pub(in crate::engine) trait Reception: Send + Sync {
    fn receive(&self, knock: Knock) -> Ruled;
    /// Whether the callers may transfer their calls away (REFER).
    fn takes_transfers(&self) -> bool {
        false
    }
}

/// The way to the caller, and what she says.
pub(in crate::engine) struct Came {
    pub(in crate::engine) line: Line,
    pub(in crate::engine) heard: mpsc::UnboundedReceiver<Heard>,
}

impl std::fmt::Debug for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Came")
    }
}

impl Line {
    /// 180.
    pub(in crate::engine) fn ring(&self) {
        self.provisional("180", Vec::new(), None);
    }

    /// 183 with our description, for what is heard before the answer. The 200 has the same (RFC 3261 §13.2.1).
    pub(in crate::engine) fn progress(&self, body: String) {
        self.provisional("183", vec![Header::ContentType("application/sdp".into())], Some(body.into_bytes()));
    }

    fn provisional(&self, what: &str, headers: Vec<Header>, body: Option<Vec<u8>>) {
        match &self.insistence {
            Some(insistence) => insistence.say(&self.dialog, headers, body),
            None => say(&self.call_id, what, self.dialog.ringing(Some(headers), body)),
        }
    }

    /// 200 with our description; [`Heard::Acked`] follows, or [`Heard::Unacked`].
    pub(in crate::engine) fn accept(&self, body: String, session_expires: Option<String>) {
        let mut headers = vec![Header::ContentType("application/sdp".into()), allow()];
        headers.extend(refresh::agreed(session_expires));
        let (dialog, decided, call_id) = (self.dialog.clone(), Arc::clone(&self.decided), self.call_id.clone());
        let answer = move || {
            say(&call_id, "200", dialog.accept(Some(headers), Some(body.into_bytes())));
            decided.notify_one();
        };
        match &self.insistence {
            Some(insistence) => insistence.answer(answer),
            None => answer(),
        }
    }

    /// A final answer; [`Heard::Gone`] follows once it is acknowledged, or nobody does.
    pub(in crate::engine) fn reject(&self, code: u16) {
        self.insistence.iter().for_each(|insistence| insistence.close());
        say(&self.call_id, "a refusal", self.dialog.reject(Some(StatusCode::from(code)), None));
        self.decided.notify_one();
    }
}

fn say(call_id: &str, what: &str, said: rsipstack::Result<()>) {
    if let Err(error) = said {
        tracing::debug!(call_id, %error, "{what} was not sent");
    }
}

impl Taker {
    /// An INVITE of no call that is known.
    pub(super) async fn invited(&self, request: &mut Transaction) -> rsipstack::Result<()> {
        let Some(reception) = self.reception.get() else { return request.reply(StatusCode::Forbidden).await };
        let Some(knock) = knock(request) else { return request.reply(StatusCode::BadRequest).await };
        let call_id = knock.call_id.clone();
        // The same call by another way, before anybody has decided about the first (RFC 3261 §8.2.2.2).
        let Some(reserved) = self.calls.reserve(&call_id) else { return request.reply(StatusCode::LoopDetected).await };
        match reception.receive(knock).await {
            // Dropped without an answer: the same INVITE again is asked about again.
            Ruling::Silence => {
                self.drop_silently();
                Ok(())
            }
            Ruling::Refuse(refusal) => {
                // Who is challenged comes back at once, under the same name.
                drop(reserved);
                refuse(request, refusal).await
            }
            Ruling::Take(waiting) => self.let_in(request, waiting, reserved).await,
        }
    }

    async fn let_in(
        &self,
        request: &mut Transaction,
        waiting: oneshot::Sender<Came>,
        reserved: Expected<'_>,
    ) -> rsipstack::Result<()> {
        let call_id = request.original.call_id_header()?.value().to_owned();
        let contact = Uri::try_from(self.uri().as_str())?;
        let (sender, states) = self.dialogs.new_dialog_state_channel();
        let made = self.dialogs.get_or_create_server_invite(request, sender, None, Some(contact));
        let Ok(mut dialog) = made else { return request.reply(StatusCode::BadRequest).await };
        // As it stands: the crate adds the transport that it takes our connections for.
        retarget(&dialog, &request.original);
        let id = dialog.id();
        // Every answer has the same tag, those of the transaction itself too (RFC 3261 §8.2.6.2).
        let to = request.original.to_header()?.clone().with_tag(id.local_tag.clone().into());
        request.original.headers.unique_push(to.into());
        let (heard, queue) = mpsc::unbounded_channel();
        let (_confirm, confirmed) = watch::channel(Some(id.remote_tag.clone()));
        let (over, cancelled) = (Arc::<Notify>::default(), Cancelled::default());
        let flow = request.connection.as_ref().and_then(SipConnection::cancel_token);
        let way = Way { connections: Arc::clone(&self.connections), flow: Arc::new(Mutex::new(flow)) };
        let insistence = Insistence::of(&request.original, self.timers.t1);
        let call = Call {
            dialog: dialog.clone(),
            tag: id.local_tag,
            caller: Some(id.remote_tag),
            challenges: Arc::default(),
            flow: Arc::clone(&way.flow),
            aim: Arc::default(),
            change: Arc::new(Semaphore::new(1)),
            heard: heard.clone(),
            confirmed,
            cancelled: Arc::clone(&cancelled),
            insistence: insistence.clone(),
        };
        self.calls.enter(&call_id, call);
        drop(reserved);
        let follower =
            Follower { dialog: dialog.clone(), heard: heard.clone(), states, cancelled, over: Arc::clone(&over) };
        let follower = tokio::spawn(follower.run()).abort_handle();
        let (dialogs, calls) = (Arc::clone(&self.dialogs), Arc::clone(&self.calls));
        let decided = Arc::<Notify>::default();
        let unheard = unheard(request.connection.clone(), Arc::clone(&decided), self.timers);
        let repeated = repeated(dialog.clone(), insistence.clone(), Arc::clone(&decided), self.timers);
        let line = Line {
            dialog: dialog.clone(),
            dialogs,
            calls,
            call_id,
            heard,
            decided,
            follower,
            way,
            over: None,
            insistence,
        };
        if let Err(Came { line, .. }) = waiting.send(Came { line, heard: queue }) {
            // Whoever wanted the call has gone.
            line.reject(StatusCode::ServiceUnavailable.code());
        }
        let driven = tokio::select! {
            driven = driven(&mut dialog, request) => driven,
            () = unheard => Ok(()),
            never = repeated => match never {},
        };
        over.notify_one();
        driven
    }
}

/// To the end of its transaction. The crate leaves it behind the 487 of a CANCEL, which is repeated until its ACK (RFC 3261 §17.2.1).
async fn driven(dialog: &mut InviteDialog, request: &mut Transaction) -> rsipstack::Result<()> {
    dialog.handle(request).await?;
    while request.state == TransactionState::Completed && request.receive().await.is_some() {}
    Ok(())
}

/// What was said before the answer is said again, to the end of the INVITE: until its PRACK where it has to arrive, and what has arrived
/// holds for as long as anything rings here; else each minute.
async fn repeated(
    dialog: InviteDialog,
    insistence: Option<Arc<Insistence>>,
    refused: Arc<Notify>,
    timers: Timers,
) -> Infallible {
    if let Some(insistence) = insistence {
        return insistence.repeat(&dialog, &refused).await;
    }
    loop {
        tokio::time::sleep(timers.t1 * MINUTE_T1).await;
        if let DialogState::Early(_, said) = dialog.state() {
            let body = (!said.body.is_empty()).then_some(said.body);
            let kind = body.iter().map(|_| Header::ContentType("application/sdp".into())).collect();
            // An INVITE that is over needs no answer.
            let _ = dialog.ringing(Some(kind), body);
        }
    }
}

/// The caller's connection broke before our answer, or nothing came of the answer: its ACK is waited for no longer than 64·T1, and as long
/// may the BYE take that ends what was not acknowledged.
async fn unheard(connection: Option<SipConnection>, decided: Arc<Notify>, timers: Timers) {
    let broken = async {
        // Datagrams have no connection that could break.
        let stream = connection.filter(SipConnection::is_reliable);
        match stream.and_then(|stream| stream.cancel_token()) {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = decided.notified() => tokio::time::sleep(timers.give_up() * 2 + timers.t1 * MARGIN_T1).await,
        () = broken => {}
    }
}

pub(super) async fn refuse(request: &mut Transaction, refusal: Refusal) -> rsipstack::Result<()> {
    let headers = refusal.headers.into_iter().map(|(name, value)| make_header(&name, value)).collect();
    request.reply_with(StatusCode::from(refusal.code), headers, None).await
}

/// The crate expects an ACK for 64·T1, and looks through all that it expects whenever one of them is over: refusals that nobody
/// acknowledges must not cost the more, the more of them there were. Their ACK is absorbed by its branch (RFC 3261 §17.2.3).
pub(super) fn forget_refusal(request: &Transaction) {
    let refusal = request.last_response.as_ref().filter(|response| response.status_code.code() >= 300);
    let expected = refusal.and_then(|refusal| DialogId::try_from((refusal, TransactionRole::Server)).ok());
    if let Some(expected) = expected {
        request.endpoint_inner.waiting_ack.remove(&expected);
    }
}

/// Where it came from.
pub(super) fn source(request: &Transaction) -> Option<SocketAddr> {
    request.connection.as_ref()?.get_remote_addr()?.get_socketaddr().ok()
}

/// `None`: it lacks what every INVITE has (RFC 3261 §8.1.1).
fn knock(request: &Transaction) -> Option<Knock> {
    let invite = &request.original;
    let source = source(request)?;
    invite.contact_header().ok()?;
    let authorizations = invite.headers.iter().filter_map(|header| match header {
        Header::Authorization(value) => Some(value.value().to_owned()),
        _ => None,
    });
    Some(Knock {
        source,
        call_id: invite.call_id_header().ok()?.value().to_owned(),
        from_tag: invite.from_header().ok()?.tag().ok()??.value().to_owned(),
        uri: invite.uri.to_string(),
        from: invite.from_header().ok()?.value().to_owned(),
        to: invite.to_header().ok()?.value().to_owned(),
        authorizations: authorizations.collect(),
        body: invite.body.clone(),
        terms: Terms::of(invite),
        unfit: unfit(invite),
    })
}

/// Puts what the crate says of one INVITE that came in, and of its dialog, into the call's queue.
struct Follower {
    dialog: InviteDialog,
    heard: mpsc::UnboundedSender<Heard>,
    states: DialogStateReceiver,
    cancelled: Cancelled,
    /// The INVITE is over.
    over: Arc<Notify>,
}

impl Follower {
    async fn run(mut self) {
        let (mut is_confirmed, mut is_over) = (false, false);
        loop {
            let heard = tokio::select! {
                // What a dialog went through comes before its end.
                biased;
                state = self.states.recv() => match state {
                    None => return,
                    Some(DialogState::Confirmed(..)) if !is_confirmed => {
                        is_confirmed = true;
                        Heard::Acked { body: self.acknowledged() }
                    }
                    Some(DialogState::Terminated(_, TerminatedReason::UacCancel)) => {
                        let reason = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).take();
                        Heard::Cancelled { reason }
                    }
                    Some(DialogState::Terminated(_, TerminatedReason::Timeout)) => Heard::Unacked,
                    Some(DialogState::Terminated(..)) if is_confirmed => Heard::Gone,
                    Some(_) => continue,
                },
                () = self.over.notified(), if !is_over => {
                    is_over = true;
                    if is_confirmed {
                        continue;
                    }
                    Heard::Gone
                }
            };
            let is_last = matches!(heard, Heard::Gone);
            // A call that nobody follows any more is over.
            if self.heard.send(heard).is_err() || is_last {
                return;
            }
        }
    }

    /// The body of the ACK.
    fn acknowledged(&self) -> Vec<u8> {
        let ack = self.dialog.last_remote_ack().filter(|ack| ack.method == Method::Ack);
        ack.map(|ack| ack.body).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "came_tests.rs"]
mod tests;
