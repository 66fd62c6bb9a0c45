//! What becomes of the calls, told to whoever watches: every new row of a call, with a number, to its organisation's watchers.
//!
//! The board tells a [`Feed`] each row that differs from the one before. A [`Watch`] is one watcher's bounded queue: who reads too
//! slowly loses the oldest and is told how many. The feed remembers the last rows of all calls, so that a watcher who
//! comes back says the last number it saw and misses nothing; a number from before that, or of another run of the
//! engine, is answered with a gap. The feed keeps no watcher alive, waits for none, and knows no HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::Refused;
use super::board::{Board, Sid};
use super::entry::Phase;
use super::mint::unix_ms;
use crate::call::CallRow;
use crate::engine::metrics::Metrics;

/// Rows that a watcher may come back for, of all calls together: ten seconds of the fastest trunk, minutes of a usual one.
const PAST: usize = 2048;
/// And what they may take: a row with all the notes that a call can have is ten times one without.
const PAST_BYTES: usize = 2 << 20;
/// The times and the Call-ID of a second leg.
const LEG_TEXTS: usize = 128;
/// Rows that wait for one watcher; beyond, the oldest is dropped and counted.
const QUEUE: usize = 256;

/// A new row of a call.
#[derive(Debug)]
pub struct News {
    pub number: u64,
    pub row: CallRow,
    org: String,
}

impl News {
    /// About what it takes in memory.
    fn weight(&self) -> usize {
        let row = &self.row;
        let options =
            [&row.trunk_id, &row.agent, &row.answered_at, &row.ended_at, &row.end_reason, &row.transferred_to];
        let options = options.into_iter().chain([&row.sip_phrase, &row.sip_call_id]);
        let texts = [&row.sid, &row.to, &row.from, &row.started_at, &self.org].into_iter();
        let texts: usize = texts.chain(options.flatten()).map(String::len).sum();
        let note = |(name, text): (&String, &String)| 2 * size_of::<String>() + name.len() + text.len();
        let legs: usize = row.legs.iter().map(|leg| size_of_val(leg) + leg.to.len() + LEG_TEXTS).sum();
        size_of::<Self>() + texts + legs + row.metadata.iter().flatten().map(note).sum::<usize>()
    }
}

/// Where a watcher stopped: which run of the engine, and the number it saw last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub run: String,
    pub number: u64,
}

/// What a watcher is told next.
#[derive(Debug)]
pub enum Told {
    News(Arc<News>),
    /// Rows are missing here; how many, if that is known. The number is the last of them; none where the call as it is comes next, which
    /// has it.
    Gap {
        missed: Option<u64>,
        number: Option<u64>,
    },
}

#[derive(Debug, Default)]
struct Waiting {
    news: VecDeque<Arc<News>>,
    missed: u64,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watcher. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    /// Which run of the engine the numbers belong to.
    pub run: Arc<str>,
    /// The number that the watcher knows everything up to before it is told anything; `None`: what comes first says it.
    pub known: Option<u64>,
    since: u64,
    gap: Option<Told>,
    past: VecDeque<Arc<News>>,
    queue: Arc<Queue>,
}

pub(super) struct Feed {
    run: Arc<str>,
    last: u64,
    past: VecDeque<Arc<News>>,
    past_bytes: usize,
    by_org: HashMap<String, Vec<Weak<Queue>>>,
    by_sid: HashMap<Sid, Vec<Weak<Queue>>>,
    metrics: Arc<Metrics>,
}

impl Feed {
    pub(super) fn new(run: &str, metrics: Arc<Metrics>) -> Self {
        let (by_org, by_sid) = (HashMap::new(), HashMap::new());
        Self { run: run.into(), last: 0, past: VecDeque::new(), past_bytes: 0, by_org, by_sid, metrics }
    }

