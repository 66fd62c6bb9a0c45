//! What came of a trunk's test, and what to do about it.

use std::time::Instant;

use crate::call::wire::{RegistrationRow, TrunkTestRow};
use crate::engine::trunk::Probe;
use crate::sip::{health, registration};

/// Of a trunk that was asked whether it is there; without a `probe` there was nobody to ask.
pub(super) fn verdict(trunk_id: &str, health: health::State, probe: Option<&Probe>, now: Instant) -> TrunkTestRow {
    let plain = TrunkTestRow {
        trunk_id: trunk_id.to_owned(),
        ok: true,
        health: health.as_str().to_owned(),
        ..TrunkTestRow::default()
    };
    let Some(probe) = probe else { return plain };
    let advice = of_answer(probe).or_else(|| of_registration(probe.registration?));
    let (reply, error) = match &probe.answer {
        Ok(reply) => (Some(reply.clone()), None),
        Err(error) => (None, Some(error.clone())),
    };
    let (sip_code, sip_phrase) = reply.unzip();
    TrunkTestRow {
        ok: advice.is_none(),
        peer: Some(probe.peer.clone()),
        transport: Some(probe.transport.to_owned()),
        address: probe.address.map(|address| address.to_string()),
        sip_code,
        sip_phrase,
        error,
        after_ms: Some(probe.after.as_millis() as u64),
        registration: probe.registration.map(|state| registered(state, now)),
        advice,
        ..plain
    }
}

fn registered(state: registration::State, now: Instant) -> RegistrationRow {
    use registration::State;
    let (state, until, sip_code) = match state {
        State::Pending => ("pending", None, None),
        State::Registered { until } => ("registered", Some(until), None),
        State::Failed { code } => ("failed", None, Some(code)),
        State::Unreachable => ("unreachable", None, None),
    };
    let expires_in_s = until.map(|until| until.saturating_duration_since(now).as_secs());
    RegistrationRow { state: state.to_owned(), expires_in_s, sip_code, ..RegistrationRow::default() }
}

/// Any answer says that somebody is there; these say that he does not want us, or can't.
fn of_answer(probe: &Probe) -> Option<String> {
    let Probe { peer, transport, local, .. } = probe;
    Some(match &probe.answer {
        Err(error) if probe.address.is_none() => format!("nobody was asked at {peer} over {transport}: {error}"),
        Err(_) if *transport == "udp" => format!(
            "nothing came back from {peer}: look at the trunk's address and port, and let UDP between {local} and it through every firewall"
        ),
        Err(_) => format!(
            "{peer} can't be reached over {transport}: look at the trunk's address, port and transport, and whether a firewall lets {} out",
            local.ip()
        ),
        Ok((401 | 407, _)) => "the far side refuses our credentials: look at sip_username and sip_password".to_owned(),
        Ok((403, _)) => format!("the far side refuses us: have the carrier allow {local}, or look at the credentials"),
        Ok((code @ (408 | 500..=599), _)) => {
            format!("the far side answers {code}, so it is not well: ask the carrier, or try again later")
        }
        Ok(_) => return None,
    })
}

fn of_registration(state: registration::State) -> Option<String> {
    use registration::State;
    Some(match state {
        State::Registered { .. } => return None,
        State::Pending => "the registrar has not answered yet: try again in a moment".to_owned(),
        State::Failed { code: code @ (401 | 403 | 404 | 407) } => {
            format!("the registrar refuses us ({code}): look at sip_username, sip_password and domain")
        }
        State::Failed { code } => format!("the registrar answers {code}: ask the carrier; it is asked again by itself"),
        State::Unreachable => {
            "the registrar does not answer, or what it granted has ended: look at proxy and domain".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn probe(answer: Result<u16, &str>, registration: Option<registration::State>) -> Probe {
        Probe {
            peer: "sip.example.com:5060".to_owned(),
            transport: "udp",
            address: Some("192.0.2.1:5060".parse().unwrap()),
            local: "192.0.2.7:5060".parse().unwrap(),
            answer: answer.map(|code| (code, "Words".to_owned())).map_err(str::to_owned),
            after: Duration::from_millis(12),
            registration,
        }
    }

    fn told(probe: Option<&Probe>) -> serde_json::Value {
        serde_json::to_value(verdict("carrier", health::State::Healthy, probe, Instant::now())).unwrap()
    }

    #[test]
    fn somebody_is_there_whatever_he_thinks_of_the_question() {
        for code in [200, 404, 405, 481, 486] {
            let told = told(Some(&probe(Ok(code), None)));
            assert_eq!((&told["ok"], told.get("advice")), (&true.into(), None), "{told}");
            assert_eq!((&told["sipCode"], &told["afterMs"]), (&code.into(), &12.into()));
            assert_eq!(told["address"], "192.0.2.1:5060");
        }
    }

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        use registration::State;
        let cases = [
            (probe(Err("nobody answered"), None), "let UDP between 192.0.2.7:5060"),
            (Probe { transport: "tcp", ..probe(Err("refused"), None) }, "over tcp"),
            (Probe { address: None, ..probe(Err("h offers no SIP over udp"), None) }, "offers no SIP over udp"),
            (probe(Ok(407), None), "sip_password"),
            (probe(Ok(403), None), "allow 192.0.2.7:5060"),
            (probe(Ok(503), None), "not well"),
            (probe(Ok(200), Some(State::Failed { code: 403 })), "sip_username"),
            (probe(Ok(200), Some(State::Failed { code: 500 })), "asked again by itself"),
            (probe(Ok(200), Some(State::Pending)), "in a moment"),
            (probe(Ok(200), Some(State::Unreachable)), "does not answer"),
        ];
        for (probe, advice) in cases {
            let told = told(Some(&probe));
            assert_eq!(told["ok"], false);
            assert!(told["advice"].as_str().unwrap().contains(advice), "{told}");
            assert_eq!(told["error"].is_string(), probe.answer.is_err());
        }
        let until = Instant::now() + Duration::from_secs(100);
        let registered = told(Some(&probe(Ok(200), Some(State::Registered { until }))));
        assert_eq!((&registered["ok"], &registered["registration"]["state"]), (&true.into(), &"registered".into()));
        assert!((98..=100).contains(&registered["registration"]["expiresInS"].as_u64().unwrap()), "{registered}");
        assert_eq!(told(None), serde_json::json!({"trunkId": "carrier", "ok": true, "health": "healthy"}));
    }
}
