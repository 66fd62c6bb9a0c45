//! Trunks as the API shows them, and what came of the test of one. What an engine says beyond this file is handed on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row of `voice.trunks.list`. `S` is what only a SIP trunk has: all of it for the engine, as much as is relied on for the SDK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkRow<S> {
    pub trunk_id: String,
    pub display_name: Option<String>,
    pub kind: String,
    pub channel_limit: u64,
    pub max_cps: u64,
    pub active_calls: u64,
    /// Of these, those whose turn under `maxCps` has not come.
    #[serde(default)]
    pub waiting_calls: u64,
    pub health: String,
    /// Why no call over it can come to anything, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub caller_ids: Vec<String>,
    pub transfer_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip: Option<S>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Answer of `voice.trunks.test` (a mutation).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkTestRow {
    pub trunk_id: String,
    /// It can carry calls, as far as can be told without one.
    pub ok: bool,
    pub health: String,
    /// Who was asked; absent where there is nobody to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The address and port of it that was asked; absent where its name leads to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it answered, or why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_phrase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationRow>,
    /// What to do; absent where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// How a trunk stands with its registrar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationRow {
    /// `pending`, `registered`, `failed` or `unreachable`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Of the registrar's refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}
