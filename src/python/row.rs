//! A call's row as the API gave it.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use crate::call::record::Direction;
use crate::call::{CallRow, Hundredths, LegRow, RtpStats, TransferRow};

/// What the control plane said about a call at one moment.
#[pyclass(frozen, name = "CallRow", module = "clutchcall._core")]
pub(super) struct Row {
    #[pyo3(get)]
    sid: String,
    #[pyo3(get)]
    status: &'static str,
    #[pyo3(get)]
    to: String,
    #[pyo3(get)]
    from_: String,
    #[pyo3(get)]
    started_at: String,
    #[pyo3(get)]
    trunk_id: Option<String>,
    #[pyo3(get)]
    agent: Option<String>,
    #[pyo3(get)]
    direction: Option<&'static str>,
    #[pyo3(get)]
    answered_at: Option<String>,
    #[pyo3(get)]
    ended_at: Option<String>,
    #[pyo3(get)]
    end_reason: Option<String>,
    #[pyo3(get)]
    ended_by: Option<String>,
    #[pyo3(get)]
    sip_code: Option<u16>,
    #[pyo3(get)]
    sip_phrase: Option<String>,
    #[pyo3(get)]
    q850: Option<u8>,
    #[pyo3(get)]
    sip_call_id: Option<String>,
    #[pyo3(get)]
    transferred_to: Option<String>,
    transfer: Option<TransferRow>,
    legs: Vec<LegRow>,
    rtp: Option<RtpStats>,
    #[pyo3(get)]
    metadata: BTreeMap<String, String>,
}

#[pymethods]
impl Row {
    /// Its last transfer to a number.
    #[getter]
    fn transfer(&self) -> Option<CallTransfer> {
        let TransferRow { to, mode, state, sip_code } = self.transfer.clone()?;
        Some(CallTransfer { to, mode, state, sip_code })
    }

    /// Its second legs, the oldest first.
    #[getter]
    fn legs(&self) -> Vec<CallLeg> {
        let leg = |leg: LegRow| CallLeg {
            to: leg.to,
            state: leg.state.as_str(),
            started_at: leg.started_at,
            answered_at: leg.answered_at,
            ended_at: leg.ended_at,
            sip_code: leg.sip_code,
            q850: leg.q850,
            sip_call_id: leg.sip_call_id,
            rtp: leg.rtp,
        };
        self.legs.iter().cloned().map(leg).collect()
    }

    /// What the packets of its phone were.
    #[getter]
    fn stats(&self) -> Option<CallStats> {
        self.rtp.clone().map(CallStats::from)
    }
}

impl From<RtpStats> for CallStats {
    fn from(rtp: RtpStats) -> Self {
        Self {
            codec: rtp.codec,
            packets_sent: rtp.packets_sent,
            bytes_sent: rtp.bytes_sent,
            packets_received: rtp.packets_received,
            bytes_received: rtp.bytes_received,
            packets_lost: rtp.packets_lost,
            remote_packets_lost: rtp.remote_packets_lost,
            jitter_ms: rtp.jitter_ms.value(),
            round_trip_ms: rtp.round_trip_ms.map(Hundredths::value),
            mos: rtp.mos.map(Hundredths::value),
        }
    }
}

/// The last transfer of a call to a number.
#[pyclass(frozen, get_all, module = "clutchcall.voice")]
pub(super) struct CallTransfer {
    to: String,
    /// How it was tried last: `refer` or `bridge`.
    mode: String,
    /// `pending`, `accepted`, `bridged`, `completed`, `failed` or `unknown`.
    state: String,
    sip_code: Option<u16>,
}

/// A second leg of a call that was transferred by a bridge.
#[pyclass(frozen, module = "clutchcall.voice")]
pub(super) struct CallLeg {
    #[pyo3(get)]
    to: String,
    /// `dialing`, `ringing`, `in_progress`, `ended` or `failed`.
    #[pyo3(get)]
    state: &'static str,
    #[pyo3(get)]
    started_at: String,
    #[pyo3(get)]
    answered_at: Option<String>,
    #[pyo3(get)]
    ended_at: Option<String>,
    #[pyo3(get)]
    sip_code: Option<u16>,
    #[pyo3(get)]
    q850: Option<u8>,
    #[pyo3(get)]
    sip_call_id: Option<String>,
    rtp: Option<RtpStats>,
}

/// What the RTP packets of a phone were, a call's or a second leg's.
#[pyclass(frozen, get_all, module = "clutchcall.voice")]
pub(super) struct CallStats {
    /// `PCMU`, `PCMA` or `opus`.
    codec: String,
    packets_sent: u64,
    bytes_sent: u64,
    packets_received: u64,
    bytes_received: u64,
    /// Packets that should have come.
    packets_lost: u64,
    /// Packets of the engine's that the far end missed, as it says itself.
    remote_packets_lost: Option<u64>,
    jitter_ms: f64,
    round_trip_ms: Option<f64>,
    /// Estimated, 1 to 4.5 (ITU-T G.107).
    mos: Option<f64>,
}

#[pymethods]
impl CallTransfer {
    fn __repr__(&self) -> String {
        let Self { to, mode, state, .. } = self;
        format!("<CallTransfer to {to} by {mode}: {state}>")
    }
}

#[pymethods]
impl CallLeg {
    /// What the packets of its phone were, once it is over.
    #[getter]
    fn stats(&self) -> Option<CallStats> {
        self.rtp.clone().map(CallStats::from)
    }

    fn __repr__(&self) -> String {
        format!("<CallLeg to {}: {}>", self.to, self.state)
    }
}

#[pymethods]
impl CallStats {
    fn __repr__(&self) -> String {
        let Self { codec, packets_sent, packets_received, packets_lost, jitter_ms, .. } = self;
        format!(
            "<CallStats {codec}: {packets_sent} packets sent, {packets_received} received, {packets_lost} lost, jitter {jitter_ms} ms>"
        )
    }
}

impl From<CallRow> for Row {
    fn from(row: CallRow) -> Self {
        Self {
            sid: row.sid,
            status: row.status.as_str(),
            to: row.to,
            from_: row.from,
            started_at: row.started_at,
            trunk_id: row.trunk_id.filter(|trunk| !trunk.is_empty()),
            agent: row.agent.filter(|agent| !agent.is_empty()),
            direction: row.direction.map(|direction| match direction {
                Direction::Outbound => "outbound",
                Direction::Inbound => "inbound",
            }),
            answered_at: row.answered_at,
            ended_at: row.ended_at,
            end_reason: row.end_reason,
            ended_by: row.ended_by,
            sip_code: row.sip_code,
            sip_phrase: row.sip_phrase,
            q850: row.q850,
            sip_call_id: row.sip_call_id,
            transferred_to: row.transferred_to,
            transfer: row.transfer,
            legs: row.legs,
            rtp: row.rtp,
            metadata: row.metadata.unwrap_or_default(),
        }
    }
}
