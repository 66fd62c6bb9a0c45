//! Parts of a record that only some calls have: a transfer, a second leg, what the packets were. The same text in store and API.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stamp::iso8601;

/// How a trunk hands calls over to another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferMode {
    /// REFER, and a second leg where the far end refuses it.
    #[default]
    Auto,
    Refer,
    Bridge,
}

impl TransferMode {
    pub const ALL: [TransferMode; 3] = [Self::Auto, Self::Refer, Self::Bridge];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Refer => "refer",
            Self::Bridge => "bridge",
        }
    }
}

/// Where the last transfer of a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Asked for; nobody has agreed yet.
    Pending,
    /// The far end agreed to call the number itself.
    Accepted,
    /// Both legs are joined here.
    Bridged,
    Completed,
    /// The call went on.
    Failed,
    /// The far end agreed, and never said what became of it.
    Unknown,
}

/// The last transfer of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRecord {
    pub to: String,
    /// How it was tried last: `refer` or `bridge`.
    pub mode: TransferMode,
    pub state: TransferState,
    /// Why it failed or came to its end, where a code said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    Dialing,
    Ringing,
    InProgress,
    Ended,
    /// Never answered.
    Failed,
}

impl LegState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialing => "dialing",
            Self::Ringing => "ringing",
            Self::InProgress => "in_progress",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// A second leg of a call that was transferred by a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRecord {
    pub to: String,
    pub state: LegState,
    pub started_ms: u64,
    #[serde(default)]
    pub answered_ms: Option<u64>,
    #[serde(default)]
    pub ended_ms: Option<u64>,
    #[serde(default)]
    pub sip_code: Option<u16>,
    #[serde(default)]
    pub q850: Option<u8>,
    #[serde(default)]
    pub sip_call_id: Option<String>,
    /// Of a leg that was joined, once its media is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpStats>,
}

impl LegRecord {
    pub(super) fn dialing(to: String, started_ms: u64) -> Self {
        Self {
            to,
            state: LegState::Dialing,
            started_ms,
            answered_ms: None,
            ended_ms: None,
            sip_code: None,
            q850: None,
            sip_call_id: None,
            rtp: None,
        }
    }

    pub(super) fn row(&self) -> LegRow {
        LegRow {
            to: self.to.clone(),
            state: self.state,
            started_at: iso8601(self.started_ms),
            answered_at: self.answered_ms.map(iso8601),
            ended_at: self.ended_ms.map(iso8601),
            sip_code: self.sip_code,
            q850: self.q850,
            sip_call_id: self.sip_call_id.clone(),
            rtp: self.rtp.clone(),
        }
    }
}

/// A leg in the API's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegRow {
    pub to: String,
    pub state: LegState,
    pub started_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q850: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpStats>,
}

/// A transfer in the API's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferRow {
    pub to: String,
    /// Text, like the state, so that an SDK reads those of a newer engine.
    pub mode: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
}

impl TransferRecord {
    pub(super) fn row(&self) -> TransferRow {
        let state = match self.state {
            TransferState::Pending => "pending",
            TransferState::Accepted => "accepted",
            TransferState::Bridged => "bridged",
            TransferState::Completed => "completed",
            TransferState::Failed => "failed",
            TransferState::Unknown => "unknown",
        };
        let (to, mode) = (self.to.clone(), self.mode.as_str().to_owned());
        TransferRow { to, mode, state: state.to_owned(), sip_code: self.sip_code }
    }
}

/// What the packets of a phone were, a call's or a second leg's. Absent where there was no RTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RtpStats {
    /// As on the wire: `PCMU`, `PCMA` or `opus`.
    pub codec: String,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub bytes_received: u64,
    /// Of those that should have come.
    pub packets_lost: u64,
    /// Of those that we sent, as the far end says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_packets_lost: Option<u64>,
    pub jitter_ms: Hundredths,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<Hundredths>,
    /// 1 to 4.5, estimated (ITU-T G.107).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos: Option<Hundredths>,
}

/// A number with two digits behind the point, which is equal to itself whatever it went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hundredths(pub u32);

impl Hundredths {
    /// Rounded; what is no number or below zero is 0.
    pub fn new(value: f64) -> Self {
        // A float beyond the type's range is its nearest end.
        Self((value * 100.0).round() as u32)
    }

    pub fn value(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Serialize for Hundredths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}

impl<'de> Deserialize<'de> for Hundredths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::new)
    }
}
