//! Provisional answers to a caller who demands that they arrive (`Require: 100rel`, RFC 3262): the hands of [`Reliable`].
//!
//! Only where it is demanded: who merely supports it is answered as everybody is. A caller without a description would have to be sent
//! ours, and its answer would come in a PRACK: she hears no 180, which nobody owes her, and is answered with a 200 as ever. A 200 waits
//! until a description that was sent before it is acknowledged (§3).
//!
//! No task of its own: what is due is said by the one that drives the INVITE, and ends with it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt as _, Request, StatusCode};
use tokio::sync::Notify;

use super::super::session::chance;
use super::demands::demands;
use crate::sip::reliable::{Due, OPTION, Reliable};

/// Of one INVITE that came in.
pub(super) struct Insistence {
    /// Her CSeq; `None`: she sent no description.
    invite: Option<u32>,
    t1: Duration,
    said: Mutex<Said>,
    /// It was said, was acknowledged, or needs it no more.
    changed: Notify,
}

#[derive(Default)]
struct Said {
    reliable: Option<Reliable>,
    headers: Vec<Header>,
    body: Option<Vec<u8>>,
    /// The 200 that waits for it.
    answer: Option<Answer>,
}

pub(super) type Answer = Box<dyn FnOnce() + Send>;

impl Insistence {
    /// `None`: nobody demands it.
    pub(super) fn of(invite: &Request, t1: Duration) -> Option<Arc<Self>> {
        let number = invite.cseq_header().and_then(|cseq| cseq.seq()).ok().filter(|_| !invite.body.is_empty());
        demands(invite, OPTION)
            .then(|| Arc::new(Self { invite: number, t1, said: Mutex::default(), changed: Notify::new() }))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 180, or 183 with a description: the first of an INVITE, and nothing behind it.
    pub(super) fn say(&self, dialog: &InviteDialog, mut headers: Vec<Header>, body: Option<Vec<u8>>) {
        let Some(invite) = self.invite else { return };
        let mut said = self.said();
        if said.reliable.is_some() {
            return;
        }
        let reliable = Reliable::new(chance(), invite, self.t1, Instant::now());
        headers.extend([Header::Require(OPTION.into()), Header::RSeq(reliable.rseq().to_string().into())]);
        *said = Said { reliable: Some(reliable), headers, body, answer: None };
        said.say(dialog);
        drop(said);
        self.changed.notify_one();
    }

    /// Says it again when it is due, for as long as somebody waits for this. Where it is never acknowledged the INVITE is refused, and
    /// `refused` is told.
    pub(super) async fn repeat(&self, dialog: &InviteDialog, refused: &Notify) -> Infallible {
        loop {
            let due = self.due();
            let due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => continue,
                () = due => {}
            }
            let mut said = self.said();
            match said.reliable.as_mut().and_then(|reliable| reliable.handle_timeout(Instant::now())) {
                Some(Due::Again) => said.say(dialog),
                Some(Due::Refuse) if dialog.state().can_cancel() => {
                    said.answer = None;
                    // An INVITE that is over needs no answer.
                    let _ = dialog.reject(Some(StatusCode::ServerTimeOut), None);
                    refused.notify_one();
                }
                _ => {}
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.said().reliable.as_ref()?.poll_timeout()
    }

    /// A PRACK with this RAck: what is to be done behind its 200. `None`: it acknowledges nothing.
    pub(super) fn handle_prack(&self, rack: &str) -> Option<Answer> {
        let mut said = self.said();
        let is_its = said.reliable.as_mut()?.handle_prack(rack);
        let answer = said.answer.take_if(|_| is_its);
        drop(said);
        self.changed.notify_one();
        is_its.then(|| answer.unwrap_or_else(|| Box::new(|| {})))
    }

    /// The 200: now, or when what was said before has arrived.
    pub(super) fn answer(&self, answer: impl FnOnce() + Send + 'static) {
        let mut said = self.said();
        if said.body.is_some() && said.reliable.as_ref().is_some_and(Reliable::is_open) {
            said.answer = Some(Box::new(answer));
            return;
        }
        drop(said);
        self.close();
        answer();
    }

    /// There is a final answer: nothing is said any more.
    pub(super) fn close(&self) {
        let mut said = self.said();
        said.answer = None;
        said.reliable.iter_mut().for_each(Reliable::close);
        drop(said);
        self.changed.notify_one();
    }
}

impl Said {
    fn say(&mut self, dialog: &InviteDialog) {
        let is_over = !dialog.state().can_cancel();
        if is_over || dialog.ringing(Some(self.headers.clone()), self.body.clone()).is_err() {
            self.reliable.iter_mut().for_each(Reliable::close);
        }
    }
}
