//! `voice.calls.events`: what a watcher is told, and what one who comes back is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::{Answer, Bench, KEY, NARROW_KEY, OTHER_KEY};

/// One event as it stood on the wire.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

struct Watcher(BufReader<TcpStream>);

impl Watcher {
    fn new(bench: &Bench, key: &str, input: &Value, seen: &str) -> Self {
        let input: String = url::form_urlencoded::byte_serialize(input.to_string().as_bytes()).collect();
        let mut stream = bench.connect();
        let request = format!(
            "GET /api/trpc/voice.calls.events?input={input} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             connection: close\r\nlast-event-id: {seen}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut watcher = Self(BufReader::new(stream));
        let head: Vec<String> = std::iter::from_fn(|| watcher.line().filter(|line| !line.is_empty())).collect();
        assert_eq!(head[0], "HTTP/1.1 200 OK");
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        assert!(head.iter().any(|line| line.starts_with("x-request-id: req_")), "{head:?}");
        watcher
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.0.read_line(&mut line).unwrap();
        (n > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; `None`: the stream has ended well, by its last chunk. Each event comes as one chunk.
    fn next(&mut self) -> Option<Event> {
        loop {
            let size = usize::from_str_radix(&self.line().expect("the stream was cut off"), 16).unwrap();
            if size == 0 {
                return None;
            }
            let mut event = Event::default();
            while let Some(line) = self.line().filter(|line| !line.is_empty()) {
                match line.split_once(": ") {
                    Some(("event", name)) => event.name = name.to_owned(),
                    Some(("id", id)) => event.id = id.to_owned(),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    _ => {}
                }
            }
            assert_eq!(self.line().unwrap(), "", "behind its chunk");
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    /// The next chunk as it is.
    fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line().expect("the stream was cut off"), 16).unwrap();
        let mut bytes = vec![0; size];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(self.line().unwrap(), "", "behind its chunk");
        String::from_utf8(bytes).unwrap()
    }

    fn rows(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// Each that is another one than before: a row may also learn its Call-ID, or the figures of its line.
fn statuses(events: &[Event]) -> Vec<&str> {
    let mut statuses: Vec<&str> = events.iter().map(|event| event.data["status"].as_str().unwrap_or("?")).collect();
    statuses.dedup();
    statuses
}

/// Without the figures of its line, which come when its leg has ended.
fn without_figures(row: &Value) -> Value {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("rtp");
    row
}

#[test]
fn a_call_is_followed_from_its_dialling_to_its_end() {
    let bench = Bench::new();
    let mut all = Watcher::new(&bench, KEY, &json!({}), "");
    let sid = bench.originate("+15550001111");
    let mut one = Watcher::new(&bench, KEY, &json!({"sid": sid}), "");
    bench.wait(&sid, &["in_progress"]);
    bench.hangup(&sid).data();
    let told = one.rows();
    assert_eq!(statuses(&told).last(), Some(&"completed"), "and the stream ends");
    assert!(statuses(&told).contains(&"in_progress"));
    let last = without_figures(&told.last().unwrap().data);
    assert_eq!(last, without_figures(&bench.row(&sid)), "the row that get answers");
    assert!(told.iter().all(|event| event.name == "call" && event.data["sid"] == *sid));
    let mut heard = Vec::new();
    while heard.last().is_none_or(|event: &Event| event.data["status"] != "completed") {
        heard.push(all.next().unwrap());
    }
    assert_eq!(statuses(&heard), ["dialing", "ringing", "in_progress", "completed"]);
}

#[test]
fn who_comes_back_hears_what_was_missed() {
    let bench = Bench::new();
    let mut all = Watcher::new(&bench, KEY, &json!({}), "");
    let sid = bench.originate("+15550001111");
    let first = all.next().unwrap();
    assert_eq!(first.data["status"], "dialing");
    drop(all);
    bench.wait(&sid, &["in_progress"]);
    bench.hangup(&sid).data();
    let rest = Watcher::new(&bench, KEY, &json!({"sid": sid}), &first.id).rows();
    assert_eq!(statuses(&rest), ["dialing", "ringing", "in_progress", "completed"]);
    let mut all = Watcher::new(&bench, KEY, &json!({}), &rest[1].id);
    assert_eq!(all.next().unwrap().id, rest[2].id);
    // An id of another run, and what is none at all: a gap, then the call as it is.
    for id in ["0123456789ABCDEF.1", "nonsense", &format!("{}.9999", "x".repeat(200))] {
        let told = Watcher::new(&bench, KEY, &json!({"sid": sid}), id).rows();
        assert_eq!((told[0].name.as_str(), &told[0].data), ("gap", &json!({"missed": null})), "{id}");
        assert_eq!(statuses(&told[1..]), ["completed"]);
    }
}

/// An id counts without an event too (WHATWG HTML §9.2.6): one that was sent ahead of a gap, or of the call as it is, would make whoever
/// is cut off between both come back as if nothing had been missing.
#[test]
fn no_id_comes_ahead_of_what_it_stands_for() {
    let bench = Bench::new();
    let sid = bench.originate("+15550001111");
    bench.wait(&sid, &["in_progress"]);
    let first = |input: &Value, seen: &str| Watcher::new(&bench, KEY, input, seen).chunk();
    let id = Watcher::new(&bench, KEY, &json!({"sid": sid}), "").next().unwrap().id;
    assert!(!first(&json!({}), "nonsense").contains("id:"), "a gap comes next");
    assert!(!first(&json!({"sid": sid}), "").contains("id:"), "the call comes next");
    let mut back = Watcher::new(&bench, KEY, &json!({"sid": sid}), "nonsense");
    assert!(!back.chunk().contains("id:"));
    let (gap, now) = (back.next().unwrap(), back.next().unwrap());
    assert_eq!((gap.name.as_str(), gap.id.as_str(), now.id), ("gap", "", id.clone()), "the call behind the gap has it");
    assert!(first(&json!({}), "").contains(&format!("\nid: {id}\n")), "nothing is missing");
    assert!(first(&json!({"sid": sid}), &id).contains(&format!("\nid: {id}\n")));
}

#[test]
fn events_are_for_whom_the_calls_are() {
    let bench = Bench::new();
    let mut other = Watcher::new(&bench, OTHER_KEY, &json!({"orgId": "org_b"}), "");
    let sid = bench.originate("+15550001111");
    let get = |key: &str, input: Value| bench.get_as(key, "voice.calls.events", &input);
    get(OTHER_KEY, json!({"sid": sid})).error(404, "NOT_FOUND");
    get(KEY, json!({"sid": "CA1NOSUCHCALL"})).error(404, "NOT_FOUND");
    get(KEY, json!({"orgId": "org_b"})).error(403, "FORBIDDEN");
    assert!(get(NARROW_KEY, json!({})).error(403, "FORBIDDEN").contains("voice:calls.events"));
    bench.post("voice.calls.events", &json!({})).error(405, "METHOD_NOT_SUPPORTED");
    bench.hangup(&sid).data();
    bench.ended(&sid);
    let body = json!({"to": "+15550001112", "from": "+15558675309", "trunkId": "trunk_main"}).to_string();
    let own = bench.post_as(OTHER_KEY, "voice.calls.originate", &body, "").data();
    assert_eq!(other.next().unwrap().data["sid"], own["sid"], "the first that it hears of is its own");
}

#[test]
fn streams_leave_room_for_requests() {
    let bench = Bench::with(|config| config.limits.connections = 4);
    let streams = [(); 2].map(|()| Watcher::new(&bench, KEY, &json!({}), ""));
    let refused: Answer = bench.get("voice.calls.events", &json!({}));
    assert!(refused.error(429, "TOO_MANY_REQUESTS").contains("limits.connections"));
    assert!(bench.metrics().contains("clutchcall_event_streams 2\n"));
    drop(streams);
    let sid = bench.originate("+15550001111");
    bench.hangup(&sid).data();
    bench.ended(&sid);
    crate::common::wait_for(|| bench.metrics().contains("clutchcall_event_streams 0\n").then_some(()));
}

#[test]
fn a_stream_ends_with_the_engine() {
    let bench = Bench::new();
    let sid = bench.originate("+15550001111");
    bench.wait(&sid, &["in_progress"]);
    let mut all = Watcher::new(&bench, KEY, &json!({}), "");
    let mut one = Watcher::new(&bench, KEY, &json!({"sid": sid}), "");
    let ending = std::thread::spawn(move || drop(bench));
    let told = all.rows();
    assert_eq!(statuses(&told), ["completed"]);
    assert_eq!(told[0].data["endReason"], "server_shutdown");
    assert_eq!(statuses(&one.rows()), ["in_progress", "completed"]);
    ending.join().unwrap();
}
