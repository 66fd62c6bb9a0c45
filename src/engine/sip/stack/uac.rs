//! A call that we place: the INVITE, what its transaction and dialog say, and what is asked of the dialog later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver};
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::{InviteAsyncResult, InviteOption};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Header, ReferTo, Response, Uri, typed};
use rsipstack::{Error, platform::JoinHandle};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use crate::engine::config::Credentials;

use super::connections::{Flow, Way};
use super::past::Over;
use super::proofs::Challenges;
use super::{ALLOW, Call, Calls, Failure, Heard, Insistence, Reply, Stack, Terms, mend, refresh, reply};

/// What is said of a new call, in texts.
#[derive(Clone, Debug)]
pub(in crate::engine::sip) struct Invite {
    pub(in crate::engine::sip) call_id: String,
    /// The Request-URI, and To.
    pub(in crate::engine::sip) to: String,
    /// The first hop, where it is not the host of the Request-URI.
    pub(in crate::engine::sip) route: Option<String>,
    /// Where it goes, of all places that a name has; `None`: where its URI says.
    pub(in crate::engine::sip) place: Option<SocketAddr>,
    pub(in crate::engine::sip) from: String,
    pub(in crate::engine::sip) caller_name: Option<String>,
    pub(in crate::engine::sip) headers: Vec<(String, String)>,
    /// `Session-Expires` and `Min-SE`.
    pub(in crate::engine::sip) timer: Option<(String, String)>,
    pub(in crate::engine::sip) body: String,
    pub(in crate::engine::sip) credentials: Option<Credentials>,
}

/// The way to the dialog of one call. Dropping it forgets the dialog; it ends nothing on the wire.
pub(in crate::engine) struct Line {
    pub(super) dialog: InviteDialog,
    pub(super) dialogs: Arc<DialogLayer>,
    pub(super) calls: Arc<Calls>,
    pub(super) call_id: String,
    pub(super) heard: mpsc::UnboundedSender<Heard>,
    /// Of a call of ours: it is cancelled. Of one that came in: its final answer is ordered.
    pub(super) decided: Arc<Notify>,
    pub(super) follower: AbortHandle,
    pub(super) way: Way,
    /// Where the INVITE goes when the call is over; `None`: it came in, and its transaction ends with the ACK.
    pub(super) over: Option<Over>,
    /// Of one that came in: what is said before its answer has to arrive.
    pub(super) insistence: Option<Arc<Insistence>>,
}

impl Stack {
    /// Sends the INVITE. What becomes of it comes through the queue: a call causes a handful of events, and calls are limited.
    pub(in crate::engine::sip) fn invite(
        &self,
        invite: Invite,
    ) -> Result<(Line, mpsc::UnboundedReceiver<Heard>), String> {
        let call_id = invite.call_id.clone();
        let challenges = Challenges::of(invite.credentials.as_ref());
        let way = Way { connections: Arc::clone(&self.connections), flow: Flow::default() };
        let option = self.option(invite)?;
        let (sender, states) = self.dialogs.new_dialog_state_channel();
        let (dialog, outcome) = self.dialogs.do_invite_async(option, sender).map_err(|error| error.to_string())?;
        let (heard, queue) = mpsc::unbounded_channel();
        let (confirm, confirmed) = watch::channel(None);
        let call = Call {
            dialog: dialog.clone(),
            tag: dialog.id().local_tag,
            caller: None,
            challenges,
            flow: Arc::clone(&way.flow),
            aim: Arc::default(),
            change: Arc::new(Semaphore::new(1)),
            heard: heard.clone(),
            confirmed,
            cancelled: Arc::default(),
            insistence: None,
        };
        self.calls.enter(&call_id, call);
        let gave_up = Arc::<Notify>::default();
        let follower = Follower {
            heard: heard.clone(),
            states,
            outcome,
            confirm,
            gave_up: Arc::clone(&gave_up),
            patience: self.timers.give_up(),
            until: None,
            is_confirmed: false,
            is_settled: false,
        };
        let follower = tokio::spawn(follower.run()).abort_handle();
        let (dialogs, calls) = (Arc::clone(&self.dialogs), Arc::clone(&self.calls));
        let over = Some(self.over.clone());
        let (decided, insistence) = (gave_up, None);
        Ok((Line { dialog, dialogs, calls, call_id, heard, decided, follower, way, over, insistence }, queue))
    }

