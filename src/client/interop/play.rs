//! One case being played: told what happened and what time it is, it takes the next step, until it can say how it went.
//!
//! It owns no session: a [`Stage`] dials them and lends them. Whatever a peer asks beside the case is answered as a
//! client must (namespaces are listened to, tracks that nobody serves don't exist); a session that ends before its case is
//! the case's failure.

use std::time::Instant;

use super::cases::{Answer, Ask, Case, Heard, Place, Step, Who};
use super::hearing::{Hearing, Judgement};
use super::speech::{DESCRIPTION, Speaker, Speech};
use crate::moqt::message::{
    Fetch, Filter, Location, PublishDone, PublishOk, RequestError, Subscribe, SubscribeOk, Token, TrackProperties,
    UpdateOk,
};
use crate::moqt::name::NameError;
use crate::moqt::session::RequestId;
use crate::moqt::{Draft, Event, FullTrackName, PublishDoneCode, RequestErrorCode, Session, TrackNamespace};

/// Stream count of a PUBLISH_DONE whose sender lost count, in any draft.
const LOST_COUNT: u64 = (1 << 62) - 1;

/// Where the sessions of a case live.
pub(super) trait Stage {
    fn dial(&mut self, who: Who);
    /// `None`: not dialled, or gone.
    fn session(&mut self, who: Who) -> Option<&mut Session>;
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Passed(String),
    Failed {
        expected: String,
        received: String,
    },
    /// The draft that is spoken has no word for it.
    Skipped(String),
    /// There was nobody to play with.
    Unreachable(String),
}

/// The namespaces and the tracks of a case.
#[derive(Clone, Debug)]
pub(super) struct Names {
    interop: FullTrackName,
    nowhere: FullTrackName,
    own: FullTrackName,
    described: FullTrackName,
}

impl Names {
    pub(super) fn new(prefix: &TrackNamespace, case: &str, run_id: &str) -> Result<Self, NameError> {
        let track = |fields: &[&str], name: &'static str| {
            let fields = fields.iter().map(|field| field.as_bytes().to_vec());
            FullTrackName::new(prefix.join(&TrackNamespace::new(fields)?)?, name)
        };
        let own = ["moq-test", case, run_id];
        let described: Vec<&str> = own.into_iter().chain(DESCRIPTION).collect();
        Ok(Self {
            interop: track(&["moq-test", "interop"], "test-track")?,
            nowhere: track(&["nonexistent", "namespace"], "test-track")?,
            own: track(&own, "track")?,
            described: track(&described, "track")?,
        })
    }

    fn at(&self, place: Place) -> &FullTrackName {
        match place {
            Place::Interop => &self.interop,
            Place::Own => &self.own,
            Place::Described => &self.described,
            Place::Nowhere => &self.nowhere,
        }
    }
}

/// One session's part.
#[derive(Default)]
struct Part {
    is_set_up: bool,
    /// What was asked last, and what was said to that.
    asked: Option<(RequestId, Ask)>,
    answer: Option<Result<(), RequestError>>,
    serves: Option<Speech>,
    announced: Option<TrackNamespace>,
    /// The peer's SUBSCRIBE_NAMESPACEs that were told of it, with the rest of the name.
    listings: Vec<(RequestId, TrackNamespace)>,
    speakers: Vec<Speaker>,
    hearing: Hearing,
}

pub(super) struct Play {
    steps: &'static [Step],
    not_in: &'static [Draft],
    names: Names,
    tokens: Vec<Token>,
    at: usize,
    /// The step was begun at this time.
    begun: Option<Instant>,
    ends_by: Instant,
    parts: [Part; Who::ALL.len()],
    end: Option<End>,
}

impl Play {
    pub(super) fn new(case: &'static Case, names: Names, tokens: Vec<Token>, now: Instant) -> Self {
        let ends_by = now + case.limit;
        Self {
            steps: case.steps,
            not_in: case.not_in,
            names,
            tokens,
            at: 0,
            begun: None,
            ends_by,
            parts: Default::default(),
            end: None,
        }
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.end.is_some() {
            return None;
        }
        let speakers = self.parts.iter().flat_map(|part| &part.speakers).filter_map(Speaker::poll_timeout);
        let stay = match self.steps.get(self.at) {
            Some(Step::Stay(time)) => self.begun.map(|begun| begun + *time),
            _ => None,
        };
        speakers.chain(stay).chain([self.ends_by]).min()
    }

