//! REQUEST_UPDATE of the peer (§10.9): what it changes in a request, and the one answer that each gets.
//!
//! Updates that come before the answer to their request are folded into one state and answered behind it; there are at most
//! [`constants::EARLY_UPDATES`] of them.

use super::requests::{Kind, Phase, error};
use super::{Event, RequestId, Session, Transmit, constants, priority};
use crate::moqt::error::{CloseCode, RequestErrorCode, ResetCode, Violation};
use crate::moqt::message::{DEFAULT_PRIORITY, Message, Parameters, RequestOk};

impl Session {
    pub(super) fn handle_update(&mut self, request: RequestId, update: u64, mut parameters: Parameters) {
        if !self.peer_ids.take(update) {
            return self
                .fail(Violation::new(CloseCode::InvalidRequestId, "a Request ID of the wrong parity or used twice"));
        }
        if let Err(violation) = self.resolve_tokens(Some(&mut parameters)) {
            return self.fail(violation);
        }
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let stream = entry.stream;
        let waits = entry.phase == Phase::Asked && !entry.ours;
        if waits {
            entry.updates += 1;
            if entry.updates > constants::EARLY_UPDATES {
                let code = match self.draft.profile().has_range_filters {
                    true => CloseCode::TooManyRequestUpdates,
                    false => CloseCode::ProtocolViolation,
                };
                let reason = "more updates than a request without an answer may have";
                return self.fail(Violation::new(code, reason));
            }
        }
        match &mut entry.kind {
            Kind::Publication(publication) => {
                publication.forward = parameters.forward.unwrap_or(publication.forward);
                publication.subscriber_priority = parameters.priority.unwrap_or(publication.subscriber_priority);
                publication.filter = parameters.filter.or(publication.filter);
                publication.timeouts.ask(&parameters);
                let urgency = parameters.priority;
                if !waits {
                    let (forward, filter) = (publication.forward, publication.filter.take());
                    self.forward_changed(request);
                    if urgency.is_some() {
                        self.priority_changed(request);
                    }
                    let tokens = parameters.tokens;
                    self.events.push_back(Event::Updated { request, forward, filter, tokens });
                    self.say(request, &Message::RequestOk(RequestOk::default()));
                }
            }
            Kind::Announcement | Kind::Listing(_) | Kind::Tracks if parameters.namespace_prefix.is_some() => {
                // §10.9.2: a failed update ends the request.
                self.remove_request(request);
                let reason = "the prefix of a namespace subscription can't be changed here";
                self.refuse(stream, error(RequestErrorCode::NotSupported, reason));
                self.events.push_back(Event::Cancelled { request });
            }
            Kind::Tracks if !waits => {
                // Since draft 20 it is for what is offered later; before, it has no place here.
                if let Some(forward) = parameters.forward {
                    self.events.push_back(Event::Updated { request, forward, filter: None, tokens: Vec::new() });
                }
                self.say(request, &Message::RequestOk(RequestOk::default()));
            }
            // A status is answered once, and nothing else is said about it (§10.14).
            Kind::Status => self.out_of_place(),
            Kind::Fetch(fetching) => {
                let (stream, urgency) = fetching.turn(parameters.priority);
                if let Some(stream) = stream {
                    self.queue(Transmit::Priority { stream, priority: priority::data(urgency, DEFAULT_PRIORITY) });
                }
                if !waits {
                    self.say(request, &Message::RequestOk(RequestOk::default()));
                }
            }
            _ if waits => {}
            _ => self.say(request, &Message::RequestOk(RequestOk::default())),
        }
    }

    /// Open streams can't end by FIN when objects are left out (§11.4.3).
    fn forward_changed(&mut self, request: RequestId) {
        let Some(Kind::Publication(publication)) = self.requests.get(&request).map(|entry| &entry.kind) else { return };
        if !publication.forward {
            for stream in publication.open.clone() {
                self.drop_outbound(stream, ResetCode::Cancelled as u64);
            }
        }
    }

    /// Open streams of a subscription that has another priority now (§7.2).
    fn priority_changed(&mut self, request: RequestId) {
        let Some(Kind::Publication(publication)) = self.requests.get(&request).map(|entry| &entry.kind) else { return };
        let (subscriber, default) = (publication.subscriber_priority, publication.publisher_priority);
        for stream in publication.open.clone() {
            let Some(outbound) = self.outbound.get(&stream) else { continue };
            let publisher = outbound.objects.header().priority.unwrap_or(default);
            self.queue(Transmit::Priority { stream, priority: priority::data(subscriber, publisher) });
        }
    }
}
