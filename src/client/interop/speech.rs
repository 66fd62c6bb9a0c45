//! What a publisher of a case says to one subscription, object by object, in its own time.
//!
//! Every payload says where it belongs or has the size that the case prescribes, so that whoever hears it can tell whether it
//! is the one that was sent.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::PublishDone;
use crate::moqt::session::{RequestId, SubgroupId};
use crate::moqt::{Object, PublishDoneCode, Session, SubgroupHeader};

/// The case `data-subgroup-basic`: so many groups of so many objects.
pub(super) const GROUPS: u64 = 3;
pub(super) const OBJECTS: u64 = 5;
/// One object per group, each a datagram.
pub(super) const DATAGRAMS: u64 = 15;
/// Objects of a group that goes on for ever.
pub(super) const LIVE_GROUP: u64 = 5;
const QUICK: Duration = Duration::from_millis(2);
const FRAME: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Accepts, and says no word.
    Nothing,
    /// [`GROUPS`] groups of [`OBJECTS`], one subgroup stream each ended by FIN, then PUBLISH_DONE.
    Groups,
    /// [`DATAGRAMS`] datagrams, then PUBLISH_DONE.
    Datagrams,
    /// Fifty objects a second for as long as the case lasts.
    Live,
}

/// The fields behind the namespace of `data-subgroup-basic`: the case, in the words of the MoQT test protocol. One subgroup per
/// group, from group 0 and object 0 to group 2 and object 4, 5 objects in a group, the first of 64 and the others of
/// 32 bytes, 2 ms apart, steps of one, no markers, no extensions, no timeout.
pub(super) const DESCRIPTION: [&str; 16] =
    ["moq-test-00", "0", "0", "0", "2", "4", "5", "64", "32", "2", "1", "1", "0", "-1", "-1", "0"];

impl Speech {
    /// What the object at this place holds.
    pub(super) fn payload(self, group: u64, id: u64) -> Bytes {
        match self {
            Speech::Groups => Bytes::from(vec![b't'; if id == 0 { 64 } else { 32 }]),
            Speech::Nothing | Speech::Datagrams | Speech::Live => Bytes::from(format!("{group}/{id}")),
        }
    }

    fn group_objects(self) -> u64 {
        match self {
            Speech::Groups => OBJECTS,
            Speech::Datagrams | Speech::Nothing => 1,
            Speech::Live => LIVE_GROUP,
        }
    }

    fn groups(self) -> u64 {
        match self {
            Speech::Nothing => 0,
            Speech::Groups => GROUPS,
            Speech::Datagrams => DATAGRAMS,
            Speech::Live => u64::MAX,
        }
    }

    fn pause(self) -> Duration {
        match self {
            Speech::Groups => QUICK,
            Speech::Datagrams | Speech::Live | Speech::Nothing => FRAME,
        }
    }
}

/// A speech on its way to one subscription.
pub(super) struct Speaker {
    pub(super) request: RequestId,
    speech: Speech,
    /// The object that comes next.
    group: u64,
    id: u64,
    subgroup: Option<SubgroupId>,
    next_at: Option<Instant>,
}

impl Speaker {
    pub(super) fn new(request: RequestId, speech: Speech, now: Instant) -> Self {
        let next_at = (speech != Speech::Nothing).then_some(now);
        Self { request, speech, group: 0, id: 0, subgroup: None, next_at }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Says what is due.
    pub(super) fn speak(&mut self, session: &mut Session, now: Instant) {
        while let Some(at) = self.next_at.filter(|at| *at <= now) {
            self.next_at = Some(at + self.speech.pause());
            self.say(session);
            if self.group >= self.speech.groups() {
                self.next_at = None;
                let code = PublishDoneCode::TrackEnded as u64;
                session.end_publication(self.request, PublishDone { code, streams: 0, reason: "track ended".into() });
            }
        }
    }

    fn say(&mut self, session: &mut Session) {
        let (group, id) = (self.group, self.id);
        let object = Object { group, id, payload: self.speech.payload(group, id), ..Object::default() };
        match self.speech {
            Speech::Datagrams => drop(session.send_datagram(self.request, &Object { end_of_group: true, ..object })),
            _ => self.write(session, &object),
        }
        self.id += 1;
        if self.id == self.speech.group_objects() {
            (self.group, self.id) = (group + 1, 0);
            if let Some(subgroup) = self.subgroup.take() {
                session.finish_subgroup(subgroup);
            }
        }
    }

    /// A group that nobody wants yet is not begun in its middle.
    fn write(&mut self, session: &mut Session, object: &Object) {
        if object.id == 0 {
            let header = SubgroupHeader { group: object.group, first_object: true, ..SubgroupHeader::default() };
            self.subgroup = session.open_subgroup(self.request, &header);
        }
        if let Some(subgroup) = self.subgroup {
            session.send_object(subgroup, object);
        }
    }
}