    /// Takes every step that can be taken now.
    pub(super) fn handle_timeout(&mut self, stage: &mut impl Stage, now: Instant) {
        for who in Who::ALL {
            if let Some(session) = stage.session(who) {
                self.parts[who as usize].speakers.iter_mut().for_each(|speaker| speaker.speak(session, now));
            }
        }
        while self.end.is_none() {
            let Some(step) = self.steps.get(self.at).copied() else {
                self.end = Some(End::Passed(self.parts[self.last_heard() as usize].hearing.describe()));
                return;
            };
            if self.begun.is_none() {
                self.begun = Some(now);
                self.begin(stage, step);
            }
            self.skip(stage, step);
            match self.judge(step, now) {
                _ if self.end.is_some() => {}
                Judgement::Right => (self.at, self.begun) = (self.at + 1, None),
                Judgement::Wrong(received) => self.fail(step, received),
                Judgement::Incomplete if now >= self.ends_by => {
                    let received = self.silence(step);
                    self.fail(step, received);
                }
                Judgement::Incomplete => return,
            }
        }
    }

    /// A session is gone, as [`crate::net::Down`] says in these words; `never`: it never came up.
    pub(super) fn handle_down(&mut self, who: Who, words: String, never: bool) {
        if self.end.is_some() {
            return;
        }
        match self.steps.get(self.at) {
            Some(Step::Connect(of)) if *of == who && never => self.end = Some(End::Unreachable(words)),
            Some(step) => self.fail(*step, format!("the {}'s session ended: {words}", who.label())),
            None => {}
        }
    }

    pub(super) fn handle_event(&mut self, stage: &mut impl Stage, who: Who, event: Event, now: Instant) {
        let part = &mut self.parts[who as usize];
        match event {
            Event::Setup(_) => part.is_set_up = true,
            Event::SubscribeOk { request, .. } => part.answered(request, Ok(())),
            Event::RequestOk { request } => {
                part.answered(request, Ok(()));
                part.published(request, now);
            }
            Event::RequestError { request, error } => part.answered(request, Err(error)),
            Event::Object { stream, object, .. } => part.hearing.object(stream.is_none(), object),
            Event::SubgroupEnd { reset, .. } => part.hearing.stream_ended(reset.is_some()),
            Event::PublishDone { done, .. } => part.hearing.done(done),
            Event::FetchOk { request, .. } => part.answered(request, Ok(())),
            Event::Fetched { fetched, .. } => part.hearing.fetched(fetched),
            Event::FetchEnd { reset, .. } => part.hearing.fetch_ended(reset.is_some()),
            Event::Namespace { suffix, .. } => part.hearing.namespace(false, suffix),
            Event::NamespaceDone { suffix, .. } => part.hearing.namespace(true, suffix),
            Event::Cancelled { request } => part.speakers.retain(|speaker| speaker.request != request),
            event => {
                if let Some(session) = stage.session(who) {
                    self.serve(session, who, event, now);
                }
            }
        }
        self.handle_timeout(stage, now);
    }

