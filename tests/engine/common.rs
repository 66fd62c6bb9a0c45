//! An engine of a test's own, and the plainest HTTP client there is: it sends exactly the bytes that a test writes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clutchcall::engine::config::ApiKey;
use clutchcall::engine::{Config, Engine};
use serde_json::{Value, json};

/// Nothing in a test waits longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "tqs_live_of_org_a_and_all_of_it";
pub(crate) const OTHER_KEY: &str = "tqs_live_of_org_b_and_all_of_it";
pub(crate) const NARROW_KEY: &str = "tqs_live_of_org_a_but_reads_only";

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) state: tempfile::TempDir,
}

/// One answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn config(state: &std::path::Path) -> Config {
    let mut config = Config::dev(state);
    for (org, scope, text) in
        [("org_a", "voice:*", KEY), ("org_b", "voice:*", OTHER_KEY), ("org_a", "voice:calls.get", NARROW_KEY)]
    {
        config.keys.push(ApiKey::from_text(org, vec![scope.to_owned()], text));
    }
    config
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change)
    }

    /// On a state folder that holds something already.
    pub(crate) fn at(state: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(state.path());
        change(&mut config);
        Self { engine: Engine::start(config).unwrap(), state }
    }

    fn address(&self) -> &str {
        self.engine.base_url().split_once("://").unwrap().1
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// An event stream whose client has read the status and stops there. Calls of the same key come until the metrics say so.
    pub(crate) fn unread(&self, key: &str, until: impl Fn(&str) -> bool) -> TcpStream {
        // As little as possible fits into what the kernel keeps for the two ends.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_tcp_mss(536).unwrap();
        socket.connect(&self.address().parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = format!(
            "GET /api/trpc/voice.calls.events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        let notes: Value = (0..7).map(|n| (format!("note_{n}"), Value::from("x".repeat(500)))).collect();
        let body = json!({"to": "+15550009000", "from": "+15558675309", "trunkId": "trunk_main", "metadata": notes});
        let begun = Instant::now();
        while !until(&self.metrics()) {
            assert!(begun.elapsed() < LIMIT, "it never came: {}", self.metrics());
            let row = self.post_as(key, "voice.calls.originate", &body.to_string(), "").data();
            self.post_as(key, "voice.calls.hangup", &json!({"sid": row["sid"]}).to_string(), "").data();
        }
        stream
    }

    /// Sends these bytes and reads until the engine closes.
    pub(crate) fn raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        Answer::parse(&String::from_utf8(text).unwrap())
    }

    pub(crate) fn post_as(&self, key: &str, procedure: &str, body: &str, more: &str) -> Answer {
        self.raw(&format!(
            "POST /api/trpc/{procedure} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        ))
    }

    pub(crate) fn post(&self, procedure: &str, input: &Value) -> Answer {
        self.post_as(KEY, procedure, &input.to_string(), "")
    }

    pub(crate) fn get_as(&self, key: &str, procedure: &str, input: &Value) -> Answer {
        let input: String = url::form_urlencoded::byte_serialize(input.to_string().as_bytes()).collect();
        self.raw(&format!(
            "GET /api/trpc/{procedure}?input={input} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {key}\r\n\r\n"
        ))
    }

    pub(crate) fn get(&self, procedure: &str, input: &Value) -> Answer {
        self.get_as(KEY, procedure, input)
    }

    pub(crate) fn originate(&self, to: &str) -> String {
        let row = self.post("voice.calls.originate", &call(to)).data();
        assert_eq!(row["status"], "dialing");
        row["sid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn row(&self, sid: &str) -> Value {
        self.get("voice.calls.get", &json!({"orgId": "org_a", "sid": sid})).data()
    }

    /// Follows a call as a user does, until one of these statuses.
    pub(crate) fn wait(&self, sid: &str, until: &[&str]) -> Value {
        let begun = Instant::now();
        loop {
            let row = self.row(sid);
            if until.contains(&row["status"].as_str().unwrap()) {
                return row;
            }
            assert!(begun.elapsed() < LIMIT, "{row} is still not {until:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn ended(&self, sid: &str) -> Value {
        self.wait(sid, &["completed", "failed", "no_answer"])
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        self.raw("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").body
    }

    pub(crate) fn hangup(&self, sid: &str) -> Answer {
        self.post("voice.calls.hangup", &json!({"orgId": "org_a", "sid": sid}))
    }
}

pub(crate) fn call(to: &str) -> Value {
    json!({"orgId": "org_a", "to": to, "from": "+15558675309", "trunkId": "trunk_main"})
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Of a success, which has no trace of an error.
    pub(crate) fn data(&self) -> Value {
        let json = self.json();
        assert_eq!((self.status, json.get("error")), (200, None), "{self:?}");
        json["result"]["data"].clone()
    }

    /// Of a failure in the form that every client bears.
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{self:?}");
        assert!(self.body.starts_with("{\"error\":{\"message\":\""), "the message comes first: {self:?}");
        let error = &json["error"];
        assert_eq!((self.status, error["data"]["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(error["data"]["httpStatus"], status);
        assert!(error["code"].is_i64() && error["data"]["retryable"].is_boolean(), "{self:?}");
        let id = error["data"]["requestId"].as_str().unwrap();
        assert!(self.head.contains(&format!("x-request-id: {id}")), "{self:?}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// One request on a connection that stays.
pub(crate) fn ask(stream: &mut (impl std::io::Read + std::io::Write), path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                return Answer::parse(&text);
            }
        }
        let mut more = [0; 4096];
        let n = stream.read(&mut more).unwrap();
        assert!(n > 0, "closed after {text:?}");
        bytes.extend_from_slice(&more[..n]);
    }
}

/// Looks again and again until there is something.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}
