//! What one session of a case heard, and whether it is what was said.

use std::collections::BTreeSet;

use super::cases::Heard;
use super::speech::{DATAGRAMS, GROUPS, OBJECTS, Speech};
use crate::moqt::message::{DEFAULT_PRIORITY, PublishDone};
use crate::moqt::{Object, PublishDoneCode, Status, TrackNamespace};

/// A relay can't make a case remember more.
const MOST: usize = 4096;
/// Of [`DATAGRAMS`], on a path that may lose some.
const FEWEST_DATAGRAMS: usize = 8;

/// What a session heard since its case began.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// `true`: it came as a datagram.
    objects: Vec<(bool, Object)>,
    streams_ended: u64,
    streams_reset: u64,
    done: Option<PublishDone>,
    /// NAMESPACE, or NAMESPACE_DONE (`true`), with its suffix.
    namespaces: Vec<(bool, TrackNamespace)>,
}

/// How what was heard stands to what should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// More may come.
    Incomplete,
    Right,
    Wrong(String),
}

impl Hearing {
    pub(super) fn object(&mut self, datagram: bool, object: Object) {
        if self.objects.len() < MOST {
            self.objects.push((datagram, object));
        }
    }

    pub(super) fn stream_ended(&mut self, reset: bool) {
        self.streams_ended += 1;
        self.streams_reset += u64::from(reset);
    }

    pub(super) fn done(&mut self, done: PublishDone) {
        self.done = Some(done);
    }

    pub(super) fn namespace(&mut self, done: bool, suffix: TrackNamespace) {
        if self.namespaces.len() < MOST {
            self.namespaces.push((done, suffix));
        }
    }

    pub(super) fn judge(&self, heard: Heard, unknown_streams: u64) -> Judgement {
        match heard {
            Heard::Namespace { done } => self.judge_namespace(done),
            Heard::Live(least) => self.judge_objects(Speech::Live, least),
            Heard::Datagrams => self.judge_datagrams(),
            Heard::Groups => self.judge_groups(unknown_streams),
        }
    }

    /// In words, for a report.
    pub(super) fn describe(&self) -> String {
        let mut words = Vec::new();
        if !self.namespaces.is_empty() {
            let names = self.namespaces.iter().map(|(done, suffix)| match done {
                false => format!("NAMESPACE {suffix}"),
                true => format!("NAMESPACE_DONE {suffix}"),
            });
            words.push(names.take(8).collect::<Vec<_>>().join(", "));
        }
        let datagrams = self.objects.iter().filter(|(datagram, _)| *datagram).count();
        words.push(format!("{} objects on streams", self.objects.len() - datagrams));
        words.push(format!("{datagrams} datagrams"));
        words.push(format!("{} streams ended, {} of them reset", self.streams_ended, self.streams_reset));
        words.extend(self.done.as_ref().map(|done| format!("PUBLISH_DONE {:#x}", done.code)));
        words.join("; ")
    }

    fn judge_namespace(&self, done: bool) -> Judgement {
        let itself = TrackNamespace::default();
        match self.namespaces.iter().any(|(of, suffix)| *of == done && *suffix == itself) {
            true => Judgement::Right,
            false => Judgement::Incomplete,
        }
    }

    fn judge_objects(&self, speech: Speech, least: usize) -> Judgement {
        if let Some(problem) = self.problem(speech) {
            return Judgement::Wrong(problem);
        }
        if self.places().len() >= least { Judgement::Right } else { Judgement::Incomplete }
    }

    fn judge_datagrams(&self) -> Judgement {
        match self.objects.iter().find(|(datagram, object)| !datagram && object.status == Status::Normal) {
            Some((_, object)) => Judgement::Wrong(format!("object {} came on a stream", place(object))),
            None if self.places().len() as u64 > DATAGRAMS => Judgement::Wrong("more datagrams than were sent".into()),
            None => self.judge_objects(Speech::Datagrams, FEWEST_DATAGRAMS),
        }
    }

    /// PUBLISH_DONE has come, and so have all the streams that it counts; then every object must be there.
    fn judge_groups(&self, unknown_streams: u64) -> Judgement {
        if let Some(problem) = self.problem(Speech::Groups) {
            return Judgement::Wrong(problem);
        }
        let Some(done) = &self.done else { return Judgement::Incomplete };
        if done.code != PublishDoneCode::TrackEnded as u64 {
            return Judgement::Wrong(format!("PUBLISH_DONE {:#x}, not TRACK_ENDED", done.code));
        }
        let all = GROUPS * OBJECTS;
        let arrived = self.places().len() as u64;
        let expects = if done.streams == unknown_streams { GROUPS } else { done.streams };
        match self.streams_ended >= expects {
            true if arrived == all && self.streams_reset == 0 => Judgement::Right,
            true => Judgement::Wrong(format!("{arrived} of {all} objects, {} streams reset", self.streams_reset)),
            false => Judgement::Incomplete,
        }
    }

    /// Where the objects belong, whatever they hold.
    fn places(&self) -> BTreeSet<(u64, u64)> {
        let normal = self.objects.iter().filter(|(_, object)| object.status == Status::Normal);
        normal.map(|(_, object)| (object.group, object.id)).collect()
    }

    /// The first object that is not what was said.
    fn problem(&self, speech: Speech) -> Option<String> {
        let mut seen = BTreeSet::new();
        let normal = self.objects.iter().map(|(_, object)| object).filter(|object| object.status == Status::Normal);
        for object in normal {
            let at = place(object);
            if !seen.insert((object.group, object.id)) {
                return Some(format!("object {at} came twice"));
            }
            if object.payload != speech.payload(object.group, object.id) {
                return Some(format!("object {at} holds {} bytes that were not sent", object.payload.len()));
            }
            if object.subgroup != 0 || object.priority.is_some_and(|priority| priority != DEFAULT_PRIORITY) {
                let (subgroup, priority) = (object.subgroup, object.priority);
                return Some(format!("object {at} has subgroup {subgroup} and priority {priority:?}"));
            }
            if speech == Speech::Groups && (object.group >= GROUPS || object.id >= OBJECTS) {
                return Some(format!("object {at} was never sent"));
            }
        }
        None
    }
}

fn place(object: &Object) -> String {
    format!("{}/{}", object.group, object.id)
}
