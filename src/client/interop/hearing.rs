//! What one session of a case heard, and whether it is what was said.

use std::collections::BTreeSet;

use super::cases::Heard;
use super::speech::{DATAGRAMS, GROUPS, LIVE_GROUP, OBJECTS, Speech};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{DEFAULT_PRIORITY, PublishDone};
use crate::moqt::{FullTrackName, Object, PublishDoneCode, Status, TrackNamespace};

/// A relay can't make a case remember more.
const MOST: usize = 4096;
/// Of [`DATAGRAMS`], on a path that may lose some.
const FEWEST_DATAGRAMS: usize = 8;
/// The first may have been joined in its middle, the last goes on: the one between them is history.
const HISTORY_GROUPS: usize = 3;

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
    /// By PUBLISH.
    offers: Vec<FullTrackName>,
    /// What a FETCH brought, and how its stream ended (`true`: by a reset).
    fetched: Vec<Fetched>,
    fetch_ended: Option<bool>,
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

    pub(super) fn offered(&mut self, track: FullTrackName) {
        if self.offers.len() < MOST {
            self.offers.push(track);
        }
    }

    pub(super) fn is_offered(&self, track: &FullTrackName) -> bool {
        self.offers.contains(track)
    }

    pub(super) fn fetched(&mut self, fetched: Fetched) {
        if self.fetched.len() < MOST {
            self.fetched.push(fetched);
        }
    }

    pub(super) fn fetch_ended(&mut self, reset: bool) {
        self.fetch_ended = Some(reset);
    }

    /// Of live objects: the first group that did not begin before they were heard. Zero, when there is none yet.
    pub(super) fn whole_group(&self) -> u64 {
        let groups: BTreeSet<u64> = self.places().into_iter().map(|(group, _)| group).collect();
        groups.into_iter().nth(1).unwrap_or_default()
    }

    /// All of the group, in its order, and nothing else.
    pub(super) fn judge_fetched(&self, group: u64) -> Judgement {
        let Some(reset) = self.fetch_ended else { return Judgement::Incomplete };
        match self.fetched_places(Speech::Live) {
            _ if reset => Judgement::Wrong("the stream of the FETCH was reset".to_owned()),
            Err(problem) => Judgement::Wrong(problem),
            Ok(places) if places == (0..LIVE_GROUP).map(|id| (group, id)).collect::<Vec<_>>() => Judgement::Right,
            Ok(places) => Judgement::Wrong(format!("{} objects, not group {group} whole: {places:?}", places.len())),
        }
    }

    /// A FETCH that joined a subscription: what it brought and what came live follow each other without a hole and without an
    /// overlap, from the beginning of a group before that of the first live object on.
    fn judge_joined(&self) -> Judgement {
        if let Some(problem) = self.problem(Speech::Live) {
            return Judgement::Wrong(problem);
        }
        let Some(reset) = self.fetch_ended else { return Judgement::Incomplete };
        let fetched = match self.fetched_places(Speech::Live) {
            _ if reset => return Judgement::Wrong("the stream of the FETCH was reset".to_owned()),
            Err(problem) => return Judgement::Wrong(problem),
            Ok(places) => places,
        };
        let live = self.places();
        let (Some(first), Some(last), Some(joint)) = (fetched.first(), live.last(), live.first()) else {
            return if fetched.is_empty() { Judgement::Wrong("no objects".to_owned()) } else { Judgement::Incomplete };
        };
        let at = |place: &(u64, u64)| place.0 * LIVE_GROUP + place.1;
        if let Some(again) = fetched.iter().find(|place| live.contains(place)) {
            return Judgement::Wrong(format!("object {}/{} was fetched and came live", again.0, again.1));
        }
        if first.1 != 0 || first.0 >= joint.0 {
            return Judgement::Wrong(format!("it begins with object {}/{}", first.0, first.1));
        }
        match at(last) - at(first) + 1 == (fetched.len() + live.len()) as u64 {
            true => Judgement::Right,
            false => Judgement::Incomplete,
        }
    }

    /// Where the fetched objects belong, as they came. The error: one that is not what was said, or out of its order.
    fn fetched_places(&self, speech: Speech) -> Result<Vec<(u64, u64)>, String> {
        let mut places: Vec<(u64, u64)> = Vec::new();
        for fetched in &self.fetched {
            let Fetched::Object { object, .. } = fetched else { continue };
            if places.last().is_some_and(|last| *last >= (object.group, object.id)) {
                return Err(format!("object {} came out of its order", place(object)));
            }
            if object.payload != speech.payload(object.group, object.id) {
                return Err(format!(
                    "object {} holds {} bytes that were not sent",
                    place(object),
                    object.payload.len()
                ));
            }
            places.push((object.group, object.id));
        }
        Ok(places)
    }

    pub(super) fn judge(&self, heard: Heard, unknown_streams: u64) -> Judgement {
        match heard {
            // The caller knows what is to be found there.
            Heard::Offered | Heard::Fetched => Judgement::Incomplete,
            Heard::Joined => self.judge_joined(),
            Heard::History => self.judge_history(),
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
        words.extend(self.offers.first().map(|track| format!("PUBLISH {track}")));
        if !self.fetched.is_empty() || self.fetch_ended.is_some() {
            let objects = self.fetched.iter().filter(|fetched| matches!(fetched, Fetched::Object { .. })).count();
            words.push(format!("{objects} objects fetched"));
        }
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

    /// A group between the first and the last that were heard is whole.
    fn judge_history(&self) -> Judgement {
        let groups: BTreeSet<u64> = self.places().into_iter().map(|(group, _)| group).collect();
        match self.judge_objects(Speech::Live, LIVE_GROUP as usize) {
            Judgement::Right if groups.len() < HISTORY_GROUPS => Judgement::Incomplete,
            other => other,
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
