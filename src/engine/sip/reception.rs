//! Whose call an INVITE is. One [`Desk`] per SIP address, asked by its stack for each INVITE of no known call; the trunks that use the
//! address have a [`Hall`] each there, in which calls wait until the board has decided about them.
//!
//! A call is a trunk's if it comes from one of its addresses; or, where the trunk challenges its callers, if it was sent to the trunk's
//! domain: an address proves something, a name that anybody can write does not. Of several trunks with one address it is the one whose
//! domain was called, then the first that has a rule for the number. Who is challenged has to answer with the trunk's
//! name and password (401), wherever she calls from; who answers wrongly is refused (403). What is nobody's is dropped without a word. An INVITE that was refused and
//! comes again under the same Call-ID and From tag within a minute is refused in the same way, without asking anybody: some callers
//! repeat what can't succeed. Tables are bounded; what finds no room is told 503.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;

use super::session::seconds;
use super::stack::{Came, Knock, Reception, Refusal, Ruled, Ruling, Terms};
use super::{Gate, PeerId};
use crate::engine::config::{Challenge, Host, Inbound, NumberPattern, SipTrunk};
use crate::engine::trunk::{Arrival, Events, TrunkEvent, TrunkKind};
use crate::sip::digest::{Account, Answer, Challenger, Verdict};
use crate::sip::uri;

/// Calls of one trunk that nobody has decided about; the board needs microseconds for one.
const MOST_WAITING: usize = 256;
/// How long a refusal is remembered, and how many are.
const REFUSED_FOR: Duration = Duration::from_secs(60);
const MOST_REFUSED: usize = 1024;
/// What is said where there is no room.
const UNAVAILABLE: u16 = 503;
const FORBIDDEN: u16 = 403;
const UNAUTHORIZED: u16 = 401;
/// Of trunks without a domain.
const REALM: &str = "clutchcall";
const RETRY_AFTER_S: u64 = 5;
/// Whoever calls without a number.
const NOBODY: &str = "anonymous";

/// See the file's contract.
pub(super) struct Desk {
    gate: Arc<Gate>,
    challenger: Mutex<Challenger>,
    halls: Mutex<Vec<Arc<Hall>>>,
    refused: Mutex<Refused>,
}

/// The calls of one trunk that wait for a decision.
pub(super) struct Hall {
    trunk_id: String,
    peer: PeerId,
    settings: Arc<SipTrunk>,
    events: Events,
    /// The numbers of its rules; without any it answers no calls at all.
    numbers: Vec<NumberPattern>,
    challenge: Option<Challenge>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    desk: std::sync::Weak<Desk>,
}

struct Waiting {
    caller: Caller,
    ruling: oneshot::Sender<Ruling>,
}

/// Who calls, and the way to her line.
pub(super) struct Caller {
    pub(super) to: String,
    /// Her description; empty: she asks for ours.
    pub(super) body: Vec<u8>,
    /// What she says of session timers.
    pub(super) terms: Terms,
    /// Call-ID and From tag.
    name: (String, String),
    desk: std::sync::Weak<Desk>,
    came: Option<oneshot::Receiver<Came>>,
}

/// Whose a call may be.
enum Whose {
    Nobodys,
    Its(Arc<Hall>),
    /// Of one of these, if its caller knows the password.
    OneOf(Vec<Arc<Hall>>),
}

