//! GOAWAY on the stream of one request (§10.4): the peer is to make that request again, elsewhere or here; the session goes on.

use super::control::Deadline;
use super::requests::{Kind, Phase};
use super::{Event, RequestId, Role, Session, Transmit};
use crate::moqt::error::ResetCode;
use crate::moqt::message::{GoAway, Message};

impl Session {
    /// Sends one accepted request of the peer away. When its time is over and the peer has not ended it, its stream is reset with
    /// GOING_AWAY, what it has open too, and [`Event::Cancelled`] tells. A client can't name a URI. `false`: the peer has no such
    /// request, it was sent away before, or the draft (16) moves sessions only.
    pub fn goaway_request(&mut self, request: RequestId, mut goaway: GoAway) -> bool {
        let Some(entry) = self.requests.get_mut(&request).filter(|entry| !entry.ours && entry.phase == Phase::Accepted)
        else {
            return false;
        };
        if self.older.is_some() || matches!(entry.kind, Kind::Status) || std::mem::replace(&mut entry.sent_away, true) {
            return false;
        }
        if self.role == Role::Client {
            goaway.uri.clear();
        }
        self.moving.extend(goaway.timeout.map(|time| (Deadline::In(time), request)));
        self.say(request, &Message::GoAway { goaway, request: None });
        true
    }

    pub(super) fn reset_unmoved(&mut self) {
        let now = self.now;
        for (by, _) in &mut self.moving {
            *by = Deadline::At(by.counted_from(now));
        }
        let is_over = |by: &Deadline| by.counted_from(now) <= now;
        let over: Vec<RequestId> =
            self.moving.extract_if(.., |(by, _)| is_over(by)).map(|(_, request)| request).collect();
        for request in over {
            self.reset_data(request, ResetCode::GoingAway);
            let Some(gone) = self.remove_request(request) else { continue };
            let (stream, code) = (gone.stream, ResetCode::GoingAway as u64);
            self.streams.remove(&stream);
            self.queue(Transmit::Reset { stream, code });
            self.queue(Transmit::Stop { stream, code });
            self.events.push_back(Event::Cancelled { request });
        }
    }
}