    /// What a peer asks of a client.
    fn serve(&mut self, session: &mut Session, who: Who, event: Event, now: Instant) {
        let part = &mut self.parts[who as usize];
        match event {
            Event::Subscribe { request, subscribe } => {
                let is_ours = [Place::Interop, Place::Own, Place::Described]
                    .into_iter()
                    .any(|place| *self.names.at(place) == subscribe.track);
                let Some(speech) = part.serves.filter(|_| is_ours) else {
                    let refusal = RequestError::new(RequestErrorCode::DoesNotExist, "nobody serves this track");
                    return session.reject(request, refusal);
                };
                session.accept_subscribe(request, SubscribeOk::default());
                part.speakers.push(Speaker::new(request, speech, now));
            }
            Event::Publish { request, publish } => {
                part.hearing.offered(publish.track);
                session
                    .accept_publish(request, PublishOk { forward: true, priority: 128, filter: None, expires: None });
            }
            Event::Update { request, .. } => session.accept_update(request, UpdateOk::default()),
            Event::PublishNamespace { request, .. } => session.accept(request),
            Event::SubscribeNamespace { request, prefix, .. } => {
                session.accept(request);
                if let Some(suffix) = part.announced.as_ref().and_then(|namespace| namespace.strip_prefix(&prefix)) {
                    session.namespace(request, &suffix);
                    part.listings.push((request, suffix));
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, stage: &mut impl Stage, step: Step) {
        match step {
            Step::Connect(who) => stage.dial(who),
            Step::Serve(who, speech) => self.parts[who as usize].serves = Some(speech),
            Step::Ask(who, ask) => {
                let Some(session) = stage.session(who) else { return };
                if ask == Ask::Join && session.draft().fills_subscriptions() {
                    return;
                }
                let request = self.ask(session, who, ask);
                let part = &mut self.parts[who as usize];
                (part.asked, part.answer) = (Some((request, ask)), None);
                if let Ask::PublishNamespace(place) = ask {
                    part.announced = Some(self.names.at(place).namespace.clone());
                }
            }
            Step::Cancel(who) => {
                let part = &mut self.parts[who as usize];
                part.announced = None;
                if let (Some(session), Some((request, _))) = (stage.session(who), part.asked) {
                    session.cancel(request);
                    part.listings.drain(..).for_each(|(listing, suffix)| session.namespace_done(listing, &suffix));
                }
            }
            Step::EndTrack(who) => {
                if let (Some(session), Some((request, _))) = (stage.session(who), self.parts[who as usize].asked) {
                    let code = PublishDoneCode::TrackEnded as u64;
                    session.end_publication(request, PublishDone { code, streams: 0, reason: "track ended".into() });
                }
            }
            Step::Answered(..) | Step::Hear(..) | Step::Stay(_) => {}
        }
    }

    fn ask(&self, session: &mut Session, who: Who, ask: Ask) -> RequestId {
        let tokens = self.tokens.clone();
        match ask {
            Ask::Fetch(place) => {
                let (group, track) = (self.history(), self.names.at(place).clone());
                let whole = Location { group, object: 0 };
                session.fetch(Fetch::Standalone { track, start: whole, end: whole }, None, tokens)
            }
            Ask::Join => {
                let request = self.parts[who as usize].asked.map_or(u64::MAX, |(request, _)| request.0);
                session.fetch(Fetch::RelativeJoining { request, groups: 1 }, None, tokens)
            }
            Ask::SubscribeTracks(place) => {
                session.subscribe_tracks(self.names.at(place).namespace.clone(), true, tokens)
            }
            Ask::PublishNamespace(place) => session.publish_namespace(self.names.at(place).namespace.clone(), tokens),
            Ask::Publish(place) => session.publish(self.names.at(place).clone(), TrackProperties::default(), tokens),
            Ask::Subscribe(place, rendezvous_timeout) => {
                let track = self.names.at(place).clone();
                if who != Who::Joiner {
                    return session.subscribe(Subscribe { rendezvous_timeout, tokens, ..Subscribe::new(track) });
                }
                // A FETCH can join a subscription from the largest object on (§10.12.2).
                let live = Subscribe { rendezvous_timeout, tokens, ..Subscribe::live(track) };
                session.subscribe_filled(live, Filter::NewestGroups(2))
            }
            Ask::SubscribeNamespace(place) => {
                session.subscribe_namespace(self.names.at(place).namespace.clone(), tokens)
            }
        }
    }

    /// Whose hearing is the case's.
    fn last_heard(&self) -> Who {
        let heard = |step: &Step| if let Step::Hear(who, _) = step { Some(*who) } else { None };
        self.steps.iter().rev().find_map(heard).unwrap_or(Who::Subscriber)
    }

    /// The group that is fetched: the relay has handed it on, whole.
    fn history(&self) -> u64 {
        self.parts[Who::Subscriber as usize].hearing.whole_group()
    }

    fn judge(&self, step: Step, now: Instant) -> Judgement {
        let done = |done: bool| if done { Judgement::Right } else { Judgement::Incomplete };
        match step {
            Step::Connect(who) => done(self.parts[who as usize].is_set_up),
            Step::Answered(who, wanted) => self.parts[who as usize].judge_answer(wanted),
            Step::Hear(who, Heard::Offered) => done(self.parts[who as usize].hearing.is_offered(&self.names.own)),
            Step::Hear(who, Heard::Fetched) => self.parts[who as usize].hearing.judge_fetched(self.history()),
            Step::Hear(who, heard) => self.parts[who as usize].hearing.judge(heard, LOST_COUNT),
            Step::Stay(time) => done(self.begun.is_some_and(|begun| now >= begun + time)),
            Step::Serve(..) | Step::Ask(..) | Step::Cancel(_) | Step::EndTrack(_) => Judgement::Right,
        }
    }

    /// Ends a case that can't be played in the draft of a session that has just come up.
    fn skip(&mut self, stage: &mut impl Stage, step: Step) {
        let Step::Connect(who) = step else { return };
        if let Some(draft) =
            stage.session(who).map(|session| session.draft()).filter(|draft| self.not_in.contains(draft))
        {
            self.end = Some(End::Skipped(format!("{} has no such request", draft.alpn())));
        }
    }

    fn fail(&mut self, step: Step, received: String) {
        self.end = Some(End::Failed { expected: self.expectation(step), received });
    }

    fn silence(&self, step: Step) -> String {
        match step {
            Step::Hear(who, _) => format!("in time only: {}", self.parts[who as usize].hearing.describe()),
            _ => "nothing in time".to_owned(),
        }
    }

    fn expectation(&self, step: Step) -> String {
        let question = |who: Who| self.parts[who as usize].asked.map_or("a request", |(_, ask)| ask.message());
        match step {
            Step::Connect(who) => format!("SETUP to the {}", who.label()),
            Step::Answered(who, answer) => format!("{} to {}", answer.words(), question(who)),
            Step::Hear(_, heard) => heard.words(),
            Step::Serve(who, _) | Step::Ask(who, _) | Step::Cancel(who) | Step::EndTrack(who) => {
                format!("a session for the {}", who.label())
            }
            Step::Stay(_) => "sessions that stay".to_owned(),
        }
    }
}

impl Part {
    fn answered(&mut self, request: RequestId, answer: Result<(), RequestError>) {
        if self.asked.is_some_and(|(asked, _)| asked == request) && self.answer.is_none() {
            self.answer = Some(answer);
        }
    }

    /// Our PUBLISH was accepted: its track is spoken on.
    fn published(&mut self, request: RequestId, now: Instant) {
        if let (Some((asked, Ask::Publish(_))), Some(speech)) = (self.asked, self.serves)
            && asked == request
        {
            self.speakers.push(Speaker::new(request, speech, now));
        }
    }

    fn judge_answer(&self, wanted: Answer) -> Judgement {
        let Some(answer) = &self.answer else { return Judgement::Incomplete };
        let refusal = |error: &RequestError| error.code != RequestErrorCode::InternalError as u64;
        let right = match (wanted, answer) {
            (Answer::Ok | Answer::Either, Ok(())) => true,
            (Answer::Refusal | Answer::Either, Err(error)) => refusal(error),
            (Answer::Timeout, Err(error)) => error.code == RequestErrorCode::Timeout as u64,
            (Answer::Refusal | Answer::Timeout, Ok(())) | (Answer::Ok, Err(_)) => false,
        };
        match (right, answer) {
            (true, _) => Judgement::Right,
            (false, Ok(())) => Judgement::Wrong("OK".to_owned()),
            (false, Err(error)) => Judgement::Wrong(format!("REQUEST_ERROR {:#x} {:?}", error.code, error.reason)),
        }
    }
}