/// What was refused lately, the oldest first.
#[derive(Default)]
struct Refused(VecDeque<((String, String), u16, Instant)>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).expect("the system has randomness; without it a nonce can be guessed");
        let challenger = Mutex::new(Challenger::new(&key, Instant::now()));
        Self { gate, challenger, halls: Mutex::default(), refused: Mutex::default() }
    }

    /// A place for the calls of a trunk; `is_open`: it takes some.
    pub(super) fn hall(
        self: &Arc<Self>,
        (trunk_id, peer): (&str, PeerId),
        settings: &Arc<SipTrunk>,
        events: &Events,
        inbound: &Inbound,
    ) -> Arc<Hall> {
        let hall = Arc::new(Hall {
            trunk_id: trunk_id.to_owned(),
            peer,
            settings: Arc::clone(settings),
            events: events.clone(),
            numbers: inbound.rules.iter().map(|rule| rule.number.clone()).collect(),
            challenge: inbound.challenge.clone(),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            desk: Arc::downgrade(self),
        });
        locked(&self.halls).push(Arc::clone(&hall));
        hall
    }

    fn whose(&self, knock: &Knock) -> Whose {
        let peers = self.gate.peers_of(knock.source.ip());
        let halls = locked(&self.halls);
        let called = [uri::host_of(&knock.uri), uri::host_of(&knock.to)];
        let of_peers: Vec<_> = peers.iter().filter_map(|peer| halls.iter().find(|hall| hall.peer == *peer)).collect();
        let is_named = |hall: &&&Arc<Hall>| hall.domain().is_some_and(|own| called.contains(&Some(own)));
        let has_rule = |hall: &&&Arc<Hall>| hall.has_rule(&hall.called(knock));
        let preferred = of_peers.iter().find(is_named).or_else(|| of_peers.iter().find(has_rule));
        let known = preferred.or(of_peers.first()).copied();
        if let Some(hall) = known.filter(|hall| hall.challenge.is_none()) {
            return Whose::Its(Arc::clone(hall));
        }
        let is_called =
            |hall: &Arc<Hall>| hall.domain().is_none_or(|own| called.iter().flatten().any(|host| host == &own));
        let asks = halls.iter().filter(|hall| hall.challenge.is_some());
        let mut asks: Vec<Arc<Hall>> = asks.filter(|hall| is_called(hall)).cloned().collect();
        if let Some(known) = known {
            asks.retain(|hall| hall.peer != known.peer);
            asks.insert(0, Arc::clone(known));
        }
        if asks.is_empty() { Whose::Nobodys } else { Whose::OneOf(asks) }
    }

    /// The trunk whose name and password the caller knows, or what she is told.
    fn proven(&self, halls: &[Arc<Hall>], knock: &Knock, now: Instant) -> Result<Arc<Hall>, Refusal> {
        let realm = halls[0].domain().unwrap_or_else(|| REALM.to_owned());
        let mut challenger = locked(&self.challenger);
        let answers = knock.authorizations.iter().filter_map(|header| Answer::parse(header));
        let mut is_stale = false;
        for answer in answers {
            let of = |hall: &&Arc<Hall>| hall.challenge.as_ref().is_some_and(|own| own.username == answer.username);
            // A name that nobody has costs what a wrong password costs.
            let hall = halls.iter().find(of).unwrap_or(&halls[0]);
            let Some(own) = &hall.challenge else { continue };
            let account = Account { username: &own.username, password: own.password.reveal(), realm: &realm };
            match challenger.judge(&answer, "INVITE", account, now) {
                Verdict::Right => return Ok(Arc::clone(hall)),
                Verdict::Stale => is_stale = true,
                Verdict::Wrong => {
                    self.gate.counts.wrong_password.fetch_add(1, Relaxed);
                    return Err(Refusal::of(FORBIDDEN));
                }
            }
        }
        let algorithms = halls[0].challenge.as_ref().map_or(&[][..], |own| &own.algorithms);
        let challenges = challenger.challenges(&realm, algorithms, is_stale, now);
        let headers = challenges.into_iter().map(|challenge| ("WWW-Authenticate".to_owned(), challenge)).collect();
        Err(Refusal { code: UNAUTHORIZED, headers })
    }

    fn judge(&self, knock: Knock, now: Instant) -> Ruled {
        let settled = |ruling| Box::pin(std::future::ready(ruling)) as Ruled;
        let hall = match self.whose(&knock) {
            Whose::Nobodys => return settled(Ruling::Silence),
            Whose::Its(hall) => hall,
            Whose::OneOf(halls) => match self.proven(&halls, &knock, now) {
                Ok(hall) => hall,
                Err(refusal) => return settled(Ruling::Refuse(refusal)),
            },
        };
        if hall.numbers.is_empty() {
            return settled(Ruling::Refuse(Refusal::of(FORBIDDEN)));
        }
        if let Some(unfit) = knock.unfit {
            return settled(Ruling::Refuse(unfit));
        }
        if let Some(refusal) = knock.terms.refused_below(seconds(hall.settings.min_se)) {
            return settled(Ruling::Refuse(refusal));
        }
        let name = (knock.call_id.clone(), knock.from_tag.clone());
        if let Some(code) = locked(&self.refused).find(&name, now) {
            return settled(Ruling::Refuse(Refusal::of(code)));
        }
        match hall.enter(knock, name) {
            Some(ruling) => {
                Box::pin(async move { ruling.await.unwrap_or_else(|_| Ruling::Refuse(later(UNAVAILABLE))) })
            }
            None => settled(Ruling::Refuse(later(UNAVAILABLE))),
        }
    }
}

