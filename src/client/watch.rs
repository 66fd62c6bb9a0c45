//! One stream of what becomes of all calls, shared by everybody who waits for one of them.
//!
//! A [`Watch`] belongs to a client. It opens `voice.calls.events` for the organisation when the first [`Ear`] is wanted, and closes it
//! [`LINGER`] after the last has gone. An ear hears the rows of its call from then on; what was before is for its owner to ask. A stream that
//! breaks is opened again and goes on behind its last event, unheard; where rows may be missing, every ear ends, and its
//! owner asks again. An engine that has no such stream for this key, or none left, or one that can't be read, is not asked for one for
//! [`REFUSED_FOR`].
//!
//! Nothing here is locked while something is awaited. A queue of rows is bounded: an ear that does not keep up ends like one at a gap.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reqwest::Response;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::calls::Inner;
use super::events::{AGAIN, Event, Events, SILENCE, passes};
use crate::call::CallRow;
use crate::error::Error;

/// The stream stays for the next one who waits.
const LINGER: Duration = Duration::from_secs(5);
/// What was refused once is refused again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// A call has at most four statuses one after the other, and now and then a row for something else.
const EAR_ROWS: usize = 16;

#[derive(Default)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The last ear has gone.
    quiet: Notify,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// By sid.
    ears: HashMap<String, Vec<mpsc::Sender<Said>>>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Closed,
    Opening,
    Open,
    /// Until then nobody asks for a stream.
    Refused(Instant),
}

enum Said {
    Open,
    Row(Box<CallRow>),
}

/// What an [`Ear`] hears.
pub(super) enum Heard {
    Row(Box<CallRow>),
    /// Nothing more comes, and rows may be missing: ask for the call, and take another ear.
    Gap,
}

/// Hears what becomes of one call.
pub(super) struct Ear {
    said: mpsc::Receiver<Said>,
    sid: String,
    shared: Arc<Shared>,
}

/// How a stream ended.
enum End {
    Idle,
    Broken,
    /// It would come again like this.
    Unreadable(Error),
}

impl Watch {
    /// On a stream that is open now: what becomes of the call from here on is heard.
    pub(super) fn ear_if_open(&self, sid: &str) -> Option<Ear> {
        let mut state = self.0.lock();
        (state.stage == Stage::Open).then(|| state.ear(&self.0, sid))
    }

    /// The stream is opened if it is not; [`Ear::opened`] tells when it is.
    pub(super) fn ear(&self, inner: &Arc<Inner>, sid: &str) -> Ear {
        let mut state = self.0.lock();
        let ear = state.ear(&self.0, sid);
        match state.stage {
            Stage::Opening => {}
            Stage::Open => state.ears.get(sid).and_then(|ears| ears.last()).into_iter().for_each(say_open),
            Stage::Refused(until) if Instant::now() < until => state.ears.clear(),
            Stage::Refused(_) | Stage::Closed => match inner.runtime.control() {
                Ok(control) => {
                    state.stage = Stage::Opening;
                    control.spawn(run(self.0.clone(), Arc::downgrade(inner)));
                }
                Err(_) => state.ears.clear(),
            },
        }
        drop(state);
        ear
    }
}

impl Ear {
    /// `false`: it never will be.
    pub(super) async fn opened(&mut self) -> bool {
        self.said.recv().await.is_some()
    }

    pub(super) async fn next(&mut self) -> Heard {
        loop {
            match self.said.recv().await {
                Some(Said::Row(row)) => return Heard::Row(row),
                Some(Said::Open) => {}
                None => return Heard::Gap,
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.said.close();
        let mut state = self.shared.lock();
        if let Some(ears) = state.ears.get_mut(&self.sid) {
            ears.retain(|ear| !ear.is_closed());
            if ears.is_empty() {
                state.ears.remove(&self.sid);
            }
        }
        if state.ears.is_empty() {
            self.shared.quiet.notify_one();
        }
    }
}

impl State {
    fn ear(&mut self, shared: &Arc<Shared>, sid: &str) -> Ear {
        let (saying, said) = mpsc::channel(EAR_ROWS);
        self.ears.entry(sid.to_owned()).or_default().push(saying);
        Ear { said, sid: sid.to_owned(), shared: shared.clone() }
    }
}

/// An ear whose queue is full has rows to hear, which say the same.
fn say_open(ear: &mpsc::Sender<Said>) {
    let _ = ear.try_send(Said::Open);
}

/// Carries the stream from its opening to its end.
async fn run(shared: Arc<Shared>, inner: Weak<Inner>) {
    let mut after = None;
    let stage = loop {
        let Some(inner) = inner.upgrade() else { break Stage::Closed };
        let response = match inner.events(None, after.as_deref()).await {
            Ok(response) => response,
            Err(error) if passes(&error) => break Stage::Closed,
            Err(error) => break refused(&error),
        };
        drop(inner);
        let is_first = after.is_none();
        match shared.read(response, &mut after).await {
            End::Idle => return,
            End::Unreadable(error) => break refused(&error),
            // Nothing says where it would go on.
            End::Broken if is_first && after.is_none() => break Stage::Closed,
            End::Broken => sleep(AGAIN).await,
        }
    };
    let mut state = shared.lock();
    state.stage = stage;
    state.ears.clear();
}

fn refused(error: &Error) -> Stage {
    tracing::debug!(%error, "no stream of events: calls are asked for instead");
    Stage::Refused(Instant::now() + REFUSED_FOR)
}

impl Shared {
    /// The state is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, mut response: Response, after: &mut Option<String>) -> End {
        let (mut events, mut is_open) = (Events::default(), false);
        let mut idle = pin!(self.idle());
        loop {
            let chunk = tokio::select! {
                chunk = timeout(SILENCE, response.chunk()) => chunk,
                () = &mut idle => return End::Idle,
            };
            let Ok(Ok(Some(chunk))) = chunk else { return End::Broken };
            events.take(&chunk);
            loop {
                match events.next() {
                    Ok(Some(event)) => self.hear(&event),
                    Ok(None) => break,
                    Err(error) => return End::Unreadable(error),
                }
            }
            if let Some(id) = events.last_id() {
                *after = Some(id.to_owned());
            }
            // A proxy may answer before the engine does; what has come through it once comes through it again.
            if !std::mem::replace(&mut is_open, true) {
                let mut state = self.lock();
                state.stage = Stage::Open;
                state.ears.values().flatten().for_each(say_open);
            }
        }
    }

    fn hear(&self, event: &Event) {
        match event.kind.as_str() {
            "call" => serde_json::from_str(&event.data).into_iter().for_each(|row| self.tell(row)),
            "gap" => self.lock().ears.clear(),
            _ => {}
        }
    }

    /// Until nobody has heard it for a while; then it counts as closed already.
    async fn idle(&self) {
        loop {
            if !self.lock().ears.is_empty() {
                self.quiet.notified().await;
                continue;
            }
            sleep(LINGER).await;
            let mut state = self.lock();
            if state.ears.is_empty() {
                state.stage = Stage::Closed;
                return;
            }
        }
    }

    fn tell(&self, row: CallRow) {
        let mut state = self.lock();
        let Some(ears) = state.ears.get_mut(&row.sid) else { return };
        ears.retain(|ear| ear.try_send(Said::Row(Box::new(row.clone()))).is_ok());
    }
}