    pub(super) fn tell(&mut self, org: &str, sid: &Sid, row: CallRow) {
        self.last += 1;
        let is_over = row.status.is_terminal();
        let news = Arc::new(News { number: self.last, row, org: org.to_owned() });
        self.keep(Arc::clone(&news));
        self.metrics.event();
        for watchers in [self.by_org.get_mut(org), self.by_sid.get_mut(sid)].into_iter().flatten() {
            watchers.retain(|watcher| match watcher.upgrade() {
                Some(queue) => {
                    push(&queue, &news, &self.metrics);
                    true
                }
                None => false,
            });
        }
        if is_over {
            // Whoever watches this call alone has its last row.
            self.by_sid.remove(sid);
        }
    }

    fn keep(&mut self, news: Arc<News>) {
        self.past_bytes += news.weight();
        self.past.push_back(news);
        while self.past.len() > PAST || self.past_bytes > PAST_BYTES {
            let Some(oldest) = self.past.pop_front() else { return };
            self.past_bytes -= oldest.weight();
        }
    }

    /// Watches the calls of an organisation, or one of them, whose row is `now`.
    pub(super) fn watch(&mut self, org: &str, call: Option<(&Sid, &CallRow)>, seen: Option<&Seen>) -> Watch {
        let queue = Arc::new(Queue::default());
        let watchers = match call {
            Some((_, row)) if row.status.is_terminal() => None,
            Some((sid, _)) => Some(self.by_sid.entry(Arc::clone(sid)).or_default()),
            None => Some(self.by_org.entry(org.to_owned()).or_default()),
        };
        if let Some(watchers) = watchers {
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.push(Arc::downgrade(&queue));
        }
        let (run, since, past) = (Arc::clone(&self.run), self.last, VecDeque::new());
        let mut watch = Watch { run, known: None, since, gap: None, past, queue };
        match seen {
            Some(seen) if self.remembers(seen) => {
                let wanted = |news: &&Arc<News>| {
                    news.number > seen.number && news.org == org && call.is_none_or(|(sid, _)| news.row.sid == **sid)
                };
                watch.since = seen.number;
                watch.past = self.past.iter().filter(wanted).cloned().collect();
            }
            Some(_) => watch.gap = Some(Told::Gap { missed: None, number: call.is_none().then_some(self.last) }),
            None => {}
        }
        let shows_now = seen.is_none() || watch.gap.is_some();
        // Whoever is cut off before a gap, or before the call as it is, has seen neither.
        watch.known = (!shows_now || (seen.is_none() && call.is_none())).then_some(watch.since);
        if let Some((_, row)) = call.filter(|(_, row)| shows_now || (row.status.is_terminal() && watch.past.is_empty()))
        {
            watch.past.push_back(Arc::new(News { number: self.last, row: row.clone(), org: org.to_owned() }));
        }
        watch
    }

    /// Nothing between that number and the present is forgotten.
    fn remembers(&self, seen: &Seen) -> bool {
        let oldest = self.past.front().map_or(self.last + 1, |news| news.number);
        seen.run == *self.run && (oldest - 1..=self.last).contains(&seen.number)
    }

    /// The engine ends; every watch ends behind what it still has.
    pub(super) fn end(&mut self) {
        for watcher in self.by_org.drain().chain(self.by_sid.drain().map(|(sid, all)| (sid.to_string(), all))) {
            for queue in watcher.1.iter().filter_map(Weak::upgrade) {
                queue.lock().is_over = true;
                queue.more.notify_one();
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

fn push(queue: &Queue, news: &Arc<News>, metrics: &Metrics) {
    let mut waiting = queue.lock();
    if waiting.news.len() == QUEUE {
        waiting.news.pop_front();
        waiting.missed += 1;
        metrics.event_missed();
    }
    waiting.news.push_back(Arc::clone(news));
    queue.more.notify_one();
}

impl Watch {
    /// The one row of a call that is only in the store.
    pub(super) fn of_stored(mut self, row: CallRow, org: &str) -> Self {
        self.past = [Arc::new(News { number: self.since, row, org: org.to_owned() })].into();
        self
    }

    /// `None`: the engine ends. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.gap.take().or_else(|| self.past.pop_front().map(Told::News)) {
                return Some(told);
            }
            let more = self.queue.more.notified();
            {
                let mut waiting = self.queue.lock();
                let missed = std::mem::take(&mut waiting.missed);
                if missed > 0 {
                    let first = waiting.news.front().map_or(self.since, |news| news.number - 1);
                    return Some(Told::Gap { missed: Some(missed), number: Some(first) });
                }
                match waiting.news.pop_front() {
                    Some(news) => return Some(Told::News(news)),
                    None if waiting.is_over => return None,
                    None => {}
                }
            }
            more.await;
        }
    }
}

impl Board {
    /// Watchers are told what has changed, once it was dialled.
    pub(super) fn tell(&mut self, sid: &Sid) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        let Phase::Live(call) = &entry.phase else { return };
        let row = call.record().row();
        if entry.told.as_ref() != Some(&row) {
            let before = entry.told.as_ref().map(|row| row.status);
            if let Some(callback) = entry.callback.as_ref().filter(|_| before != Some(row.status)) {
                self.hooks.tell(callback, &row, unix_ms());
            }
            self.feed.tell(&entry.org, sid, row.clone());
            entry.told = Some(row);
        }
    }

