//! REQUEST_UPDATE of ours (§10.9): what is to change in a request that we made, or in a subscription that began with a PUBLISH of
//! the peer.
//!
//! An update waits for the answer to its request, and for the peer's MAX_REQUEST_UPDATES; what waits is one update, whatever is added to
//! it. Each that was sent is answered by [`Event::UpdateOk`], or by what a refusal ends: see [`Session::update`].

use super::requests::{Kind, Phase, Request};
use super::{Event, RequestId, Session};
use crate::moqt::error::PublishDoneCode;
use crate::moqt::message::{Message, PublishDone, RequestError, RequestOk, Scopes, Update, UpdateOk};

/// An update of ours that has no answer.
pub(super) struct Sent {
    /// It moves a namespace subscription to another prefix.
    moves: bool,
}

impl Request {
    /// We may update it: our own request, or a PUBLISH of the peer.
    fn takes_updates(&self) -> bool {
        let of_ours = self.ours && !matches!(self.kind, Kind::Status);
        (of_ours || matches!(self.kind, Kind::Subscription(_))) && self.phase != Phase::Ended
    }

    /// What this kind of request has; the rest is left out.
    fn fitting(&self, update: Update) -> Update {
        let Update { tokens, forward, priority, prefix, .. } = &update;
        let tokens = tokens.clone();
        match &self.kind {
            Kind::Subscription(subscription) => {
                let new_group_request = update.new_group_request.filter(|_| subscription.dynamic_groups);
                Update { new_group_request, prefix: None, ..update }
            }
            Kind::Listing(_) => Update { tokens, prefix: prefix.clone(), ..Update::default() },
            Kind::Tracks => Update { tokens, prefix: prefix.clone(), forward: *forward, ..Update::default() },
            Kind::Fetch(_) => Update { tokens, priority: *priority, ..Update::default() },
            Kind::Publication(_) | Kind::Announcement | Kind::Status => Update { tokens, ..Update::default() },
        }
    }
}

impl Session {
    /// Changes a request of ours, or a PUBLISH of the peer that we accepted; what does not belong to its kind is left out. A refusal
    /// ends it: a subscription with [`Event::UpdateError`] and then [`Event::PublishDone`], everything else with
    /// [`Event::RequestError`]. `false`: no such request lives.
    pub fn update(&mut self, request: RequestId, update: Update) -> bool {
        let Some(entry) = self.requests.get_mut(&request).filter(|entry| entry.takes_updates()) else { return false };
        let update = entry.fitting(update);
        if let (Kind::Subscription(subscription), Some(_)) = (&mut entry.kind, update.forward) {
            subscription.next_forward = None;
        }
        let waiting = entry.next_update.take();
        entry.next_update = Some(Box::new(waiting.map_or_else(Update::default, |waiting| *waiting).then(update)));
        self.send_waiting(request);
        true
    }

    /// FORWARD of a subscription that is established; others do nothing. The last word counts: while an update is unanswered
    /// FORWARD 0 waits, and what it meant is forgotten when FORWARD 1 follows. That waits for nothing but the peer's
    /// MAX_REQUEST_UPDATES: who answers no update is paused once, and never for good.
    pub fn update_forward(&mut self, request: RequestId, forward: bool) {
        let most = if forward { self.peer_updates } else { 1 };
        let Some(entry) = self.requests.get_mut(&request).filter(|entry| entry.phase == Phase::Accepted) else {
            return;
        };
        let Kind::Subscription(subscription) = &mut entry.kind else { return };
        subscription.next_forward = None;
        if subscription.forward == forward {
            return;
        }
        if entry.sent_updates.len() as u64 >= most {
            subscription.next_forward = Some(forward);
            return;
        }
        self.say_forward(request, forward);
    }

    /// REQUEST_UPDATE, whatever came before.
    pub(crate) fn say_forward(&mut self, request: RequestId, forward: bool) {
        self.say_update(request, &Update { forward: Some(forward), ..Update::default() });
    }

    /// What waited for the answer to its request, or to the updates before it.
    pub(super) fn send_waiting(&mut self, request: RequestId) {
        let most = self.peer_updates;
        let Some(entry) = self.requests.get_mut(&request).filter(|entry| entry.phase == Phase::Accepted) else {
            return;
        };
        if entry.sent_updates.len() as u64 >= most {
            return;
        }
        if let Some(update) = entry.next_update.take() {
            self.say_update(request, &update);
        }
        let Some(Kind::Subscription(subscription)) = self.requests.get_mut(&request).map(|entry| &mut entry.kind)
        else {
            return;
        };
        if let Some(forward) = subscription.next_forward.take() {
            self.update_forward(request, forward);
        }
    }

    pub(crate) fn say_update(&mut self, request: RequestId, update: &Update) {
        let id = self.next_request;
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let stream = entry.stream;
        if !self.send(stream, &Message::RequestUpdate { id, parameters: update.parameters() }) {
            return self.events.push_back(Event::UpdateError { request, error: super::requests::too_long() });
        }
        self.next_request += 2;
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.sent_updates.push_back(Sent { moves: update.prefix.is_some() });
        if let (Kind::Subscription(subscription), Some(forward)) = (&mut entry.kind, update.forward) {
            subscription.forward = forward;
        }
    }

    // ---- the peer answers them ----

    pub(super) fn handle_update_ok(&mut self, request: RequestId, ok: &RequestOk) {
        if let Err(violation) = ok.fit(self.draft, Scopes::REQUEST_UPDATE_OK) {
            return self.fail(violation);
        }
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let sent = entry.sent_updates.pop_front();
        if let (Kind::Listing(shown), Some(Sent { moves: true })) = (&mut entry.kind, sent) {
            // What is announced from here on stands under the new prefix (§10.9.2).
            let gone = std::mem::take(shown);
            self.events.extend(gone.into_iter().map(|suffix| Event::NamespaceDone { request, suffix }));
        }
        self.events.push_back(Event::UpdateOk { request, ok: UpdateOk::from_parameters(&ok.parameters) });
        self.send_waiting(request);
    }

    /// Of updates that were refused together there is one answer (§10.9.1), so nothing more is sent.
    pub(super) fn handle_update_error(&mut self, request: RequestId, error: RequestError) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.next_update = None;
        entry.sent_updates.pop_front();
        match &mut entry.kind {
            Kind::Subscription(subscription) => {
                subscription.next_forward = None;
                self.events.push_back(Event::UpdateError { request, error });
            }
            Kind::Publication(_) => {
                let (code, reason) = (PublishDoneCode::UpdateFailed as u64, "the update was refused".to_owned());
                self.end_publication(request, PublishDone { code, streams: 0, reason });
                self.events.push_back(Event::RequestError { request, error });
            }
            _ => self.handle_request_error(request, error),
        }
    }
}
