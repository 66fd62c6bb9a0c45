//! An engine that is called: SIPp calls it, and its config, API and records say what becomes of the call.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use clutchcall::engine::config::{Config, Inbound, InboundRule, Then, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::engine::beside;
use crate::rig::{Far, Traffic, free_port, towards};

/// Behind those of calls that we place (`engine`).
const RTP_FROM: u16 = 26_000;
pub(crate) const NUMBER: &str = "+15550001234";

/// An engine that is called, and where.
pub(crate) struct Called {
    pub(crate) bench: Bench,
    pub(crate) at: SocketAddr,
    /// Where its caller sits.
    pub(crate) from: u16,
}

pub(crate) fn rule(number: &str, then: Then) -> InboundRule {
    InboundRule { number: number.parse().unwrap(), org: "org_a".to_owned(), then, max_duration: None }
}

pub(crate) fn echo() -> Then {
    Then::Answer { agent: "echo".to_owned() }
}

pub(crate) fn notify() -> Then {
    Then::Notify { ring_timeout_s: 30 }
}

/// Each trunk of a test has its own.
pub(crate) fn rtp_ports(nth: u16) -> RangeInclusive<u16> {
    RTP_FROM + nth * 20..=RTP_FROM + nth * 20 + 19
}

impl Called {
    /// Each test has RTP ports of its own.
    pub(crate) fn new(nth: u16, then: Then) -> Self {
        Self::with(nth, |trunk| trunk.inbound.rules = vec![rule("*", then)])
    }

    pub(crate) fn with(nth: u16, change: impl FnOnce(&mut Trunk)) -> Self {
        Self::configured(nth, |_| {}, change)
    }

    pub(crate) fn configured(nth: u16, configure: impl FnOnce(&mut Config), change: impl FnOnce(&mut Trunk)) -> Self {
        let (from, port) = (free_port(), free_port());
        let mut sip = towards(Transport::Udp, from);
        sip.internal_sip_ip = "127.0.0.1".parse().unwrap();
        sip.source_pbx_port = port;
        sip.rtp_ports = rtp_ports(nth);
        let mut trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 2, ..Trunk::default() };
        trunk.inbound = Inbound::default();
        change(&mut trunk);
        let bench = Bench::with(|config| {
            configure(config);
            config.trunks.insert("carrier".to_owned(), trunk);
        });
        Self { bench, at: SocketAddr::from(([127, 0, 0, 1], port)), from }
    }

    pub(crate) fn call(&self, scenario: &str) -> Far {
        self.call_with(scenario, &[])
    }

    pub(crate) fn call_with(&self, scenario: &str, keys: &[(&str, &str)]) -> Far {
        let keys: Vec<_> = keys.iter().copied().chain([("number", NUMBER)]).collect();
        Far::calls(scenario, self.from, self.at, &keys)
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.bench.get("voice.calls.list", &json!({"orgId": "org_a"})).data()["calls"].as_array().unwrap().clone()
    }

    /// The only call there is, once it is there.
    pub(crate) fn row(&self) -> Value {
        let row = wait_for(|| self.rows().into_iter().next());
        assert_eq!(self.rows().len(), 1);
        row
    }

    pub(crate) fn until(&self, statuses: &[&str]) -> Value {
        self.bench.wait(self.row()["sid"].as_str().unwrap(), statuses)
    }

    /// Answers or refuses a call that rings.
    pub(crate) fn decide(&self, procedure: &str, input: &Value) {
        self.bench.post(procedure, input).data();
    }

    pub(crate) fn ended(&self) -> Value {
        self.until(&["completed", "failed", "no_answer"])
    }
}

/// Status, end reason, who ended it, SIP code and Q.850 cause.
#[track_caller]
pub(crate) fn assert_end(row: &Value, end: (&str, &str, &str, Option<u16>, u8)) {
    let (status, reason, by, code, q850) = end;
    let is = (&row["status"], &row["endReason"], &row["endedBy"], &row["sipCode"], &row["q850"]);
    let wanted = (&json!(status), &json!(reason), &json!(by), &json!(code), &json!(q850));
    assert_eq!(is, wanted, "{row}");
    assert_eq!(
        (&row["direction"], &row["to"], &row["from"]),
        (&json!("inbound"), &json!(NUMBER), &json!("+15558675309"))
    );
}

/// The call of a scenario to its end: what its caller saw, and its row.
pub(crate) async fn to_its_end(called: Called, scenario: &str, keys: &[(&str, &str)]) -> (Traffic, Value, Called) {
    let far = called.call_with(scenario, keys);
    let traffic = far.played().await;
    let (row, called) = beside(move || (called.ended(), called)).await;
    (traffic, row, called)
}