    fn option(&self, invite: Invite) -> Result<InviteOption, String> {
        let uri = |text: &str| Uri::try_from(text).map_err(|error| format!("{text:?} is no SIP URI: {error}"));
        let route = invite.route.as_deref().map(uri).transpose()?.map(|uri| typed::Route {
            display_name: None,
            uri,
            params: Vec::new(),
        });
        let pinned = invite.place.map(|place| self.pinned(place)).transpose()?;
        let texts = invite.headers.iter().flat_map(|(name, value)| [name, value]);
        if let Some(bad) = texts.chain(&invite.caller_name).find(|text| text.contains(char::is_control)) {
            return Err(format!("{bad:?} can't stand in a header"));
        }
        let caller = uri(&invite.from)?;
        let user = caller.user().unwrap_or("clutchcall");
        // A Contact that names its transport is left as it is.
        let contact = uri(&format!("sip:{user}@{}{}", self.address, self.transport.parameter()))?;
        let allow = ALLOW.map(|method| method.to_string()).join(", ");
        let mut headers = vec![Header::Allow(allow.into()), Header::Accept("application/sdp".into())];
        headers.extend(refresh::asked(invite.timer.as_ref()));
        headers.extend(invite.headers.into_iter().map(|(name, value)| make_header(&name, value)));
        Ok(InviteOption {
            caller_display_name: invite.caller_name.map(|name| name.replace('\\', "\\\\").replace('"', "\\\"")),
            caller,
            callee: uri(&invite.to)?,
            contact,
            content_type: Some("application/sdp".to_owned()),
            offer: Some(invite.body.into_bytes()),
            credential: invite.credentials.map(credential),
            headers: Some(headers),
            call_id: Some(invite.call_id),
            route_set: pinned.into_iter().chain(route).collect(),
            ..InviteOption::default()
        })
    }
}

pub(super) fn credential(ours: Credentials) -> Credential {
    Credential {
        username: ours.sip_username,
        password: ours.sip_password.reveal().to_owned(),
        realm: None,
        auth_username: None,
    }
}

impl Line {
    /// CANCEL, once somebody has said a word (RFC 3261 §9.1). An answer that crosses it is hung up; when all is over
    /// [`Failure::Cancelled`] comes, after 64·T1 at the latest.
    pub(in crate::engine::sip) fn cancel(&self) {
        self.decided.notify_one();
        let dialog = self.dialog.clone();
        tokio::spawn(async move {
            if let Err(error) = dialog.cancel().await {
                tracing::debug!(call_id = dialog.id().call_id, %error, "CANCEL was not accepted");
            }
        });
    }

    /// BYE, with a Reason header if there is one; [`Heard::Gone`] follows.
    pub(in crate::engine) fn bye(&self, reason: Option<String>) {
        let (dialog, way, heard) = (self.dialog.clone(), self.way.clone(), self.heard.clone());
        let headers = reason.map(|reason| vec![Header::Reason(reason.into())]);
        tokio::spawn(async move {
            if !way.is_fit(&dialog) {
                // A call that nobody follows any more is over.
                let _ = heard.send(Heard::Gone);
                return;
            }
            if let Err(error) = dialog.bye_with_headers(headers).await {
                tracing::debug!(call_id = dialog.id().call_id, %error, "BYE was not sent");
            }
        });
    }

