//! [`Talk`]: ports, offer and answer, and leg of one call, as a trunk needs them.
//!
//! It keeps three things in step that would otherwise be the trunk's to remember: the pair of ports stands in every description of
//! ours; the leg is made once, of the first agreement; every later agreement is told to the leg.

use std::net::IpAddr;

use super::{Codec, Pair, Ports, RtpLeg, RtpLine, Settings, ports};
use crate::audio;
use crate::rtp::dtmf::{Key, Stroke};
use crate::sip::{Direction, Local, Negotiated, Negotiation, Refused};

/// Opens the audio of one trunk's calls.
#[derive(Clone, Debug)]
pub struct Talks {
    pub ports: Ports,
    /// What far sides are told; our own address, or that of a translator in front of it.
    pub address: IpAddr,
    /// The preferred first.
    pub codecs: Vec<Codec>,
    pub ptime_ms: u8,
    pub settings: Settings,
}

/// The audio of one call, from before its INVITE to its end.
#[derive(Debug)]
pub struct Talk {
    negotiation: Negotiation,
    settings: Settings,
    /// Until the leg has it.
    pair: Option<Pair>,
    line: Option<RtpLine>,
}

impl Talks {
    /// Binds the ports of a call. The error is for the log: none are left.
    pub fn open(&self) -> Result<Talk, String> {
        self.open_like(None)
    }

    /// The same for a call that is to be joined to one of this codec: it is preferred, if the trunk has it.
    pub fn open_like(&self, first: Option<audio::Codec>) -> Result<Talk, String> {
        let (pair, ptime_ms) = (self.ports.open()?, self.ptime_ms);
        let is_first = |codec: &Codec| Some(codec.audio()) == first;
        let (mut codecs, rest): (Vec<_>, Vec<_>) = self.codecs.iter().copied().partition(is_first);
        codecs.extend(rest);
        let local = Local { address: self.address, port: pair.port(), codecs, ptime_ms };
        // RFC 8866 §5.2: a number that is unique; more than that nobody reads in it. Some peers take 63 bits only.
        let negotiation = Negotiation::new(local, ports::random() >> 1);
        Ok(Talk { negotiation, settings: self.settings, pair: Some(pair), line: None })
    }
}

impl Talk {
    /// A description of ours for an INVITE, or for the 200 to one without any.
    pub fn offer(&mut self) -> Result<String, Refused> {
        self.negotiation.offer()
    }

    /// The far side's answer to our offer. Its leg comes with [`Talk::leg`], or has been told.
    pub fn handle_answer(&mut self, body: &[u8]) -> Result<(), Refused> {
        self.negotiation.handle_answer(body)?;
        self.tell();
        Ok(())
    }

    /// The far side's offer, of an INVITE, re-INVITE or UPDATE: our answer. A body of nothing asks for an offer of ours; its answer
    /// comes in the ACK.
    pub fn handle_offer(&mut self, body: &[u8]) -> Result<String, Refused> {
        if body.is_empty() {
            return self.negotiation.offer();
        }
        let answer = self.negotiation.handle_offer(body)?;
        self.tell();
        Ok(answer)
    }

    /// Our offer was refused, or its answer never came.
    pub fn roll_back(&mut self) {
        self.negotiation.roll_back();
    }

    /// The answer of a provisional response: what is heard already. The leg comes once, and says nothing until the final answer;
    /// after that [`Talk::leg`] has none.
    pub fn early_leg(&mut self, body: &[u8]) -> Option<RtpLeg> {
        let early = self.negotiation.handle_early_answer(body).ok()?;
        let direction = if early.direction.receives() { Direction::RecvOnly } else { Direction::Inactive };
        let early = Negotiated { direction, ..early.clone() };
        if let Some(line) = &self.line {
            line.update(&early);
            return None;
        }
        let (leg, line) = RtpLeg::new(&early, self.pair.take()?, self.settings);
        self.line = Some(line);
        Some(leg)
    }

    /// Its leg is somewhere, and is told what is agreed.
    pub fn is_open(&self) -> bool {
        self.line.is_some()
    }

    /// The call is answered: its audio, once, when both have agreed.
    pub fn leg(&mut self) -> Option<RtpLeg> {
        let negotiated = self.negotiation.agreed()?;
        let (leg, line) = RtpLeg::new(negotiated, self.pair.take()?, self.settings);
        self.line = Some(line);
        Some(leg)
    }

    /// These go on the line, as telephone events that both know. The error is what to say to a user.
    pub fn takes(&self, strokes: &[Stroke]) -> Result<(), String> {
        let events = self.negotiation.agreed().and_then(|agreed| agreed.events).filter(|_| self.settings.presses);
        let keys = events.map_or(0, |events| events.keys);
        if keys == 0 {
            return Err("the far end takes no telephone events (RFC 4733), so it can't be sent keys".to_owned());
        }
        match strokes.iter().filter_map(|stroke| stroke.key()).all(|key| keys & key.bit() != 0) {
            true => Ok(()),
            false => Err(format!(
                "digits has a key that the far end takes no telephone event for: send those of its SDP alone ({}), or set dtmf_mode \
                 = \"info\" in its trunk if it reads keys in SIP INFO",
                Key::those_of(keys).map(Key::as_char).collect::<String>()
            )),
        }
    }

    /// Presses keys on the line: all of them, or none. The error is what to say to a user.
    pub fn press(&self, strokes: &[Stroke], duration_ms: u32) -> Result<(), String> {
        let line = self.line.as_ref().ok_or("the call is not answered: send keys once it is in_progress")?;
        self.takes(strokes)?;
        line.press(strokes, duration_ms)
    }

    /// Offer and answer, for what this file does not need.
    pub fn negotiation(&mut self) -> &mut Negotiation {
        &mut self.negotiation
    }

    fn tell(&self) {
        if let (Some(line), Some(negotiated)) = (&self.line, self.negotiation.agreed()) {
            line.update(negotiated);
        }
    }
}