    pub(super) fn watch(&mut self, org: &str, sid: Option<&str>, seen: Option<&Seen>) -> Result<Watch, Refused> {
        let Some(sid) = sid else { return Ok(self.feed.watch(org, None, seen)) };
        let (sid, entry) = self.entry(org, sid)?;
        let row = entry.record().row();
        Ok(self.feed.watch(org, Some((&sid, &row)), seen))
    }
}

#[cfg(test)]
impl Watch {
    /// One that has these rows to tell.
    pub(in crate::engine) fn of_rows(rows: impl Iterator<Item = CallRow>) -> Self {
        let mut watch = Feed::new("r", Arc::default()).watch("org", None, None);
        watch.past = rows.map(|row| Arc::new(News { number: 1, row, org: "org".to_owned() })).collect();
        watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::Metadata;
    use crate::call::{CallRecord, Status};

    fn row(sid: &str, status: Status) -> CallRow {
        CallRow { status, ..CallRecord::dialing(sid.to_owned(), 0).row() }
    }

    fn told(watch: &mut Watch) -> Option<String> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(watch.next()).poll(&mut context) {
            std::task::Poll::Pending => None,
            std::task::Poll::Ready(None) => Some("end".to_owned()),
            std::task::Poll::Ready(Some(Told::Gap { missed, number })) => Some(format!("gap {missed:?} {number:?}")),
            std::task::Poll::Ready(Some(Told::News(news))) => {
                Some(format!("{} {} {}", news.number, news.row.sid, news.row.status.as_str()))
            }
        }
    }

    fn feed() -> Feed {
        Feed::new("r", Arc::default())
    }

    #[test]
    fn an_organisation_hears_of_its_own_calls_only() {
        let (mut feed, a, b) = (feed(), Sid::from("a"), Sid::from("b"));
        let (mut all, mut other) = (feed.watch("one", None, None), feed.watch("two", None, None));
        let first = row("a", Status::Dialing);
        let mut single = feed.watch("one", Some((&a, &first)), None);
        feed.tell("one", &a, row("a", Status::Ringing));
        feed.tell("one", &b, row("b", Status::Dialing));
        assert_eq!(told(&mut all).as_deref(), Some("1 a ringing"));
        assert_eq!(told(&mut all).as_deref(), Some("2 b dialing"));
        assert_eq!((single.known, told(&mut single).as_deref()), (None, Some("0 a dialing")), "as it is now");
        assert_eq!(told(&mut single).as_deref(), Some("1 a ringing"));
        assert_eq!([told(&mut all), told(&mut single), told(&mut other)], [None, None, None]);
        feed.end();
        assert_eq!(told(&mut all).as_deref(), Some("end"));
    }