impl Reception for Desk {
    fn receive(&self, knock: Knock) -> Ruled {
        self.judge(knock, Instant::now())
    }
}

fn later(code: u16) -> Refusal {
    Refusal { code, headers: vec![("Retry-After".to_owned(), RETRY_AFTER_S.to_string())] }
}

impl Hall {
    /// The host of its domain, in lower case.
    fn domain(&self) -> Option<String> {
        let domain = self.settings.domain.as_ref()?;
        domain.parse::<Host>().ok().map(|host| host.name.to_ascii_lowercase())
    }

    fn has_rule(&self, number: &str) -> bool {
        self.numbers.iter().any(|pattern| pattern.fits(number))
    }

    /// `None`: too many wait already.
    fn enter(&self, knock: Knock, name: (String, String)) -> Option<oneshot::Receiver<Ruling>> {
        let key = self.next.fetch_add(1, Relaxed);
        let to = self.called(&knock);
        let from = uri::user_of(&knock.from).unwrap_or_else(|| NOBODY.to_owned());
        let (trunk_id, sip_call_id) = (self.trunk_id.clone(), knock.call_id);
        let arrival = Arrival { trunk_id, key, to: to.clone(), from, sip_call_id };
        let (ruling, ruled) = oneshot::channel();
        let caller = Caller { to, body: knock.body, terms: knock.terms, name, desk: self.desk.clone(), came: None };
        {
            let mut waiting = locked(&self.waiting);
            if waiting.len() >= MOST_WAITING {
                return None;
            }
            waiting.insert(key, Waiting { caller, ruling });
        }
        let kind = TrunkKind::Arrived(Box::new(arrival));
        let told = self.events.send(TrunkEvent { sid: String::new(), kind });
        told.is_ok().then_some(ruled)
    }

    /// The number that was called: the Request-URI's, unless that is only the name under which we are registered.
    fn called(&self, knock: &Knock) -> String {
        let own = self.settings.credentials.as_ref().map(|credentials| credentials.sip_username.as_str());
        let of_uri = uri::user_of(&knock.uri).filter(|user| Some(user.as_str()) != own);
        of_uri.or_else(|| uri::user_of(&knock.to)).or_else(|| uri::user_of(&knock.uri)).unwrap_or_default()
    }

    /// The caller's line is opened: [`Caller::line`] gives it.
    pub(super) fn take(&self, key: u64) -> Option<Caller> {
        let Waiting { mut caller, ruling } = locked(&self.waiting).remove(&key)?;
        let (sender, came) = oneshot::channel();
        caller.came = Some(came);
        // A stack that is gone drops the sender, and the line is none.
        let _ = ruling.send(Ruling::Take(sender));
        Some(caller)
    }

    pub(super) fn turn_away(&self, key: u64, code: u16, retry_after: Option<Duration>, now: Instant) {
        let Some(Waiting { caller, ruling }) = locked(&self.waiting).remove(&key) else { return };
        let headers = retry_after.map(|after| ("Retry-After".to_owned(), after.as_secs().max(1).to_string()));
        if headers.is_none() {
            caller.note_refused(code, now);
        }
        // Its stack may be gone.
        let _ = ruling.send(Ruling::Refuse(Refusal { code, headers: headers.into_iter().collect() }));
    }
}

impl Caller {
    /// `None`: she is not there any more.
    pub(super) async fn line(&mut self) -> Option<Came> {
        self.came.take()?.await.ok()
    }

    /// The same INVITE again is refused at once.
    pub(super) fn note_refused(&self, code: u16, now: Instant) {
        if let Some(desk) = self.desk.upgrade() {
            locked(&desk.refused).add(self.name.clone(), code, now);
        }
    }
}

impl Refused {
    fn add(&mut self, name: (String, String), code: u16, now: Instant) {
        if self.0.len() >= MOST_REFUSED {
            self.0.pop_front();
        }
        self.0.push_back((name, code, now));
    }

    fn find(&mut self, name: &(String, String), now: Instant) -> Option<u16> {
        while self.0.front().is_some_and(|(_, _, at)| now.saturating_duration_since(*at) >= REFUSED_FOR) {
            self.0.pop_front();
        }
        self.0.iter().find(|(refused, _, _)| refused == name).map(|(_, code, _)| *code)
    }
}
