//! What is known of a call: [`CallRecord`] as the store keeps it, [`CallRow`] as API and SDK exchange it.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::parts::{LegRecord, LegRow, RtpStats, TransferRecord, TransferRow};
use super::reason::{EndReason, EndedBy};
use super::stamp::iso8601;

/// How long the far end may ring when nobody says.
pub const DEFAULT_RING_TIMEOUT_S: u32 = 30;

/// What a user notes on a call: names and texts of his own, which nobody here reads.
pub type Metadata = BTreeMap<String, String>;

/// As long as any text of an argument.
const MAX_SID: usize = 512;
const MAX_NOTES: usize = 32;
const MAX_NOTE_NAME: usize = 64;
const MAX_NOTE: usize = 512;
/// Of all names and texts together: every record carries them.
const MAX_METADATA_BYTES: usize = 4096;

/// The error says what to do; it goes behind the field's name.
pub fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    let bytes: usize = metadata.iter().map(|(name, text)| name.len() + text.len()).sum();
    if metadata.len() > MAX_NOTES || bytes > MAX_METADATA_BYTES {
        let have = metadata.len();
        return Err(format!(
            "metadata has {have} entries of {bytes} bytes: at most {MAX_NOTES} of {MAX_METADATA_BYTES} bytes together"
        ));
    }
    for (name, text) in metadata {
        if name.is_empty() || name.len() > MAX_NOTE_NAME || name.chars().any(char::is_control) {
            return Err(format!("metadata has the name {name:?}: 1 to {MAX_NOTE_NAME} bytes, no control characters"));
        }
        if text.len() > MAX_NOTE {
            return Err(format!("metadata {name:?} is {} bytes long: at most {MAX_NOTE}", text.len()));
        }
    }
    Ok(())
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted, and the far end has not rung yet.
    Dialing,
    /// 180, 181, 182 or 183 came.
    Ringing,
    /// Answered.
    InProgress,
    /// Answered, and over.
    Completed,
    /// Never answered: `end_reason` says why.
    Failed,
    /// It rang, and nobody picked up in time.
    NoAnswer,
}

impl Status {
    /// Nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::NoAnswer)
    }

    /// A call of status `now` will never have this one: it never moves backwards.
    pub fn is_past(self, now: Status) -> bool {
        self != now && (now.is_terminal() || (self as u8) < now as u8)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialing => "dialing",
            Self::Ringing => "ringing",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::NoAnswer => "no_answer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Outbound,
    Inbound,
}

/// One call as the store keeps it. Times are Unix milliseconds; distances between them are the monotonic clock's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    pub sid: String,
    pub org_id: String,
    pub status: Status,
    pub direction: Direction,
    pub to: String,
    pub from: String,
    pub trunk_id: String,
    pub agent: Option<String>,
    pub ring_timeout_s: u32,
    pub started_ms: u64,
    pub ringing_ms: Option<u64>,
    pub answered_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub end_reason: Option<EndReason>,
    pub ended_by: Option<EndedBy>,
    /// Final SIP code before the answer, where one came.
    pub sip_code: Option<u16>,
    pub sip_phrase: Option<String>,
    /// Q.850 cause, 1..=127.
    pub q850: Option<u8>,
    /// Of the call's INVITE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_call_id: Option<String>,
    pub transferred_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferRecord>,
    /// Second legs, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpStats>,
    /// Absent in records of engines that knew none.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl CallRecord {
    /// An outgoing call as it begins. Whose it is and where it goes is for its maker to fill in.
    pub fn dialing(sid: String, started_ms: u64) -> Self {
        Self {
            sid,
            org_id: String::new(),
            status: Status::Dialing,
            direction: Direction::Outbound,
            to: String::new(),
            from: String::new(),
            trunk_id: String::new(),
            agent: None,
            ring_timeout_s: DEFAULT_RING_TIMEOUT_S,
            started_ms,
            ringing_ms: None,
            answered_ms: None,
            ended_ms: None,
            end_reason: None,
            ended_by: None,
            sip_code: None,
            sip_phrase: None,
            q850: None,
            sip_call_id: None,
            transferred_to: None,
            transfer: None,
            legs: Vec::new(),
            rtp: None,
            metadata: Metadata::new(),
        }
    }

    /// A call as it comes in. Whose it is and where it came from is for its maker to fill in.
    pub fn ringing(sid: String, started_ms: u64) -> Self {
        let (status, ringing_ms) = (Status::Ringing, Some(started_ms));
        Self { status, ringing_ms, direction: Direction::Inbound, ..Self::dialing(sid, started_ms) }
    }

    /// Ends the record of a call whose engine died, found by the next start.
    pub fn orphan(&mut self, unix_ms: u64) {
        if self.status.is_terminal() {
            return;
        }
        self.status = Status::Failed;
        self.end_reason = Some(EndReason::NodeLost);
        self.ended_by = Some(EndedBy::System);
        self.ended_ms = Some(unix_ms.max(self.started_ms));
    }

    /// The API's view.
    pub fn row(&self) -> CallRow {
        CallRow {
            sid: self.sid.clone(),
            status: self.status,
            to: self.to.clone(),
            from: self.from.clone(),
            started_at: iso8601(self.started_ms),
            trunk_id: Some(self.trunk_id.clone()),
            agent: self.agent.clone(),
            direction: Some(self.direction),
            answered_at: self.answered_ms.map(iso8601),
            ended_at: self.ended_ms.map(iso8601),
            end_reason: self.end_reason.map(|reason| reason.as_str().to_owned()),
            ended_by: self.ended_by.map(|by| by.as_str().to_owned()),
            sip_code: self.sip_code,
            sip_phrase: self.sip_phrase.clone(),
            q850: self.q850,
            sip_call_id: self.sip_call_id.clone(),
            transferred_to: self.transferred_to.clone(),
            transfer: self.transfer.as_ref().map(TransferRecord::row),
            legs: self.legs.iter().map(LegRecord::row).collect(),
            rtp: self.rtp.clone(),
            metadata: Some(self.metadata.clone()).filter(|metadata| !metadata.is_empty()),
        }
    }
}

/// Whoever is told of a call can ask about it.
fn addressable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let sid = String::deserialize(deserializer)?;
    if sid.trim().is_empty() || sid.len() > MAX_SID || sid.chars().any(char::is_control) {
        return Err(D::Error::custom("a sid that nobody can ask with"));
    }
    Ok(sid)
}

/// One call in the API's JSON (camelCase). The first five are always there; an absent, null or empty `agent` means none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRow {
    #[serde(deserialize_with = "addressable")]
    pub sid: String,
    pub status: Status,
    pub to: String,
    pub from: String,
    /// ISO 8601, UTC.
    pub started_at: String,
    #[serde(default)]
    pub trunk_id: Option<String>,
    #[serde(default)]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Text, as `ended_by` is, so that an SDK reads the words of a newer engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_phrase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q850: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transferred_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}