    #[test]
    fn who_comes_back_misses_nothing_or_is_told_of_a_gap() {
        let (mut feed, a) = (feed(), Sid::from("a"));
        for status in [Status::Dialing, Status::Ringing, Status::InProgress] {
            feed.tell("one", &a, row("a", status));
        }
        let seen = |run: &str, number| Some(Seen { run: run.to_owned(), number });
        let mut back = feed.watch("one", None, seen("r", 1).as_ref());
        assert_eq!((back.known, told(&mut back).as_deref()), (Some(1), Some("2 a ringing")));
        assert_eq!(told(&mut back).as_deref(), Some("3 a in_progress"));
        assert_eq!(told(&mut back), None);
        assert_eq!(told(&mut feed.watch("two", None, seen("r", 1).as_ref())), None, "a number opens nobody's calls");
        for (run, number) in [("q", 1), ("r", 4)] {
            let mut lost = feed.watch("one", None, seen(run, number).as_ref());
            assert_eq!((lost.known, told(&mut lost).as_deref()), (None, Some("gap None Some(3)")), "{run} {number}");
        }
        assert_eq!(feed.watch("one", None, None).known, Some(3), "nothing is missing");
        for _ in 0..PAST {
            feed.tell("one", &a, row("a", Status::InProgress));
        }
        let now = row("a", Status::InProgress);
        let mut late = feed.watch("one", Some((&a, &now)), seen("r", 2).as_ref());
        assert_eq!(told(&mut late).as_deref(), Some("gap None None"));
        assert!(told(&mut late).unwrap().ends_with("a in_progress"), "as it is now");
        assert!(feed.past.len() == PAST && feed.remembers(&seen("r", 3).unwrap()));
    }

    #[test]
    fn rows_with_notes_are_remembered_as_long_as_there_is_room() {
        let (mut feed, a) = (feed(), Sid::from("a"));
        let notes: Metadata = (0..8).map(|n| (n.to_string(), "x".repeat(511))).collect();
        let noted = CallRow { metadata: Some(notes), ..row("a", Status::Ringing) };
        for _ in 0..PAST {
            feed.tell("one", &a, noted.clone());
        }
        assert!(feed.past_bytes <= PAST_BYTES && feed.past_bytes > PAST_BYTES - 8192);
        let kept = feed.past.len() as u64;
        assert!((PAST_BYTES as u64 / 8192..PAST as u64 / 2).contains(&kept), "{kept} of about 5 KiB");
        let seen = |number| Seen { run: "r".to_owned(), number };
        assert!(feed.remembers(&seen(PAST as u64 - kept)) && !feed.remembers(&seen(PAST as u64 - kept - 1)));
        for _ in 0..PAST {
            feed.tell("one", &a, row("a", Status::Ringing));
        }
        let weight: usize = feed.past.iter().map(|news| news.weight()).sum();
        assert_eq!((feed.past.len(), feed.past_bytes), (PAST, weight));
    }

    #[test]
    fn a_call_that_is_over_is_told_once_more_to_whoever_saw_all() {
        let (mut feed, a) = (feed(), Sid::from("a"));
        feed.tell("one", &a, row("a", Status::Completed));
        let over = row("a", Status::Completed);
        let seen = Seen { run: "r".to_owned(), number: 1 };
        let mut back = feed.watch("one", Some((&a, &over)), Some(&seen));
        assert_eq!(told(&mut back).as_deref(), Some("1 a completed"));
        assert!(feed.by_sid.is_empty());
    }

    #[test]
    fn a_slow_watcher_loses_the_oldest_and_is_told_how_many() {
        let (mut feed, a) = (feed(), Sid::from("a"));
        let mut slow = feed.watch("one", None, None);
        for _ in 0..QUEUE + 3 {
            feed.tell("one", &a, row("a", Status::Ringing));
        }
        assert_eq!(told(&mut slow).as_deref(), Some("gap Some(3) Some(3)"));
        assert_eq!(told(&mut slow).as_deref(), Some("4 a ringing"));
        assert!(feed.metrics.render(&Default::default()).contains("clutchcall_events_missed_total 3\n"));
        for _ in 0..3 {
            drop(feed.watch("one", None, None));
        }
        assert!(feed.by_org["one"].len() <= 2, "those who left are forgotten");
    }
}
