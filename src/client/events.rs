//! What becomes of a call, as it happens.
//!
//! [`Client::follow`] puts the call's row into a ring: as it is now, and again whenever its status has changed. The last item
//! is `Closed`, behind the row of a call that is over or behind the error that ended the watch.
//!
//! The engine tells it (`voice.calls.events`, Server-Sent Events); a stream that ends is opened again, and goes on behind the last event. An
//! engine that has no such stream, or none left, is asked again and again. What can't be asked for a while is asked later; only
//! a refusal ends the watch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use tokio::time::{sleep, timeout};

use super::calls::{Client, Inner, checked_sid};
use super::media::Delivered;
use super::waits::{Told, Underway};
use crate::call::{CallRow, Status};
use crate::error::{Error, Kind, Result};
use crate::ring::RingSender;

/// A call has at most four statuses one after the other, and then an error or the end.
pub const RING_ROWS: usize = 8;
/// Without a stream the call is asked about at this pace while it moves, and at [`POLL_CAP`] once it stands.
const POLL_STEP: Duration = Duration::from_millis(50);
const POLL_CAP: Duration = Duration::from_millis(500);
/// A stream that broke is opened again after this time.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// An engine says something every 15 s; one that is silent for so long is not there any more.
pub(super) const SILENCE: Duration = Duration::from_secs(45);
/// An event is one row. One that has come to its end is let through whatever its length: what came with it is in memory already.
const MAX_EVENT_BYTES: usize = 64 * 1024;

impl Client {
    /// Returns at once. Nothing follows once the answer was abandoned.
    pub fn follow(&self, sid: &str, ring: RingSender<Delivered>) -> Result<Underway> {
        let sid = checked_sid(sid)?;
        let told = Told(|_: Result<()>| ());
        self.run(told, |inner| async move {
            let mut follower = Follower { inner, sid, ring, last: None, event_id: None };
            if let Some(error) = follower.run().await {
                follower.ring.push(Delivered::Row(Err(Box::new(error))));
            }
            follower.ring.push(Delivered::Closed);
            follower.inner.runtime.tell_delivery();
            Ok(())
        })
    }
}

struct Follower {
    inner: Arc<Inner>,
    sid: String,
    ring: RingSender<Delivered>,
    last: Option<Status>,
    event_id: Option<String>,
}

impl Follower {
    /// Until the call is over; or why nothing more can be known.
    async fn run(&mut self) -> Option<Error> {
        loop {
            match self.stream().await {
                Ok(true) => return None,
                Err(error) if !passes(&error) => return self.poll().await,
                Ok(false) | Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// `true`: the call is over. `false`: the stream is.
    async fn stream(&mut self) -> Result<bool> {
        let mut response = self.inner.events(Some(&self.sid), self.event_id.as_deref()).await?;
        let mut events = Events::default();
        while let Ok(Ok(Some(chunk))) = timeout(SILENCE, next(&mut response)).await {
            events.take(&chunk);
            while let Some(event) = events.next()? {
                // Others say that some are missing, or what a newer engine says.
                let row = (event.kind == "call").then(|| serde_json::from_str(&event.data).ok()).flatten();
                if row.is_some_and(|row| self.tell(row)) {
                    return Ok(true);
                }
            }
            self.event_id = events.last_id().map(str::to_owned).or(self.event_id.take());
        }
        Ok(false)
    }

    async fn poll(&mut self) -> Option<Error> {
        let mut pause = POLL_STEP;
        loop {
            let before = self.last;
            match self.inner.call(&self.sid).await {
                Ok(row) => {
                    if self.tell(row) {
                        return None;
                    }
                    pause = if self.last == before { (pause * 2).min(POLL_CAP) } else { POLL_STEP };
                }
                Err(error) if passes(&error) => pause = POLL_CAP,
                Err(error) => return Some(error),
            }
            sleep(pause).await;
        }
    }

    /// `true`: the call is over.
    fn tell(&mut self, row: CallRow) -> bool {
        let over = row.status.is_terminal();
        if self.last.replace(row.status) != Some(row.status) {
            self.ring.push(Delivered::Row(Ok(Box::new(row))));
            self.inner.runtime.tell_delivery();
        }
        over
    }
}

/// The control plane may be restarting: the call lives on or is found to have ended.
pub(super) fn passes(error: &Error) -> bool {
    (error.retryable && error.kind() != Kind::RateLimit)
        || matches!(error.kind(), Kind::ApiConnection | Kind::ApiTimeout)
}

async fn next(response: &mut Response) -> reqwest::Result<Option<bytes::Bytes>> {
    response.chunk().await
}

/// A stream of events as it is read (WHATWG HTML §9.2.6).
#[derive(Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
    /// Where in `bytes` the lines begin that are not read yet.
    read: usize,
    event: Event,
    last_id: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) data: String,
    id: Option<String>,
}

impl Events {
    /// However much it is: one chunk may bring many events, where a proxy cuts the stream anew.
    pub(super) fn take(&mut self, chunk: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        self.bytes.extend_from_slice(chunk);
    }

