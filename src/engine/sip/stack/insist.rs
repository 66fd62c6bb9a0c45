//! Provisional answers to a caller who demands that they arrive (`Require: 100rel`, RFC 3262): the hands of [`Reliable`].
//!
//! Only where it is demanded: who merely supports it is answered as everybody is. A caller without a description would have to be sent
//! ours, and its answer would come in a PRACK: she hears no 180, which nobody owes her, and is answered with a 200 as ever. A 200 waits
//! until a description that was sent before it is acknowledged (§3).

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
    /// It was acknowledged, or needs it no more.
    settled: Notify,
}

#[derive(Default)]
struct Said {
    reliable: Option<Reliable>,
    is_described: bool,
    /// The 200 that waits for it.
    answer: Option<Answer>,
}

pub(super) type Answer = Box<dyn FnOnce() + Send>;

impl Insistence {
    /// `None`: nobody demands it.
    pub(super) fn of(invite: &Request, t1: Duration) -> Option<Arc<Self>> {
        let number = invite.cseq_header().and_then(|cseq| cseq.seq()).ok().filter(|_| !invite.body.is_empty());
        demands(invite, OPTION)
            .then(|| Arc::new(Self { invite: number, t1, said: Mutex::default(), settled: Notify::new() }))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 180, or 183 with a description: the first of an INVITE, and nothing behind it. Where it is never acknowledged the INVITE is refused,
    /// and `refused` is told.
    pub(super) fn say(
        self: &Arc<Self>,
        dialog: InviteDialog,
        mut headers: Vec<Header>,
        body: Option<Vec<u8>>,
        refused: Arc<Notify>,
    ) {
        let Some(invite) = self.invite else { return };
        let reliable = Reliable::new(chance(), invite, self.t1, Instant::now());
        headers.extend([Header::Require(OPTION.into()), Header::RSeq(reliable.rseq().to_string().into())]);
        {
            let mut said = self.said();
            if said.reliable.is_some() {
                return;
            }
            (said.reliable, said.is_described) = (Some(reliable), body.is_some());
        }
        if dialog.ringing(Some(headers.clone()), body.clone()).is_ok() {
            let this = Arc::clone(self);
            // It ends with the call's answer, or 64·T1 from now.
            tokio::spawn(async move { this.repeat(&dialog, headers, body, &refused).await });
        }
    }

    async fn repeat(&self, dialog: &InviteDialog, headers: Vec<Header>, body: Option<Vec<u8>>, refused: &Notify) {
        let mut is_over = false;
        while !is_over && let Some(at) = self.due() {
            tokio::select! {
                () = self.settled.notified() => continue,
                () = tokio::time::sleep_until(at.into()) => {}
            }
            let due = self.said().reliable.as_mut().and_then(|reliable| reliable.handle_timeout(Instant::now()));
            is_over = match due {
                _ if !dialog.state().can_cancel() => true,
                Some(Due::Again) => dialog.ringing(Some(headers.clone()), body.clone()).is_err(),
                Some(Due::Refuse) => {
                    self.said().answer = None;
                    // An INVITE that is over needs no answer.
                    let _ = dialog.reject(Some(StatusCode::ServerTimeOut), None);
                    refused.notify_one();
                    true
                }
                None => false,
            };
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
        self.settled.notify_one();
        is_its.then(|| answer.unwrap_or_else(|| Box::new(|| {})))
    }

    /// The 200: now, or when what was said before has arrived.
    pub(super) fn answer(&self, answer: impl FnOnce() + Send + 'static) {
        let mut said = self.said();
        if said.is_described && said.reliable.as_ref().is_some_and(Reliable::is_open) {
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
        self.settled.notify_one();
    }
}
