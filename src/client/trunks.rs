//! What a control plane says of its trunks, read: an answer of another shape is an error here, not where it is used.
//!
//! Names that this file does not know are handed on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::wire::TrunkRow;

#[derive(Deserialize)]
pub(super) struct Trunks {
    trunks: Vec<TrunkRow<Sip>>,
}

/// What is relied on of a SIP trunk's own settings.
#[derive(Deserialize, Serialize)]
struct Sip {
    transport: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Trunks {
    pub(super) fn values(self) -> Result<Vec<Value>, serde_json::Error> {
        self.trunks.iter().map(serde_json::to_value).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::wire::TrunkTestRow;

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
        assert_eq!(
            serde_json::to_value(serde_json::from_value::<TrunkTestRow>(tested.clone()).unwrap()).unwrap(),
            tested
        );
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
            assert!(serde_json::from_value::<TrunkTestRow>(answer).is_err());
        }
    }
}
