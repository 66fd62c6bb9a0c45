//! Who asks: threads with one kept connection each, and what their answers took.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::KEY;

/// What came of one round.
pub(crate) struct Round {
    pub(crate) per_s: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

pub(crate) fn round(address: &str, users: usize, secs: Duration) -> Round {
    let begun = Instant::now();
    let asking: Vec<_> = (0..users)
        .map(|_| {
            let address = address.to_owned();
            std::thread::spawn(move || asked(&address, begun + secs))
        })
        .collect();
    let mut took: Vec<Duration> =
        asking.into_iter().flat_map(|user| user.join().expect("a user is answered to the end")).collect();
    let passed = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
    Round { per_s: took.len() as f64 / passed, p50: at(0.5), p99: at(0.99) }
}

/// Asks until then; what each answer took.
fn asked(address: &str, until: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("TCP");
    let body = r#"{"to":"+15550009486","from":"+15558675309","trunkId":"trunk_main"}"#;
    let request = format!(
        "POST /api/trpc/voice.calls.originate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut took, mut bytes) = (Vec::new(), [0; 4096]);
    while Instant::now() < until {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).expect("the connection is kept");
        // An answer is one small write.
        let n = stream.read(&mut bytes).expect("an answer");
        took.push(begun.elapsed());
        let answer = &bytes[..n];
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"}}}"), "{}", String::from_utf8_lossy(answer));
    }
    took
}