    /// What to come back with; an id counts without data, too.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next one that has come to its end. `None`: what is left waits for the next chunk, and is an error where it is too much.
    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        while let Some(length) = self.bytes[self.read..].iter().position(|byte| *byte == b'\n') {
            let begin = self.read;
            self.read += length + 1;
            if let Some(event) = self.line(begin..begin + length) {
                return Ok(Some(event));
            }
        }
        if self.bytes.len() - self.read + self.event.data.len() > MAX_EVENT_BYTES {
            return Err(Error::new(Kind::ApiStatus, "the control plane sent an event larger than any call"));
        }
        Ok(None)
    }

    /// An empty line ends the event.
    fn line(&mut self, place: Range<usize>) -> Option<Event> {
        let line = String::from_utf8_lossy(&self.bytes[place]);
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            self.last_id = event.id.clone().or(self.last_id.take());
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "id" => self.event.id = Some(value.to_owned()),
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => self.event.data += &format!("\n{value}"),
            // A comment, or when to come back.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_of_any_cuts() {
        let text = b"retry: 1000\n\n: quiet\n\nevent: call\nid: r.1\ndata: {\"a\":1}\n\nevent: gap\r\ndata: x\r\ndata: y\r\n\r\nid: 3\n";
        for size in 1..text.len() {
            let (mut events, mut found) = (Events::default(), Vec::new());
            for chunk in text.chunks(size) {
                events.take(chunk);
                found.extend(std::iter::from_fn(|| events.next().unwrap()));
            }
            let event = |kind: &str, data: &str, id: Option<&str>| Event {
                kind: kind.into(),
                data: data.into(),
                id: id.map(str::to_owned),
            };
            assert_eq!(events.last_id(), Some("r.1"), "the 3 has not come to its end");
            assert_eq!(found, [event("call", "{\"a\":1}", Some("r.1")), event("gap", "x\ny", None)], "cut by {size}");
        }
    }

    /// A proxy may gather events as it likes: the bound is on one of them, not on what comes at once.
    #[test]
    fn many_events_in_one_chunk_are_many() {
        let data = "x".repeat(100);
        let text: String = (0..2000).map(|n| format!("event: call\nid: r.{n}\ndata: {data}\n\n")).collect();
        assert!(text.len() > 3 * MAX_EVENT_BYTES);
        // Cut in mid-event too: what is left over of the first chunk joins the second.
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        let mut events = Events::default();
        let mut found = 0;
        for chunk in [first, second] {
            events.take(chunk);
            found += std::iter::from_fn(|| events.next().unwrap()).count();
        }
        assert_eq!((found, events.last_id()), (2000, Some("r.1999")));
        assert_eq!(events.read, events.bytes.len(), "nothing is left over");
    }

    #[test]
    fn an_event_that_never_ends_is_an_error() {
        let lines = "data: 123456789\n".repeat(MAX_EVENT_BYTES / 10 + 1);
        for text in ["a".repeat(MAX_EVENT_BYTES + 1), lines] {
            let mut events = Events::default();
            events.take(b"event: call\nid: r.1\ndata: x\n\n");
            events.take(text.as_bytes());
            assert!(events.next().unwrap().is_some(), "what came before it is heard");
            let error = events.next().unwrap_err();
            assert!(error.kind() == Kind::ApiStatus && !passes(&error), "{error}");
        }
        let mut events = Events::default();
        events.take(&[b'a'; MAX_EVENT_BYTES]);
        assert!(events.next().unwrap().is_none(), "it may end yet");
    }
}
