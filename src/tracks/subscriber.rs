//! One subscribed track: which requests bring it, what of it is new, and when it is lost or over.
//!
//! While a link is replaced two requests bring the track at once ([`Feed`]s); the [`Edge`] makes one sequence of them. The
//! pool sends the requests and tells the user; here is decided what there is to tell.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::LeaseId;
use super::edge::{Edge, Verdict};
use super::retry::Asking;
use super::stamp::{TIMESCALE, old_timestamp_us, timestamp_us};
use crate::moqt::message::{Location, PublishDone, SubscribeOk};
use crate::moqt::properties::{kind, number};
use crate::moqt::session::RequestId;
use crate::moqt::{Draft, FullTrackName, Object, PublishDoneCode, Status, StreamId, SubgroupHeader};
use crate::net::LinkId;

/// Streams that PUBLISH_DONE counted but that have not come are waited for: the track's end may be on one of them.
const LATE_END: Duration = Duration::from_secs(2);
/// The same when nobody spoke of an end: audio is back sooner.
const LATE_STREAMS: Duration = Duration::from_millis(500);
/// An object is overtaken when a later one, with a stamp so much greater, was handed up before it.
const OVERTAKEN_US: u64 = 200_000;

/// One request that brings the track.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) link: LinkId,
    pub(super) request: RequestId,
    pub(super) live: bool,
    /// It has brought something since the last request was accepted.
    brings: bool,
    /// Subgroup streams that began, and those that have not ended, with the group that their FIN would end.
    streams: u64,
    open: Vec<(StreamId, Option<u64>)>,
    done: Option<(PublishDone, Instant)>,
    /// The peer sent it away, and it was made again.
    leaving: bool,
    /// The request that was made in its place is accepted: when this one goes.
    leaves_at: Option<Instant>,
}

pub(super) struct Subscriber {
    pub(super) lease: LeaseId,
    pub(super) name: FullTrackName,
    pub(super) feeds: Vec<Feed>,
    pub(super) asking: Asking,
    /// A SUBSCRIBE was sent before.
    pub(super) asked: bool,
    /// The user was told that there is a publisher.
    pub(super) live: bool,
    pub(super) ended: bool,
    /// When one of its requests was made again because its peer wished it.
    moved_at: Option<Instant>,
    /// Objects that came again, from before the live edge, or overtaken.
    pub(super) stale: u64,
    edge: Edge,
    /// The greatest location that was handed up, and its stamp.
    newest: Option<(Location, u64)>,
    ticks_per_second: u64,
    /// Senders of draft 16 may stamp as older drafts of LOC did.
    old_stamps: bool,
}

/// A request of one subscriber, for another who wants the same track.
pub(super) struct Shared {
    feed: Feed,
    ticks_per_second: u64,
    old_stamps: bool,
}

impl Shared {
    pub(super) fn feed(&self) -> (LinkId, RequestId) {
        (self.feed.link, self.feed.request)
    }
}

/// What an object is to the user.
pub(super) enum Taken {
    Frame { timestamp_us: Option<u64>, payload: Bytes, sequence: u64, missing: u64, filled: bool },
    Stale,
    Ended,
    Nothing,
}

impl Subscriber {
    pub(super) fn new(lease: LeaseId, name: FullTrackName) -> Self {
        Self {
            lease,
            name,
            feeds: Vec::new(),
            asking: Asking::default(),
            asked: false,
            live: false,
            ended: false,
            moved_at: None,
            stale: 0,
            edge: Edge::new(),
            newest: None,
            ticks_per_second: TIMESCALE,
            old_stamps: false,
        }
    }

    pub(super) fn is_fed_by(&self, link: LinkId) -> bool {
        self.feeds.iter().any(|feed| feed.link == link)
    }

    pub(super) fn is_live_on(&self, link: LinkId) -> bool {
        self.feeds.iter().any(|feed| feed.link == link && feed.live)
    }

    pub(super) fn feed(&mut self, link: LinkId, request: RequestId) -> Option<&mut Feed> {
        self.feeds.iter_mut().find(|feed| (feed.link, feed.request) == (link, request))
    }

    pub(super) fn add_feed(&mut self, link: LinkId, request: RequestId) {
        let (live, brings, leaving) = (false, false, false);
        let (streams, open, done, leaves_at) = (0, Vec::new(), None, None);
        self.feeds.push(Feed { link, request, live, brings, streams, open, done, leaving, leaves_at });
    }

    /// This request of ours stands, was not sent away before, and no other of the track was since `settled`.
    pub(super) fn may_move(&self, (link, request): (LinkId, RequestId), settled: Instant) -> bool {
        let feed = self.feeds.iter().find(|feed| (feed.link, feed.request) == (link, request));
        let stands = feed.is_some_and(|feed| feed.live && !feed.leaving && feed.done.is_none());
        stands && !self.ended && self.moved_at.is_none_or(|at| at <= settled)
    }

    pub(super) fn moves(&mut self, (link, request): (LinkId, RequestId), now: Instant) {
        self.moved_at = Some(now);
        self.feed(link, request).into_iter().for_each(|feed| feed.leaving = true);
    }

