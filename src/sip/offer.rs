//! Offer and answer (RFC 3264) of one dialog, audio only.
//!
//! A [`Negotiation`] belongs to one dialog for its whole life. [`Negotiation::offer`] and [`Negotiation::handle_offer`] give
//! bodies to send, [`Negotiation::handle_answer`] takes the far end's; what both agreed on is [`Negotiation::agreed`]. A body that
//! is refused changes nothing. Either side may offer first, and again at any time (re-INVITE, UPDATE), one at a time.
//!
//! Our answers name one codec, so that no far end changes it unasked; a far end's answer may name several: the first that we
//! offered is what we send, the others are [`Negotiated::receive_types`]. Streams that we don't speak are answered with port 0
//! and keep their place for the life of the dialog. Addresses are told, not chosen, here; no packet is seen.

use std::net::IpAddr;

use sdp_types::{Media, Session, Time};

use super::agreed::{Direction, Local, Negotiated, Refused};
use super::format::{Codec, Coding, Events, MAX_PTIME_MS, Numbers};
use super::sdp::{self, Description, Payload, Stream};

const PLAIN: &str = "RTP/AVP";

/// A stream's place among the `m=` lines.
#[derive(Clone, Debug)]
enum Slot {
    Audio,
    Refused { media: String, proto: String, formats: String },
}

/// Our offer that waits for its answer, and what holds again if it gets none.
#[derive(Clone, Debug)]
struct Pending {
    wants: Direction,
    local: Local,
    /// What an answer in a provisional response said (RFC 3261 §13.2.1).
    early: Option<Negotiated>,
}

/// Offer and answer of one dialog.
#[derive(Clone, Debug)]
pub struct Negotiation {
    local: Local,
    session_id: u64,
    wants: Direction,
    numbers: Numbers,
    slots: Vec<Slot>,
    proto: String,
    /// The description that was sent last.
    sent: Option<Session>,
    pending: Option<Pending>,
    agreed: Option<Negotiated>,
}

impl Negotiation {
    /// `session_id` names the session in `o=`; the same for the life of the dialog.
    pub fn new(local: Local, session_id: u64) -> Self {
        Self {
            local,
            session_id,
            wants: Direction::SendRecv,
            numbers: Numbers::default(),
            slots: vec![Slot::Audio],
            proto: PLAIN.to_owned(),
            sent: None,
            pending: None,
            agreed: None,
        }
    }

    /// What holds now; also while an offer is under way.
    pub fn agreed(&self) -> Option<&Negotiated> {
        self.agreed.as_ref()
    }

    /// What an answer in a provisional response said, until the final one.
    pub fn early(&self) -> Option<&Negotiated> {
        self.pending.as_ref()?.early.as_ref()
    }

    pub fn is_offering(&self) -> bool {
        self.pending.is_some()
    }

    /// What we want to do from now on: an answer says it beside what the far end wants.
    pub fn want(&mut self, wants: Direction) {
        self.wants = wants;
    }

    /// Our offer: of an INVITE or re-INVITE, or in the 200 to one without a body. The codec in use comes first.
    pub fn offer(&mut self) -> Result<String, Refused> {
        let (wants, local) = (self.wants, self.local.clone());
        self.offer_as(local, wants)
    }

    /// The offer of a re-INVITE that puts the far end on hold, or takes it off (RFC 3264 §8.4).
    pub fn offer_hold(&mut self, hold: bool) -> Result<String, Refused> {
        let wants = if hold { Direction::SendOnly } else { Direction::SendRecv };
        self.offer_as(self.local.clone(), wants)
    }

    /// The offer of a re-INVITE that moves our end.
    pub fn offer_from(&mut self, address: IpAddr, port: u16) -> Result<String, Refused> {
        let local = Local { address, port, ..self.local.clone() };
        self.offer_as(local, self.wants)
    }

    /// The offer of a session refresh: what was sent last, unchanged in its version too (RFC 4028 §7.4).
    pub fn refresh(&mut self) -> Result<String, Refused> {
        let Some(sent) = self.sent.clone().filter(|_| self.pending.is_none()) else { return self.offer() };
        self.pending = Some(Pending { wants: self.wants, local: self.local.clone(), early: None });
        Ok(sent.to_string())
    }

    fn offer_as(&mut self, local: Local, wants: Direction) -> Result<String, Refused> {
        if self.pending.is_some() {
            return Err(Refused::Glare);
        }
        let before = Pending { wants: self.wants, local: std::mem::replace(&mut self.local, local), early: None };
        self.wants = wants;
        self.pending = Some(before);
        let codings = self.codings();
        let lines: Vec<(u8, Coding)> =
            codings.into_iter().filter_map(|coding| Some((self.numbers.assign(coding)?, coding))).collect();
        let session = self.describe(&lines, wants, Vec::new());
        Ok(self.send(session))
    }

