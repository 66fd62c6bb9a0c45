//! The procedures of the vendor's command line: `telephony.*` and `admin.listTrunks`, as other names of our own.
//!
//! Its fields are snake_case but for `orgId`. Of all its answers it reads only those of a dial and of the trunks: a refused dial stands
//! inside a success, as `error_message` and an integer `error_code`; any other refusal is a failure like ours, or its user would never see
//! it (decision 0141). What this engine can't do is refused by name. A key's scopes count by our own names.

use axum::http::Method;
use serde_json::{Value, json};

use super::answer::{Code, Failure, data};
use super::input::Input;
use super::voice::{Asked, Procedure};

/// What a dialled call may do once it is answered; `None` is the first.
const AGENT: &str = "AI_BIDIRECTIONAL_STREAM";
const SILENT: &str = "ANSWER";
/// How keys are sent: the vendor's word for telephone events in RTP.
const KEYS_AS: &str = "rfc2833";

#[derive(Clone, Copy)]
pub(super) enum Alias {
    Originate,
    Terminate,
    Transfer,
    SendDtmf,
    ListTrunks,
    /// Known, and beyond this engine; how the scope would be called.
    Unable(&'static str),
}

pub(super) const NAMES: &[(&str, Alias)] = &[
    ("telephony.originate", Alias::Originate),
    ("telephony.terminate", Alias::Terminate),
    ("telephony.transfer", Alias::Transfer),
    ("telephony.mute", Alias::Unable("voice.calls.mute")),
    ("telephony.hold", Alias::Unable("voice.calls.hold")),
    ("telephony.unhold", Alias::Unable("voice.calls.unhold")),
    ("telephony.sendDtmf", Alias::SendDtmf),
    ("admin.listTrunks", Alias::ListTrunks),
];

impl Alias {
    pub(super) fn method(self) -> Method {
        match self {
            Self::ListTrunks => Method::GET,
            _ => Method::POST,
        }
    }

    /// The procedure whose scope is needed.
    pub(super) fn stands_for(self) -> &'static str {
        match self {
            Self::Originate => "voice.calls.originate",
            Self::Terminate => "voice.calls.hangup",
            Self::Transfer => "voice.calls.transfer",
            Self::SendDtmf => "voice.calls.sendDtmf",
            Self::ListTrunks => "voice.trunks.list",
            Self::Unable(name) => name,
        }
    }
}

pub(super) async fn run(mut asked: Asked<'_>, alias: Alias) -> Result<String, Failure> {
    match alias {
        Alias::Originate => {
            let dialled = match dial(&asked.input) {
                Ok(input) => {
                    asked.input = input;
                    asked.run(Procedure::Originate).await
                }
                Err(failure) => Err(failure),
            };
            data(&dialled.map_or_else(refused, |row| accepted(&row)))
        }
        Alias::Terminate => {
            asked.input = asked.input.renamed(&[("call_sid", "sid")]);
            asked.run(Procedure::Hangup).await
        }
        Alias::Transfer => {
            asked.input = asked.input.renamed(&[("call_sid", "sid"), ("destination", "to")]);
            asked.run(Procedure::Transfer).await
        }
        Alias::SendDtmf => {
            if let Some(mode) = asked.input.text("mode")?.filter(|mode| *mode != KEYS_AS) {
                let message = format!("mode {mode:?} is beyond this engine: send {KEYS_AS}, or none");
                return Err(Failure::new(Code::NotImplemented, message));
            }
            let names = [("call_sid", "sid"), ("digit", "digits"), ("duration_ms", "durationMs")];
            asked.input = asked.input.renamed(&names);
            asked.run(Procedure::SendDtmf).await
        }
        Alias::ListTrunks => trunks(&asked.run(Procedure::ListTrunks).await?),
        Alias::Unable(name) => {
            let verb = name.rsplit('.').next().unwrap_or(name);
            Err(Failure::new(
                Code::NotImplemented,
                format!("{verb} is beyond this engine: calls can be dialled, sent keys, transferred and ended"),
            ))
        }
    }
}

/// A dial in our words.
fn dial(input: &Input) -> Result<Input, Failure> {
    for field in ["ai_websocket_url", "ai_quic_url"] {
        if input.text(field)?.is_some() {
            return Err(Failure::bad(format!("{field} is beyond this engine: name an agent of its file")));
        }
    }
    let agent = match input.text("default_app")? {
        None | Some(AGENT) => input.text("default_app_args")?,
        Some(SILENT) => None,
        Some(other) => {
            let message = format!("default_app {other:?} is beyond this engine: send {AGENT}, {SILENT} or none");
            return Err(Failure::bad(message));
        }
    };
    let longest_s = input.whole("max_duration_ms")?.filter(|ms| *ms > 0).map(|ms| ms.div_ceil(1000));
    let input = input.renamed(&[("trunk_id", "trunkId"), ("call_from", "from")]);
    Ok(input.with("agent", json!(agent)).with("maxDurationSec", json!(longest_s)))
}

fn accepted(row: &str) -> Value {
    let row: Value = serde_json::from_str(row).unwrap_or_default();
    json!({ "call_sid": row["sid"], "status": row["status"] })
}

/// The vendor's numbers.
fn refused(failure: Failure) -> Value {
    let message = failure.message();
    let code = match failure.code() {
        Code::NotFound if message.starts_with("trunk") => 1,
        Code::BadRequest if message.starts_with("to ") => 2,
        Code::TooManyRequests => 3,
        Code::Unavailable if message.contains("breaker is open") => 4,
        Code::BadRequest | Code::NotFound | Code::Conflict => 6,
        _ => 5,
    };
    json!({ "call_sid": "", "status": "failed", "error_message": message, "error_code": code })
}

/// Fields of a SIP trunk: the vendor's name, and ours.
const SIP_FIELDS: [(&str, &str); 12] = [
    ("sbc_ip", "sbcIp"),
    ("gateway_ip", "gatewayIp"),
    ("source_pbx_port", "sourcePbxPort"),
    ("destination_sbc_port", "destinationSbcPort"),
    ("domain", "domain"),
    ("proxy", "proxy"),
    ("require_registration", "requireRegistration"),
    ("sip_username", "sipUsername"),
    ("register_expires_sec", "registerExpiresSec"),
    ("codec_preferences", "codecPreferences"),
    ("rtp_start_port", "rtpStartPort"),
    ("rtp_end_port", "rtpEndPort"),
];

fn trunks(ours: &str) -> Result<String, Failure> {
    let ours: Value = serde_json::from_str(ours).unwrap_or_default();
    let row = |trunk: &Value| {
        let name = trunk["displayName"].as_str().unwrap_or_default();
        let mut row =
            json!({ "trunk_id": trunk["trunkId"], "display_name": name, "channel_limit": trunk["channelLimit"] });
        let sip = &trunk["sip"];
        if let (Some(row), true) = (row.as_object_mut(), sip.is_object()) {
            for (theirs, ours) in SIP_FIELDS {
                row.insert(theirs.to_owned(), sip[ours].clone());
            }
        }
        row
    };
    data(&ours["trunks"].as_array().map(|all| all.iter().map(row).collect::<Vec<_>>()).unwrap_or_default())
}
