//! What API and SDK say to each other beside [`CallRow`](super::CallRow): one definition for both sides.

use serde::{Deserialize, Serialize};

mod trunks;

pub use trunks::{RegistrationRow, TrunkRow, TrunkTestRow};

/// For whom a bridge stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeRole {
    /// `attach`: hears the caller (uplink), speaks to her (downlink).
    #[default]
    Server,
    /// `attach_caller`: stands in for the caller.
    Caller,
}

/// Input of `voice.audioBridge.token` (a mutation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    pub org_id: String,
    pub sid: String,
    #[serde(default)]
    pub role: BridgeRole,
    pub codec: String,
    pub sample_rate: u32,
    pub channels: u32,
    pub frame_ms: u32,
    /// Names the bridge for its life: a later token of the same holder replaces its earlier session, another holder's
    /// request is a conflict while this one lives.
    pub holder: String,
    /// The bridge is closing: gives the right to speak back. The answer is `{"ok":true}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub release: bool,
}

/// A track by its MoQT name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRef {
    pub namespace: Vec<String>,
    pub name: String,
}

/// Where the tracks of a call are to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayRef {
    /// `moqt://host:port` (raw QUIC). Empty: the documented default of `relay_host`.
    #[serde(default)]
    pub url: String,
    /// `https://host:port/…` (WebTransport).
    #[serde(default)]
    pub web_transport_url: String,
    /// SHA-256 of the certificates to accept, hexadecimal; empty: the machine's roots decide.
    #[serde(default)]
    pub certificate_hashes: Vec<String>,
    /// Bridges that may share one connection; 1 towards strangers.
    #[serde(default)]
    pub pool: usize,
}

/// Answer of `voice.audioBridge.token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAnswer {
    #[serde(default)]
    pub relay: RelayRef,
    /// JWT for SETUP and for every request.
    pub token: String,
    /// Seconds from now until the token expires.
    pub expires_in_s: u64,
    pub publish: TrackRef,
    pub subscribe: TrackRef,
    /// What the call tells beside its audio ([`control`](super::control)); for bridges that stand on the cloud's side. Absent: this
    /// engine tells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<TrackRef>,
}
