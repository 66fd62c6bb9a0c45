//! A call of good people, live while others do what they do: one speaks, one hears.

use clutchcall::moqt::relay::Limits;
use clutchcall::moqt::session::{RequestId, SubgroupId};

use super::rig::{Answer, Client, Kind, Link, Relay, object};

pub const LIVE: &str = "voice/CA1/uplink";

/// A relay that does not answer EXCESSIVE_LOAD to somebody who tries as often as this.
pub fn patient_relay() -> Relay {
    let most = u32::MAX / 2;
    Relay::with(|config| config.limits = Limits { requests_per_s: most, requests_burst: most, ..Limits::default() })
}

/// Call CA1, on sessions of its own.
pub struct Call<'a> {
    speaker: Link<'a>,
    hearer: Link<'a>,
    request: RequestId,
    subgroup: SubgroupId,
    said: u64,
}

impl<'a> Call<'a> {
    pub fn begin(relay: &Relay, client: &'a Client) -> Self {
        let speaker = client.connect(relay, Kind::RawQuic, vec![relay.token(&[LIVE], &[])]);
        let hearer = client.connect(relay, Kind::RawQuic, vec![relay.token(&[], &[LIVE])]);
        assert_eq!(speaker.announce(LIVE, vec![]), Answer::Ok);
        let request = hearer.ask(LIVE, None, vec![]);
        let publication = speaker.serve(LIVE);
        assert_eq!(hearer.answered(request), Answer::Ok);
        let subgroup = speaker.open(publication, 1);
        Self { speaker, hearer, request, subgroup, said: 0 }
    }

    /// One more frame is heard, and it is the speaker's.
    pub fn goes_on(&mut self) {
        let sent = object(1, self.said, self.said.to_be_bytes().to_vec());
        self.speaker.send(self.subgroup, sent.clone());
        assert_eq!(self.hearer.object(self.request), sent, "somebody else speaks on this call");
        self.said += 1;
    }
}
