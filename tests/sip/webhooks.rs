//! Webhooks to a real HTTP server, which checks the signature by itself (Standard Webhooks).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clutchcall::engine::config::{Config, Org, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use clutchcall::engine::webhooks::Pace;
use ring::hmac;
use serde_json::{Value, json};

use crate::called::{Called, notify, rtp_ports, rule};
use crate::common::{Bench, LIMIT, call};
use crate::engine::beside;
use crate::rig::{Far, case, towards};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One request.
#[derive(Debug)]
struct Posted {
    head: String,
    body: String,
}

impl Posted {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// What it says, if its signature is right.
    fn checked(&self) -> Value {
        let (id, at) = (self.header("webhook-id").unwrap(), self.header("webhook-timestamp").unwrap());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(at.parse().unwrap()) < 300 && id.starts_with("msg_"), "{self:?}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).unwrap());
        let tag = hmac::sign(&key, format!("{id}.{at}.{}", self.body).as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag));
        assert_eq!(self.header("webhook-signature"), Some(signature.as_str()));
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that answers the first requests with these statuses, and all others with 204; 0 is no answer at all.
struct Receiver {
    url: String,
    posted: mpsc::Receiver<Posted>,
}

impl Receiver {
    fn new(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/calls?x=1", listener.local_addr().unwrap());
        let (sender, posted) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut statuses, mut unanswered) = (statuses.iter(), Vec::new());
            while let Ok((stream, _)) = listener.accept() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                let length = Posted { head: head.clone(), body: String::new() };
                let mut body = vec![0; length.header("content-length").map_or(0, |length| length.parse().unwrap())];
                reader.read_exact(&mut body).unwrap();
                let status = statuses.next().unwrap_or(&204);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                if *status == 0 {
                    unanswered.push(stream);
                } else {
                    drop((&stream).write_all(answer.as_bytes()));
                }
                if sender.send(Posted { head, body: String::from_utf8(body).unwrap() }).is_err() {
                    return;
                }
            }
        });
        Self { url, posted }
    }

    fn next(&self) -> Posted {
        self.posted.recv_timeout(LIMIT).unwrap()
    }
}

fn signed(config: &mut Config) {
    config.webhooks.pace = Pace { first_pause: Duration::from_millis(20), ..Pace::default() };
    for org in ["org_a", "org_b", "org_dev"] {
        let webhook_secret = Some(format!("whsec_{SECRET}").parse().unwrap());
        config.orgs.insert(org.to_owned(), Org { webhook_secret, ..Org::default() });
    }
}

#[test]
fn a_call_that_comes_in_is_told_and_answered_by_the_api() {
    case(async || {
        let receiver = Receiver::new(&[500]);
        let url = receiver.url.parse().unwrap();
        let called = Called::configured(30, signed, |trunk| {
            trunk.inbound.rules = vec![rule("*", notify())];
            trunk.inbound.webhook_url = Some(url);
        });
        let far = called.call("caller_stays");
        let (called, receiver) = beside(move || {
            let (failed, again) = (receiver.next(), receiver.next());
            assert_eq!(failed.header("webhook-id"), again.header("webhook-id"), "one message, tried twice");
            assert!(again.head.starts_with("POST /calls?x=1 HTTP/1.1"), "{again:?}");
            let told = again.checked();
            assert_eq!((&told["type"], &told["data"]["status"]), (&json!("call.ringing"), &json!("ringing")));
            assert_eq!((&told["data"]["direction"], &told["data"]["to"]), (&json!("inbound"), &json!("+15550001234")));
            let sid = &told["data"]["sid"];
            called.decide("voice.calls.answer", &json!({"sid": sid, "agent": "echo"}));
            assert_eq!(receiver.next().checked()["type"], "call.in_progress");
            called.bench.hangup(sid.as_str().unwrap()).data();
            (called, receiver)
        })
        .await;
        far.played().await.our("BYE");
        let told = beside(move || {
            let told = receiver.next().checked();
            let mut row = called.ended();
            // Known a moment later.
            row.as_object_mut().unwrap().remove("rtp");
            assert_eq!(row, told["data"], "the record as it is");
            let metrics = called.bench.metrics();
            assert!(metrics.contains("clutchcall_webhooks_total{result=\"retried\"} 1\n"), "{metrics}");
            told
        })
        .await;
        assert_eq!((&told["type"], &told["data"]["endReason"]), (&json!("call.completed"), &json!("normal")));
    });
}