    /// REFER (RFC 3515) with these two headers; its final answer comes as [`Heard::Referred`].
    pub(in crate::engine::sip) fn refer(&self, (refer_to, referred_by): (String, String)) {
        let (dialog, way, heard) = (self.dialog.clone(), self.way.clone(), self.heard.clone());
        let refer_to = ReferTo::from(refer_to);
        let headers = vec![Header::ReferredBy(referred_by.into())];
        tokio::spawn(async move {
            let answered = match way.is_fit(&dialog) {
                true => dialog.refer(refer_to, Some(headers), None).await.ok().flatten(),
                false => None,
            };
            // Nobody answered, or nobody could be asked.
            let code = answered.as_ref().map_or(408, mend::code);
            // A call that nobody follows any more is over.
            let _ = heard.send(Heard::Referred { code });
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.calls.leave(&self.call_id, &self.heard);
        self.dialogs.remove_dialog(&self.dialog.id());
        self.follower.abort();
        self.over.iter().for_each(|over| over.leave(&self.dialog));
    }
}

/// Puts what the crate says of one INVITE and its dialog into a call's queue.
struct Follower {
    heard: mpsc::UnboundedSender<Heard>,
    states: DialogStateReceiver,
    outcome: JoinHandle<InviteAsyncResult>,
    confirm: watch::Sender<Option<String>>,
    gave_up: Arc<Notify>,
    /// 64·T1.
    patience: Duration,
    /// No final answer is waited for after this (RFC 3261 §9.1).
    until: Option<Instant>,
    is_confirmed: bool,
    /// The INVITE has its final answer.
    is_settled: bool,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let until = self.until.unwrap_or_else(Instant::now);
            let waits = self.until.is_some() && !self.is_settled;
            let goes_on = tokio::select! {
                // What a dialog went through comes before what it came to.
                biased;
                state = self.states.recv() => state.is_some_and(|state| self.handle_state(state)),
                outcome = &mut self.outcome, if !self.is_settled => {
                    self.is_settled = true;
                    self.handle_outcome(outcome)
                }
                () = self.gave_up.notified() => {
                    self.until.get_or_insert_with(|| Instant::now() + self.patience);
                    true
                }
                () = tokio::time::sleep_until(until.into()), if waits => {
                    self.outcome.abort();
                    self.tell(Heard::Failed(Failure::Cancelled));
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn tell(&self, heard: Heard) {
        // A call that nobody follows any more is over.
        let _ = self.heard.send(heard);
    }

    /// `false`: nothing more will come.
    fn handle_state(&mut self, state: DialogState) -> bool {
        match state {
            DialogState::Trying(_) => self.tell(Heard::Trying),
            DialogState::Early(_, response) if !self.is_confirmed => {
                self.tell(Heard::Progress { code: response.status_code.code(), body: response.body });
            }
            DialogState::Confirmed(id, response) if !self.is_confirmed => {
                self.is_confirmed = true;
                // Before the far side's next request is looked at.
                self.confirm.send_replace(Some(id.remote_tag));
                self.tell(Heard::Answered { terms: Terms::of(&response), body: response.body });
            }
            DialogState::Terminated(..) if self.is_confirmed => {
                self.tell(Heard::Gone);
                return false;
            }
            _ => {}
        }
        true
    }

    fn handle_outcome(&mut self, outcome: Result<InviteAsyncResult, tokio::task::JoinError>) -> bool {
        if self.is_confirmed {
            return true;
        }
        self.tell(match outcome {
            _ if self.until.is_some() => Heard::Failed(Failure::Cancelled),
            Ok(Ok((_, Some(response)))) => judged(&response),
            Ok(Ok((_, None))) => Heard::Failed(Failure::Timeout),
            // A challenge that nobody can answer (`mend`).
            Ok(Err(Error::DialogError(_, _, code))) if matches!(code.code(), 401 | 407) => {
                Heard::Refused(Reply { code: code.code(), ..Reply::default() })
            }
            Ok(Err(error)) => Heard::Failed(Failure::Network(error.to_string())),
            Err(error) => Heard::Failed(Failure::Local(error.to_string())),
        });
        false
    }
}

fn judged(response: &Response) -> Heard {
    match (mend::is_made_up(response), response.status_code.code()) {
        (true, 408) => Heard::Failed(Failure::Timeout),
        (true, _) => Heard::Failed(Failure::Network("the connection broke".to_owned())),
        // Only an answer that crossed our CANCEL is left here, and it was hung up.
        (false, ..300) => Heard::Failed(Failure::Cancelled),
        (false, _) => Heard::Refused(reply(response)),
    }
}