    /// A request of the link was accepted: one that was sent away there goes at this time.
    pub(super) fn note_moved(&mut self, (link, request): (LinkId, RequestId), until: Instant) {
        let leaving = self.feeds.iter_mut().filter(|feed| feed.leaving && feed.link == link && feed.request != request);
        leaving.for_each(|feed| feed.leaves_at = feed.leaves_at.or(Some(until)));
    }

    /// The request that was sent away on this link.
    pub(super) fn leaving(&self, link: LinkId) -> Option<RequestId> {
        self.feeds.iter().find(|feed| feed.link == link && feed.leaving).map(|feed| feed.request)
    }

    /// A request whose successor has taken over by now.
    pub(super) fn left(&self, now: Instant) -> Option<(LinkId, RequestId)> {
        let mut feeds = self.feeds.iter().filter(|feed| feed.leaves_at.is_some_and(|at| at <= now));
        feeds.next().map(|feed| (feed.link, feed.request))
    }

    /// The request that brings the track on `link`, unless it is over.
    pub(super) fn share(&self, link: LinkId) -> Option<Shared> {
        let feed = self.feeds.iter().find(|feed| feed.link == link && feed.done.is_none() && !feed.leaving)?;
        Some(Shared { feed: feed.clone(), ticks_per_second: self.ticks_per_second, old_stamps: self.old_stamps })
    }

    /// `true`: the track was not live before.
    pub(super) fn join(&mut self, shared: Shared) -> bool {
        let live = shared.feed.live;
        (self.ticks_per_second, self.old_stamps) = (shared.ticks_per_second, shared.old_stamps);
        self.feeds.push(shared.feed);
        live && !std::mem::replace(&mut self.live, true)
    }

    pub(super) fn remove_feed(&mut self, link: LinkId, request: RequestId) -> bool {
        let before = self.feeds.len();
        self.feeds.retain(|feed| (feed.link, feed.request) != (link, request));
        self.feeds.len() < before
    }

    /// A request was accepted. `true`: the track was not live before.
    pub(super) fn accept(&mut self, (link, request): (LinkId, RequestId), ok: &SubscribeOk, draft: Draft) -> bool {
        let alone = !self.feeds.iter().any(|feed| feed.live && (feed.link, feed.request) != (link, request));
        let Some(feed) = self.feed(link, request) else { return false };
        feed.live = true;
        self.feeds.iter_mut().for_each(|feed| feed.brings = false);
        self.edge.join(ok.largest, alone);
        self.newest = self.newest.filter(|_| !alone);
        let scale = number(&ok.properties.0, kind::TIMESCALE).filter(|scale| *scale != 0);
        self.ticks_per_second = scale.unwrap_or(TIMESCALE);
        self.old_stamps = draft == Draft::D16;
        self.asking.accepted();
        !std::mem::replace(&mut self.live, true)
    }

    /// `true`: the track was live and no request brings it any more.
    pub(super) fn is_lost(&mut self) -> bool {
        let lost = self.live && !self.feeds.iter().any(|feed| feed.live);
        self.live &= !lost;
        lost && !self.ended
    }

    /// Which of several requests brings something: what one needs is not taken away before another gives it.
    pub(super) fn note_feed(&mut self, link: LinkId) {
        if self.feeds.len() > 1 {
            self.feeds.iter_mut().filter(|feed| feed.link == link).for_each(|feed| feed.brings = true);
        }
    }

    /// What `old` brings comes over `new` too.
    pub(super) fn has_moved(&self, old: LinkId, new: LinkId) -> bool {
        let brings = |link| self.feeds.iter().any(|feed| feed.link == link && feed.brings);
        self.ended || !self.is_live_on(old) || (self.is_live_on(new) && (brings(new) || !brings(old)))
    }

    pub(super) fn object(&mut self, stream: Option<StreamId>, object: Object) -> Taken {
        match object.status {
            _ if self.ended => return Taken::Nothing,
            // Wherever it stands: of several publishers one may end the track for all.
            Status::EndOfTrack => {
                self.ended = true;
                return Taken::Ended;
            }
            Status::EndOfGroup => return Taken::Nothing,
            Status::Normal => {}
        }
        let single = stream.is_none() && object.id == 0 && object.end_of_group;
        let at = Location { group: object.group, object: object.id };
        let stamp = timestamp_us(&object.properties, self.ticks_per_second);
        let timestamp_us = match self.old_stamps {
            true => stamp.or_else(|| old_timestamp_us(&object.properties)),
            false => stamp,
        };
        if self.is_overtaken(at, timestamp_us) {
            return Taken::Stale;
        }
        match self.edge.admit(at, single) {
            Verdict::Stale => Taken::Stale,
            Verdict::New { sequence, missing, filled } => {
                if let Some(us) = timestamp_us.filter(|_| self.newest.is_none_or(|(newest, _)| newest < at)) {
                    self.newest = Some((at, us));
                }
                Taken::Frame { timestamp_us, payload: object.payload, sequence, missing, filled }
            }
        }
    }

