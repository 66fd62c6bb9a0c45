//! Trunks as the API shows them: what was configured and how they do. Never a password.

use serde::Serialize;

use crate::call::wire::TrunkRow;
use crate::engine::calls::TrunkState;
use crate::engine::config::{Host, SipTrunk, Trunk, TrunkKind};

/// What only a SIP trunk has, by the vendor's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SipRow<'a> {
    transport: &'static str,
    sbc_ip: Option<String>,
    destination_sbc_port: Option<u16>,
    gateway_ip: Option<String>,
    proxy: Option<String>,
    domain: Option<&'a str>,
    source_pbx_port: u16,
    require_registration: bool,
    register_expires_sec: u64,
    sip_username: Option<&'a str>,
    codec_preferences: Vec<&'static str>,
    rtp_start_port: u16,
    rtp_end_port: u16,
    number_template: &'a str,
    refer_to: &'a str,
    dtmf_mode: &'static str,
}

pub(super) fn row<'a>(state: &TrunkState, trunk: &'a Trunk) -> TrunkRow<SipRow<'a>> {
    TrunkRow {
        trunk_id: state.id.clone(),
        display_name: trunk.display_name.clone(),
        kind: trunk.kind.as_str().to_owned(),
        channel_limit: trunk.channel_limit as u64,
        max_cps: trunk.max_cps as u64,
        active_calls: state.active as u64,
        waiting_calls: state.waiting as u64,
        health: state.health.as_str().to_owned(),
        problem: state.problem.clone(),
        caller_ids: trunk.caller_ids.iter().map(|caller_id| caller_id.as_str().to_owned()).collect(),
        transfer_mode: trunk.transfer_mode().as_str().to_owned(),
        sip: match &trunk.kind {
            TrunkKind::Phone => None,
            TrunkKind::Sip(sip) => Some(SipRow::new(sip)),
        },
        more: Default::default(),
    }
}

impl<'a> SipRow<'a> {
    fn new(sip: &'a SipTrunk) -> Self {
        Self {
            transport: sip.transport.as_str(),
            sbc_ip: sip.sbc_ip.as_ref().map(Host::to_string),
            destination_sbc_port: sip.destination_sbc_port,
            gateway_ip: sip.gateway_ip.as_ref().map(Host::to_string),
            proxy: sip.proxy.as_ref().map(Host::to_string),
            domain: sip.domain.as_deref(),
            source_pbx_port: sip.source_pbx_port,
            require_registration: sip.require_registration,
            register_expires_sec: sip.register_expires.as_secs(),
            sip_username: sip.credentials.as_ref().map(|credentials| credentials.sip_username.as_str()),
            codec_preferences: sip.codec_preferences.iter().map(|codec| codec.as_str()).collect(),
            rtp_start_port: *sip.rtp_ports.start(),
            rtp_end_port: *sip.rtp_ports.end(),
            number_template: sip.number_template.as_str(),
            refer_to: sip.refer_to.as_str(),
            dtmf_mode: sip.dtmf_mode.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::{Credentials, Secret};
    use crate::sip::health::State;

    #[test]
    fn a_row_has_what_was_configured_and_no_secret() {
        let credentials = Credentials { sip_username: "acct".to_owned(), sip_password: Secret::new("p4ss5551234") };
        let sip = SipTrunk { credentials: Some(credentials), ..SipTrunk::to("sip.example.com".parse().unwrap()) };
        let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), ..Trunk::default() };
        let state =
            TrunkState { id: "carrier".to_owned(), active: 3, waiting: 1, health: State::Degraded, problem: None };
        let row = serde_json::to_value(row(&state, &trunk)).unwrap();
        assert_eq!(
            (&row["trunkId"], &row["health"], &row["waitingCalls"]),
            (&"carrier".into(), &"degraded".into(), &1.into())
        );
        assert_eq!((&row["sip"]["sbcIp"], &row["sip"]["sipUsername"]), (&"sip.example.com".into(), &"acct".into()));
        assert!(!row.to_string().contains("5551234"), "{row}");
    }
}
