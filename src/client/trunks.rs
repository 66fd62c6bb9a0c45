//! What a control plane says of its trunks, read: an answer of another shape is an error here, not where it is used.
//!
//! Names that this file does not know are handed on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub(super) struct Trunks {
    trunks: Vec<Trunk>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trunk {
    trunk_id: String,
    display_name: Option<String>,
    kind: String,
    channel_limit: u64,
    max_cps: u64,
    active_calls: u64,
    #[serde(default)]
    waiting_calls: u64,
    health: String,
    caller_ids: Vec<String>,
    transfer_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sip: Option<Sip>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Sip {
    transport: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What came of a trunk's test.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tested {
    trunk_id: String,
    ok: bool,
    health: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sip_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sip_phrase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<Registration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sip_code: Option<u16>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Trunks {
    pub(super) fn values(self) -> Result<Vec<Value>, serde_json::Error> {
        self.trunks.iter().map(serde_json::to_value).collect()
    }
}

impl Tested {
    pub(super) fn value(self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn trunk() -> Value {
        json!({
            "trunkId": "carrier", "displayName": null, "kind": "sip", "channelLimit": 10, "maxCps": 5, "activeCalls": 1,
            "waitingCalls": 0, "health": "healthy", "callerIds": ["+1"], "transferMode": "auto", "later": [1],
            "sip": { "transport": "udp", "sbcIp": "127.0.0.1", "proxy": null },
        })
    }

    #[test]
    fn what_an_engine_says_is_handed_on_as_it_is() {
        let listed: Trunks = serde_json::from_value(json!({ "trunks": [trunk()] })).unwrap();
        assert_eq!(listed.values().unwrap(), [trunk()]);
        let tested = json!({
            "trunkId": "carrier", "ok": true, "health": "healthy", "peer": "127.0.0.1:5060", "transport": "udp",
            "sipCode": 200, "sipPhrase": "OK", "afterMs": 3, "registration": { "state": "registered", "expiresInS": 60 },
        });
        assert_eq!(serde_json::from_value::<Tested>(tested.clone()).unwrap().value().unwrap(), tested);
    }

    #[test]
    fn what_is_of_another_shape_is_refused() {
        for answer in [json!({}), json!([]), json!({ "trunks": ["x"] }), json!({ "trunks": [{}] })] {
            assert!(serde_json::from_value::<Trunks>(answer).is_err());
        }
        for (name, wrong) in
            [("trunkId", json!(7)), ("callerIds", json!("x")), ("sip", json!({})), ("maxCps", json!(-1))]
        {
            let mut row = trunk();
            row[name] = wrong;
            assert!(serde_json::from_value::<Trunks>(json!({ "trunks": [row] })).is_err(), "{name}");
        }
        for answer in [json!("x"), json!({ "ok": true }), json!({ "trunkId": "t", "ok": "yes", "health": "healthy" })] {
            assert!(serde_json::from_value::<Tested>(answer).is_err());
        }
    }
}
