//! A real HTTP server for tests: it answers what it is told, and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::retry::Pace;
use super::{Arguments, Client, Options, Originate};

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) connection: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: &'static str,
    pub(super) body: String,
    pub(super) then: Then,
}

/// How an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    /// Half of it is sent, and the connection is closed.
    Cut,
    /// Nothing is sent, and the connection is closed.
    Close,
    /// Nothing is ever sent.
    Silence,
    /// All is sent, and the connection closed while it is idle. What the client still says is not heard.
    Leave,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: "", body: body.into(), then: Then::Keep }
    }
}

pub(super) fn ok(data: Value) -> Answer {
    Answer::new(200, json!({ "result": { "data": data } }).to_string())
}

pub(super) fn refusal(status: u16, code: &str) -> Answer {
    let data = json!({ "httpStatus": status, "code": code, "requestId": "req_7", "retryable": status == 503 });
    Answer::new(
        status,
        json!({ "error": { "message": format!("it is {code}"), "code": -32000, "data": data } }).to_string(),
    )
}

pub(super) fn row(status: &str) -> Value {
    json!({
        "sid": "CA1", "status": status, "to": "+15550001", "from": "+15550002", "startedAt": "2026-01-01T00:00:00.000Z",
        "trunkId": "trunk_main", "agent": null, "endReason": "busy", "sipCode": 486, "new": {"of": "a newer engine"}
    })
}

/// Answers in turn; the last one is repeated. It has no streams of events.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
}

struct Script {
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
    answers: Mutex<Vec<Answer>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Server {
    pub(super) fn start(answers: Vec<Answer>) -> Self {
        Self::over(None, answers)
    }

    /// With `tls` every connection begins with its handshake.
    pub(super) fn over(tls: Option<Arc<ServerConfig>>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let script = Arc::new(Script { asked: asked.clone(), left: left.clone(), answers: Mutex::new(answers), tls });
        // Ends with the test's process; connections end with the clients that made them.
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let script = script.clone();
                std::thread::spawn(move || script.connection(stream.unwrap(), connection));
            }
        });
        Self { address, asked, left }
    }

    pub(super) fn client(&self) -> Client {
        client(&format!("http://{}", self.address))
    }

    /// Connections that were left by both sides.
    pub(super) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Script {
    fn connection(&self, stream: TcpStream, number: usize) {
        let stop = stream.try_clone().unwrap();
        match &self.tls {
            None => self.serve(stream, &stop, number),
            Some(config) => {
                let session = ServerConnection::new(config.clone()).unwrap();
                self.serve(StreamOwned::new(session, stream), &stop, number);
            }
        }
    }

    fn serve(&self, stream: impl Read + Write, stop: &TcpStream, connection: usize) {
        let mut reader = BufReader::new(stream);
        while let Some(mut asked) = read(&mut reader) {
            asked.connection = connection;
            let is_stream = asked.line.contains("/voice.calls.events");
            self.asked.lock().unwrap().push(asked);
            let answer = if is_stream {
                refusal(404, "NOT_FOUND")
            } else {
                let mut answers = self.answers.lock().unwrap();
                if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
            };
            let Answer { status, headers, body, then } = answer;
            let length = body.len();
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
            let sent = match then {
                Then::Keep | Then::Leave => text.len(),
                Then::Cut => text.len() / 2,
                Then::Close => return,
                Then::Silence => 0,
            };
            // A client that has gone needs no answer.
            let _ = reader.get_mut().write_all(&text.as_bytes()[..sent]).and_then(|()| reader.get_mut().flush());
            if then == Then::Cut {
                return;
            }
            if then == Then::Leave {
                stop.shutdown(std::net::Shutdown::Write).unwrap();
                // Ends when the client has noticed and gone, too.
                assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap_or(0), 0, "the client spoke to nobody");
                self.left.fetch_add(1, Relaxed);
                return;
            }
        }
    }
}

/// `None`: the client has gone.
fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut asked = Asked::default();
    if reader.read_line(&mut asked.line).unwrap_or(0) == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim().split_once(": ") else { break };
        asked.headers.push((key.to_lowercase(), value.to_owned()));
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}

pub(super) fn arguments(base_url: &str) -> Arguments {
    let text = |text: &str| Some(text.to_owned());
    Arguments {
        base_url: text(base_url),
        api_key: text("key_1"),
        org_id: text("org_1"),
        timeout_s: Some(20.0),
        ..Arguments::default()
    }
}

pub(super) fn client(base_url: &str) -> Client {
    client_with(arguments(base_url), Pace::of_millis(1, 4))
}

pub(super) fn client_with(arguments: Arguments, pace: Pace) -> Client {
    Client::new(Options { pace, ..Options::find(arguments).unwrap() }).unwrap()
}

/// What a test asks for where it does not matter.
pub(super) fn call() -> Originate {
    Originate {
        to: "+15550001".into(),
        from: "+15550002".into(),
        trunk_id: "trunk_main".into(),
        ..Originate::default()
    }
}

pub(super) fn never() -> impl FnMut() -> bool {
    || false
}