    /// What a path held up and another has brought past it is not worth hearing; its place stays empty. On one path alone the
    /// end of a group that loss held up is late behind the next group, not old.
    fn is_overtaken(&self, at: Location, timestamp_us: Option<u64>) -> bool {
        if self.feeds.len() < 2 {
            return false;
        }
        let (Some((newest, newest_us)), Some(us)) = (self.newest, timestamp_us) else { return false };
        at < newest && newest_us.saturating_sub(us) > OVERTAKEN_US
    }

    pub(super) fn stream_began(&mut self, feed: (LinkId, RequestId), stream: StreamId, header: &SubgroupHeader) {
        if let Some(feed) = self.feed(feed.0, feed.1) {
            feed.streams += 1;
            feed.open.push((stream, header.end_of_group.then_some(header.group)));
        }
    }

    pub(super) fn stream_ended(&mut self, feed: (LinkId, RequestId), stream: StreamId, whole: bool) {
        let Some(feed) = self.feed(feed.0, feed.1) else { return };
        let Some(at) = feed.open.iter().position(|(open, _)| *open == stream) else { return };
        let (_, group) = feed.open.swap_remove(at);
        if let Some(group) = group.filter(|_| whole) {
            self.edge.end_group(group);
        }
    }

    /// PUBLISH_DONE may overtake streams that it counts (§10.11): they are waited for.
    pub(super) fn done(&mut self, feed: (LinkId, RequestId), done: PublishDone, now: Instant) {
        let wait = if done.code == PublishDoneCode::TrackEnded as u64 { LATE_END } else { LATE_STREAMS };
        if let Some(feed) = self.feed(feed.0, feed.1) {
            feed.done = Some((done, now + wait));
        }
    }

    /// Some request has said PUBLISH_DONE.
    pub(super) fn is_ending(&self) -> bool {
        self.feeds.iter().any(|feed| feed.done.is_some())
    }

    /// A request that said PUBLISH_DONE and brings nothing more, with its last words.
    pub(super) fn finished(&self, now: Instant) -> Option<(LinkId, RequestId, String)> {
        self.feeds.iter().find_map(|feed| {
            let (done, until) = feed.done.as_ref()?;
            let complete = feed.open.is_empty() && feed.streams >= done.streams;
            let reason = if done.reason.is_empty() { format!("code {:#x}", done.code) } else { done.reason.clone() };
            (complete || *until <= now).then_some((feed.link, feed.request, reason))
        })
    }

    /// When the pool has to look again.
    pub(super) fn due(&self) -> Option<Instant> {
        let done = self.feeds.iter().filter_map(|feed| feed.done.as_ref().map(|(_, until)| *until));
        let leaving = self.feeds.iter().filter_map(|feed| feed.leaves_at);
        done.chain(leaving).chain(self.asking.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moqt::TrackNamespace;
    use crate::tracks::stamp::Stamp;

    fn subscriber() -> Subscriber {
        let namespace = TrackNamespace::new([Bytes::from_static(b"voice")]).unwrap();
        Subscriber::new(LeaseId(1), FullTrackName::new(namespace, &b"audio"[..]).unwrap())
    }

    #[test]
    fn what_another_link_has_overtaken_by_much_is_not_handed_up() {
        let (mut heard, mut stamp) = (subscriber(), Stamp::default());
        let frames: Vec<Object> = (0..100)
            .map(|id| Object { group: 7, id, properties: stamp.encode(1_000_000 + id * 20_000), ..Object::default() })
            .collect();
        let take =
            |heard: &mut Subscriber, id: usize| matches!(heard.object(None, frames[id].clone()), Taken::Frame { .. });
        heard.add_feed(LinkId(1), RequestId(0));
        assert!((0..10).all(|id| take(&mut heard, id)));
        assert!(take(&mut heard, 50) && take(&mut heard, 10), "on one path alone nothing is overtaken");
        heard.add_feed(LinkId(2), RequestId(0));
        assert!(take(&mut heard, 99), "the new link is at the live edge");
        let late: Vec<usize> = (11..99).filter(|id| take(&mut heard, *id)).collect();
        assert_eq!(late, (89..99).collect::<Vec<_>>(), "200 ms behind it are late, not old");
        // Another publisher's stamps may begin anew; his objects stand later.
        let anew = Object { group: 8, id: 0, properties: Stamp::default().encode(0), ..Object::default() };
        assert!(matches!(heard.object(None, anew), Taken::Frame { .. }));
    }

    #[test]
    fn a_link_is_needed_until_another_brings_what_it_does() {
        let (mut heard, old, new) = (subscriber(), LinkId(1), LinkId(2));
        let ok = SubscribeOk::default();
        for link in [old, new] {
            heard.add_feed(link, RequestId(0));
        }
        heard.accept((old, RequestId(0)), &ok, Draft::D18);
        assert!(!heard.has_moved(old, new), "not accepted yet");
        heard.note_feed(old);
        heard.accept((new, RequestId(0)), &ok, Draft::D18);
        assert!(heard.has_moved(old, new), "nobody speaks");
        heard.note_feed(old);
        assert!(!heard.has_moved(old, new), "only the old one brings it");
        heard.note_feed(new);
        assert!(heard.has_moved(old, new));
    }
}
