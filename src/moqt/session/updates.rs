//! REQUEST_UPDATE of the peer (§10.9): told to the application, which answers each, and carried out when it is accepted.
//!
//! Updates are answered in order. One that is accepted before its request is changes what the request begins with, and its answer
//! stands behind the request's; all of them together are told by one [`Event::Updated`]. At most [`constants::EARLY_UPDATES`] of a
//! request have no answer. One that is refused ends its request.

use std::collections::VecDeque;

use super::fill::{self, Wanted};
use super::outbound::Outbound;
use super::requests::{Kind, Phase, Request, error};
use super::{Event, RequestId, Session, StreamId, Transmit, constants, priority};
use crate::moqt::error::{CloseCode, PublishDoneCode, RequestErrorCode, ResetCode, Violation};
use crate::moqt::message::{
    DEFAULT_PRIORITY, Location, Message, Parameters, PublishDone, RequestError, RequestOk, Update, UpdateOk,
};

/// One update of the peer without an answer.
pub(super) struct PeerUpdate {
    id: u64,
    update: Update,
    fill: Option<Wanted>,
    /// It was accepted before its request.
    ok: Option<UpdateOk>,
}

impl Request {
    /// Nothing is said to the peer before the answer to its request.
    fn waits(&self) -> bool {
        self.phase == Phase::Asked && !self.ours
    }
}

impl Session {
    pub(super) fn handle_update(&mut self, request: RequestId, id: u64, mut parameters: Parameters) {
        if !self.peer_ids.take(id) {
            return self
                .fail(Violation::new(CloseCode::InvalidRequestId, "a Request ID of the wrong parity or used twice"));
        }
        if let Err(violation) = self.resolve_tokens(Some(&mut parameters)) {
            return self.fail(violation);
        }
        let Some(entry) = self.requests.get_mut(&request) else { return };
        // A status is answered once, and nothing else is said about it (§10.14); PUBLISH_DONE is the last word (§10.11).
        if matches!(entry.kind, Kind::Status) || entry.phase == Phase::Ended {
            return self.out_of_place();
        }
        if let Some(refusal) = fill::unserved_by(&entry.kind, &parameters) {
            return self.fail_update(request, refusal);
        }
        if entry.updates.len() == constants::EARLY_UPDATES {
            let reason = "more updates than a request may have without an answer";
            return match self.draft.profile().has_range_filters {
                true => self.fail(Violation::new(CloseCode::TooManyRequestUpdates, reason)),
                // No bound was told.
                false => self.fail_update(request, error(RequestErrorCode::ExcessiveLoad, reason)),
            };
        }
        let fill = fill::wanted(&parameters);
        let update = Update::from_parameters(parameters);
        entry.updates.push_back(PeerUpdate { id, update: update.clone(), fill, ok: None });
        self.events.push_back(Event::Update { request, update: Box::new(update) });
    }