    /// The answer of a 2xx, or of an ACK to our offer in one. `body` is empty where an earlier response had the answer.
    pub fn handle_answer(&mut self, body: &[u8]) -> Result<&Negotiated, Refused> {
        let pending = self.pending.as_ref().ok_or(Refused::NoOffer)?;
        let negotiated = match &pending.early {
            Some(early) if body.is_empty() => early.clone(),
            _ => self.read_answer(body)?,
        };
        self.pending = None;
        Ok(self.agreed.insert(negotiated))
    }

    /// The answer of a provisional response: heard early, replaced by the final one.
    pub fn handle_early_answer(&mut self, body: &[u8]) -> Result<&Negotiated, Refused> {
        if self.pending.is_none() {
            return Err(Refused::NoOffer);
        }
        let negotiated = self.read_answer(body)?;
        let pending = self.pending.as_mut().ok_or(Refused::NoOffer)?;
        Ok(pending.early.insert(negotiated))
    }

    /// Our offer was refused: what was agreed on before holds (RFC 3261 §14.1).
    pub fn roll_back(&mut self) {
        if let Some(before) = self.pending.take() {
            self.wants = before.wants;
            self.local = before.local;
        }
    }

    /// The far end's offer; gives our answer.
    pub fn handle_offer(&mut self, body: &[u8]) -> Result<String, Refused> {
        if self.pending.is_some() {
            return Err(Refused::Glare);
        }
        let offered = Description::read(body)?;
        let at = self.audio_of(&offered).ok_or(Refused::NoAudio)?;
        let stream = &offered.streams[at];
        let (payload, codec) = self.choose(stream).ok_or(Refused::NoCommonCodec)?;
        let events = self.events_beside(stream, codec);
        let direction = self.wants.beside(said(stream));
        let negotiated = self.negotiated(stream, (codec, payload.number, payload.number), events, direction);

        let mut lines = vec![(payload.number, payload.coding)];
        lines.extend(events.map(|events| (events.send_type, Coding::Events { clock_rate: events.clock_rate })));
        lines.iter().for_each(|(number, coding)| self.numbers.learn(*number, *coding));
        self.proto.clone_from(&stream.proto);
        self.slots = offered.streams.iter().enumerate().map(|(i, stream)| slot(stream, i == at)).collect();
        self.agreed = Some(negotiated);
        let session = self.describe(&lines, direction, offered.times);
        Ok(self.send(session))
    }

    /// Every coding of an offer, the codec in use first.
    fn codings(&self) -> Vec<Coding> {
        let used = self.agreed.as_ref().map(|agreed| agreed.codec).filter(|codec| self.local.codecs.contains(codec));
        let rest = self.local.codecs.iter().copied().filter(|codec| Some(*codec) != used);
        let mut codings: Vec<Coding> = Vec::new();
        for coding in used.into_iter().chain(rest).map(Coding::Audio) {
            if !codings.contains(&coding) {
                codings.push(coding);
            }
        }
        let rates: Vec<u32> = codings.iter().filter_map(|coding| clock_rate(*coding)).collect();
        for clock_rate in rates {
            let events = Coding::Events { clock_rate };
            if !codings.contains(&events) {
                codings.push(events);
            }
        }
        codings
    }

    /// The stream that is ours: where it was before, else the first that we speak.
    fn audio_of(&self, offered: &Description) -> Option<usize> {
        let fits = |at: &usize| offered.streams.get(*at).is_some_and(Stream::is_plain_audio);
        let before = self.slots.iter().position(|slot| matches!(slot, Slot::Audio)).filter(|_| self.sent.is_some());
        before.filter(fits).or_else(|| (0..offered.streams.len()).find(fits))
    }

