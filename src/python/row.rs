//! A call's row as the API gave it.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use crate::call::CallRow;
use crate::call::record::Direction;

/// What the control plane said about a call at one moment.
#[pyclass(frozen, get_all, name = "CallRow", module = "clutchcall._core")]
pub(super) struct Row {
    sid: String,
    status: &'static str,
    to: String,
    from_: String,
    started_at: String,
    trunk_id: Option<String>,
    agent: Option<String>,
    direction: Option<&'static str>,
    answered_at: Option<String>,
    ended_at: Option<String>,
    end_reason: Option<String>,
    ended_by: Option<String>,
    sip_code: Option<u16>,
    q850: Option<u8>,
    transferred_to: Option<String>,
    metadata: BTreeMap<String, String>,
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
            q850: row.q850,
            transferred_to: row.transferred_to,
            metadata: row.metadata.unwrap_or_default(),
        }
    }
}