    /// REQUEST_OK to the oldest update that has no answer; what it changes is in force from here on.
    pub fn accept_update(&mut self, request: RequestId, ok: UpdateOk) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let Some(accepted) = entry.updates.iter_mut().find(|update| update.ok.is_none()) else { return };
        accepted.ok = Some(ok);
        let update = std::mem::take(&mut accepted.update);
        self.carry_out(request, &update);
        self.answer_updates(request, None);
    }

    /// REQUEST_ERROR to the oldest update that has no answer. Its request ends with it (§10.9.1): a subscription with
    /// PUBLISH_DONE UPDATE_FAILED, and what it has open is reset; everything else with its stream. No event follows.
    pub fn reject_update(&mut self, request: RequestId, error: RequestError) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        if entry.updates.iter().any(|update| update.ok.is_none()) {
            self.end_updated(request, error);
        }
    }

    fn carry_out(&mut self, request: RequestId, update: &Update) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let waits = entry.waits();
        match &mut entry.kind {
            Kind::Publication(publication) => {
                publication.forward = update.forward.unwrap_or(publication.forward);
                publication.subscriber_priority = update.priority.unwrap_or(publication.subscriber_priority);
                publication.filter = update.filter.or(publication.filter);
                publication.timeouts.ask(update.object_delivery_timeout, update.subgroup_delivery_timeout);
                if !waits {
                    let (forward, filter) = (publication.forward, publication.filter.take());
                    self.forward_changed(request);
                    if update.priority.is_some() {
                        self.priority_changed(request);
                    }
                    self.events.push_back(Event::Updated { request, forward, filter });
                }
            }
            Kind::Fetch(fetching) => {
                if let (Some(stream), urgency) = fetching.turn(update.priority) {
                    self.queue(Transmit::Priority { stream, priority: priority::data(urgency, DEFAULT_PRIORITY) });
                }
            }
            // What is told from here on stands under the new prefix (§10.9.2).
            Kind::Listing(told) if update.prefix.is_some() => told.clear(),
            _ => {}
        }
    }

    /// The request was accepted: so are the updates that were accepted before it.
    pub(super) fn tell_early_updates(&mut self, request: RequestId, largest: Option<Location>) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        if entry.updates.iter().all(|update| update.ok.is_none()) {
            return;
        }
        if let Kind::Publication(publication) = &mut entry.kind {
            let (forward, filter) = (publication.forward, publication.filter.take());
            self.events.push_back(Event::Updated { request, forward, filter });
        }
        self.answer_updates(request, largest);
    }

    fn answer_updates(&mut self, request: RequestId, largest: Option<Location>) {
        while let Some(entry) = self.requests.get_mut(&request).filter(|entry| !entry.waits()) {
            let Some(answered) = entry.updates.pop_front_if(|update| update.ok.is_some()) else { return };
            if entry.updates.is_empty() {
                entry.updates = VecDeque::new();
            }
            let mut ok = answered.ok.unwrap_or_default();
            ok.largest = ok.largest.max(largest);
            self.say(request, &Message::RequestOk(RequestOk { parameters: ok.parameters(), ..RequestOk::default() }));
            if let Some((wanted, largest)) = answered.fill.zip(ok.largest) {
                self.ask_fill(request, answered.id, wanted, largest);
            }
        }
    }

    /// We refuse an update by ourselves.
    fn fail_update(&mut self, request: RequestId, error: RequestError) {
        self.end_updated(request, error);
        self.events.push_back(Event::Cancelled { request });
    }

    fn end_updated(&mut self, request: RequestId, error: RequestError) {
        if self.asked(request).is_some() {
            return self.reject(request, error);
        }
        self.reset_data(request, reset_code(error.code));
        let Some(gone) = self.remove_request(request) else { return };
        let stream = gone.stream;
        self.send(stream, &Message::RequestError(error));
        // Of everything else the peer closes its half when it hears of it.
        if let Kind::Publication(publication) = gone.kind {
            let (code, streams) = (PublishDoneCode::UpdateFailed as u64, publication.streams);
            let reason = "an update was refused".to_owned();
            self.send(stream, &Message::PublishDone(PublishDone { code, streams, reason }));
        }
        self.queue(Transmit::Finish { stream });
        self.let_go(stream);
    }

    /// What the request has open ends in the middle.
    pub(super) fn reset_data(&mut self, request: RequestId, code: ResetCode) {
        let open = match self.requests.get(&request).map(|entry| &entry.kind) {
            Some(Kind::Publication(publication)) => publication.open.clone(),
            Some(Kind::Fetch(fetching)) => fetching.stream.into_iter().collect(),
            _ => Vec::new(),
        };
        for stream in open {
            self.drop_outbound(stream, code as u64);
        }
    }

    /// Open streams can't end by FIN when objects are left out (§11.4.3).
    fn forward_changed(&mut self, request: RequestId) {
        let Some(Kind::Publication(publication)) = self.requests.get(&request).map(|entry| &entry.kind) else { return };
        if !publication.forward {
            self.reset_data(request, ResetCode::Cancelled);
        }
    }

    /// Open streams of a subscription that has another priority now (§7.2).
    pub(super) fn priority_changed(&mut self, request: RequestId) {
        let Some(Kind::Publication(publication)) = self.requests.get(&request).map(|entry| &entry.kind) else { return };
        let open = publication.open.iter().filter_map(|stream| Some((*stream, self.outbound.get(stream)?)));
        let urgency = |outbound: &Outbound| publication.urgency(outbound.objects.header());
        let open: Vec<(StreamId, i32)> = open.map(|(stream, outbound)| (stream, urgency(outbound))).collect();
        for (stream, priority) in open {
            self.queue(Transmit::Priority { stream, priority });
        }
    }
}

/// How the data of a request ends whose update was refused with this.
fn reset_code(error: u64) -> ResetCode {
    const EXPIRED: u64 = RequestErrorCode::ExpiredAuthToken as u64;
    const EXCESSIVE: u64 = RequestErrorCode::ExcessiveLoad as u64;
    match error {
        EXPIRED => ResetCode::ExpiredAuthToken,
        EXCESSIVE => ResetCode::ExcessiveLoad,
        _ => ResetCode::Cancelled,
    }
}