    /// The codec in use if it is still offered, else the first of ours that is.
    fn choose<'a>(&self, stream: &'a Stream) -> Option<(&'a Payload, Codec)> {
        let used = self.agreed.as_ref().map(|agreed| agreed.codec);
        used.into_iter().chain(self.local.codecs.iter().copied()).find_map(|codec| {
            let payload = stream.payloads.iter().find(|payload| payload.coding == Coding::Audio(codec))?;
            Some((payload, codec))
        })
    }

    /// telephone-event of the codec's clock, else of any.
    fn events_beside(&self, stream: &Stream, codec: Codec) -> Option<Events> {
        let payload = events_of(stream, codec)?;
        let Coding::Events { clock_rate } = payload.coding else { return None };
        let keys = Events::keys_of(&payload.fmtp);
        Some(Events { send_type: payload.number, receive_type: payload.number, clock_rate, keys })
    }

    fn read_answer(&self, body: &[u8]) -> Result<Negotiated, Refused> {
        let mut answered = Description::read(body)?;
        let at = self.slots.iter().position(|slot| matches!(slot, Slot::Audio)).unwrap_or(0);
        if !answered.streams.get(at).is_some_and(Stream::is_plain_audio) {
            return Err(Refused::NoAudio);
        }
        let mut stream = answered.streams.swap_remove(at);
        for payload in &mut stream.payloads {
            // An answer may leave out the map of a number that the offer explained.
            if payload.coding == Coding::Unmapped {
                payload.coding = self.numbers.meaning(payload.number).unwrap_or(Coding::Unmapped);
            }
        }
        let known = stream.payloads.iter().filter_map(|payload| match payload.coding {
            Coding::Audio(codec) if self.local.codecs.contains(&codec) => {
                Some((payload.number, self.numbers.find(payload.coding)?, codec))
            }
            _ => None,
        });
        let known: Vec<(u8, u8, Codec)> = known.collect();
        let (send_type, receive_type, codec) = *known.first().ok_or(Refused::NoCommonCodec)?;
        let events = events_of(&stream, codec).and_then(|payload| {
            let Coding::Events { clock_rate } = payload.coding else { return None };
            let (receive_type, keys) = (self.numbers.find(payload.coding)?, Events::keys_of(&payload.fmtp));
            Some(Events { send_type: payload.number, receive_type, clock_rate, keys })
        });
        let direction = self.wants.beside(said(&stream));
        let mut negotiated = self.negotiated(&stream, (codec, send_type, receive_type), events, direction);
        negotiated.receive_types = known.iter().map(|(_, receive_type, codec)| (*receive_type, *codec)).collect();
        Ok(negotiated)
    }

    fn negotiated(
        &self,
        stream: &Stream,
        (codec, send_type, receive_type): (Codec, u8, u8),
        events: Option<Events>,
        direction: Direction,
    ) -> Negotiated {
        let wanted = stream.ptime.unwrap_or(u32::from(self.local.ptime_ms));
        let is_used = |payload: &&Payload| payload.number == send_type;
        let opus = stream.payloads.iter().find(is_used).filter(|_| codec == Codec::Opus).map(Payload::opus_wishes);
        Negotiated {
            remote: stream.remote(),
            remote_rtcp: stream.remote_rtcp(),
            codec,
            send_type,
            receive_types: vec![(receive_type, codec)],
            ptime_ms: codec.ptime_ms(wanted, stream.max_ptime),
            direction,
            events,
            opus,
        }
    }

    fn describe(&self, lines: &[(u8, Coding)], direction: Direction, times: Vec<Time>) -> Session {
        let mut session = sdp::session(self.session_id, self.local.address, times);
        session.medias = self.slots.iter().map(|slot| self.stream(slot, lines, direction)).collect();
        session
    }

    fn stream(&self, slot: &Slot, lines: &[(u8, Coding)], direction: Direction) -> Media {
        if let Slot::Refused { media, proto, formats } = slot {
            return sdp::media(media, 0, proto, formats);
        }
        let numbers: Vec<String> = lines.iter().map(|(number, _)| number.to_string()).collect();
        let mut media = sdp::media("audio", self.local.port, &self.proto, &numbers.join(" "));
        for (number, coding) in lines {
            if let Some(map) = coding.rtpmap() {
                sdp::say(&mut media, "rtpmap", Some(format!("{number} {map}")));
            }
            if let Some(parameters) = coding.fmtp() {
                sdp::say(&mut media, "fmtp", Some(format!("{number} {parameters}")));
            }
        }
        sdp::say(&mut media, "ptime", Some(self.local.ptime_ms.to_string()));
        sdp::say(&mut media, "maxptime", Some(MAX_PTIME_MS.to_string()));
        sdp::say(&mut media, direction.as_str(), None);
        media
    }

    /// A description that differs from the one before is the next version, an equal one the same (RFC 3264 §8).
    fn send(&mut self, mut session: Session) -> String {
        session.origin.sess_version = self.sent.as_ref().map_or(1, |sent| sent.origin.sess_version);
        if self.sent.as_ref().is_some_and(|sent| *sent != session) {
            session.origin.sess_version += 1;
        }
        let body = session.to_string();
        self.sent = Some(session);
        body
    }
}

/// Of which clock telephone-event stands beside this codec.
fn clock_rate(coding: Coding) -> Option<u32> {
    match coding {
        Coding::Audio(codec) => Some(codec.clock_rate()),
        _ => None,
    }
}

fn events_of(stream: &Stream, codec: Codec) -> Option<&Payload> {
    let right = Coding::Events { clock_rate: codec.clock_rate() };
    let any = |payload: &&Payload| matches!(payload.coding, Coding::Events { .. });
    stream.payloads.iter().find(|payload| payload.coding == right).or_else(|| stream.payloads.iter().find(any))
}

/// What the far end says of itself: where nothing may be sent to, it receives nothing.
fn said(stream: &Stream) -> Direction {
    let direction = stream.direction;
    Direction::from_parts(direction.sends(), direction.receives() && !stream.is_blackholed)
}

fn slot(stream: &Stream, is_ours: bool) -> Slot {
    if is_ours {
        return Slot::Audio;
    }
    let (media, proto, formats) = (stream.media.clone(), stream.proto.clone(), stream.formats.clone());
    Slot::Refused { media, proto, formats }
}