#[test]
fn every_status_of_a_call_that_goes_out_is_told_in_order() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let receiver = Receiver::new(&[503, 302]);
        let mut sip = towards(Transport::Udp, far.port);
        sip.rtp_ports = rtp_ports(33);
        let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 2, ..Trunk::default() };
        let bench = Bench::with(|config| {
            signed(config);
            config.trunks.insert("carrier".to_owned(), trunk);
        });
        let told = beside(move || {
            let mut asked = call("+15550001234");
            (asked["trunkId"], asked["statusCallback"]) = (json!("carrier"), json!(receiver.url));
            bench.post("voice.calls.originate", &asked).data();
            let mut told: Vec<Value> = Vec::new();
            // A redirect is not followed, but tried again as any other failure.
            while told.last().is_none_or(|last| last["type"] != "call.completed") {
                told.push(receiver.next().checked());
            }
            told.iter().map(|told| told["data"]["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        })
        .await;
        assert_eq!(told, ["dialing", "dialing", "dialing", "ringing", "in_progress", "completed"]);
        far.played().await;
    });
}

/// 410 gives a message up at once, no answer in time and anything else after so many attempts; the next one comes all the same.
#[test]
fn what_nobody_takes_is_given_up_and_the_next_one_is_told() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let receiver = Receiver::new(&[410, 0, 404, 500]);
        let mut sip = towards(Transport::Udp, far.port);
        sip.rtp_ports = rtp_ports(58);
        let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 2, ..Trunk::default() };
        let bench = Bench::with(|config| {
            signed(config);
            (config.webhooks.pace.attempts, config.webhooks.pace.limit) = (3, Duration::from_millis(500));
            config.trunks.insert("carrier".to_owned(), trunk);
        });
        let (told, metrics) = beside(move || {
            let mut asked = call("+15550001234");
            (asked["trunkId"], asked["statusCallback"]) = (json!("carrier"), json!(receiver.url));
            bench.post("voice.calls.originate", &asked).data();
            let told: Vec<_> = (0..6).map(|_| receiver.next()).collect();
            let metrics = crate::common::wait_for(|| {
                Some(bench.metrics()).filter(|metrics| metrics.contains("{result=\"delivered\"} 2\n"))
            });
            (told, metrics)
        })
        .await;
        let types: Vec<_> = told.iter().map(|told| told.checked()["type"].as_str().unwrap().to_owned()).collect();
        let status = |status: &str| format!("call.{status}");
        let expected = ["dialing", "ringing", "ringing", "ringing", "in_progress", "completed"].map(status);
        assert_eq!(types, expected);
        let ids: Vec<_> = told.iter().map(|told| told.header("webhook-id").unwrap()).collect();
        assert!(ids[1] == ids[2] && ids[2] == ids[3], "one message, tried three times: {ids:?}");
        assert!(ids[0] != ids[1] && ids[3] != ids[4] && ids[4] != ids[5], "{ids:?}");
        for count in ["given_up\"} 2", "retried\"} 2", "dropped\"} 0"] {
            assert!(metrics.contains(&format!("clutchcall_webhooks_total{{result=\"{count}\n")), "{metrics}");
        }
        far.played().await;
    });
}

#[test]
fn where_nothing_is_told() {
    let bench =
        Bench::with(|config| config.webhooks.hosts = vec!["example.com".to_owned(), "*.example.org".to_owned()]);
    for (url, part) in [
        (json!("ftp://example.com/"), "http or https"),
        (json!("nowhere"), "no URL"),
        (json!("https://u:p4ss@example.com/"), "password"),
        (json!("https://example.com/#x"), "fragment"),
        (json!("http://169.254.169.254/latest"), "link-local"),
        (json!("https://example.net/"), "webhooks.hosts"),
        (json!("https://example.org/"), "webhooks.hosts"),
        (json!(7), "statusCallback"),
    ] {
        let mut asked = call("+15550009486");
        asked["statusCallback"] = url.clone();
        let message = bench.post("voice.calls.originate", &asked).error(400, "BAD_REQUEST");
        assert!(
            message.contains(part) && message.contains("statusCallback") && !message.contains("p4ss"),
            "{url}: {message}"
        );
    }
}
