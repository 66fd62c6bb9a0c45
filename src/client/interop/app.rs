//! A case over real links, on the thread of whoever asked for it.

use std::time::Instant;

use super::cases::Who;
use super::play::{Play, Stage};
use super::{Met, Report};
use crate::client::runtime::{CANCEL_STEP, Cancel};
use crate::error::{Error, Kind, Result};
use crate::moqt::Session;
use crate::net::{App, Dial, Down, LinkEvent, LinkId, Links, Wire, Worker};

struct Show<'a> {
    play: Play,
    dial: Dial,
    links: [Option<LinkId>; Who::ALL.len()],
    met: [Option<Met>; Who::ALL.len()],
    cancel: Cancel<'a>,
    cancelled: bool,
    /// When `cancel` is asked again.
    ask_at: Instant,
}

/// The links of a case, lent for one event.
struct Hands<'a> {
    links: &'a mut Links,
    slots: &'a mut [Option<LinkId>; Who::ALL.len()],
    dial: &'a Dial,
    now: Instant,
}

impl Stage for Hands<'_> {
    fn dial(&mut self, who: Who) {
        self.slots[who as usize] = Some(self.links.dial(self.dial.clone(), self.now));
    }

    fn session(&mut self, who: Who) -> Option<&mut Session> {
        self.links.session(self.slots[who as usize]?)
    }
}

/// Plays until the end, or until the cancel check says so.
pub(super) fn run(worker: Worker, play: Play, dial: Dial, cancel: Cancel<'_>) -> Result<Report> {
    let started = Instant::now();
    let (links, met) = Default::default();
    let mut show = Show { play, dial, links, met, cancel, cancelled: false, ask_at: started };
    worker.run(&mut show);
    match show.play.end() {
        Some(end) => {
            Ok(Report { end: end.clone(), took: started.elapsed(), met: show.met.into_iter().flatten().collect() })
        }
        None => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

impl Show<'_> {
    fn step(&mut self, links: &mut Links, now: Instant, step: impl FnOnce(&mut Play, &mut Hands<'_>)) {
        let mut hands = Hands { links, slots: &mut self.links, dial: &self.dial, now };
        step(&mut self.play, &mut hands);
    }

    fn part_of(&self, link: LinkId) -> Option<Who> {
        Who::ALL.into_iter().find(|who| self.links[*who as usize] == Some(link))
    }
}

impl App for Show<'_> {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant) {
        let Some(who) = self.part_of(link) else { return };
        match event {
            LinkEvent::Up(peer) => {
                let transport = if peer.wire == Wire::WebTransport { "webtransport-h3" } else { "quic" };
                let draft = links.session(link).map(|session| session.draft());
                let first_id = links.first_id(link).unwrap_or_default();
                let connection_id: String = first_id.iter().map(|byte| format!("{byte:02x}")).collect();
                self.met[who as usize] = draft.map(|draft| Met {
                    role: who.label(),
                    transport,
                    version: super::version(draft),
                    connection_id,
                });
            }
            LinkEvent::Moqt(event) => self.step(links, now, |play, hands| play.handle_event(hands, who, event, now)),
            LinkEvent::Down(down) => {
                let never = self.met[who as usize].is_none();
                self.play.handle_down(who, words(&down), never);
            }
            LinkEvent::Quiet | LinkEvent::Alive => {}
        }
    }

    fn handle_wake(&mut self, _: &mut Links, _: Instant) {}

    fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        if self.ask_at <= now {
            self.ask_at = now + CANCEL_STEP;
            self.cancelled |= (self.cancel)();
        }
        self.step(links, now, |play, hands| play.handle_timeout(hands, now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.play.poll_timeout().map_or(self.ask_at, |at| at.min(self.ask_at)))
    }

    fn flush(&mut self, _: Instant) {}

    fn is_done(&self) -> bool {
        self.cancelled || self.play.end().is_some()
    }
}

fn words(down: &Down) -> String {
    match down {
        Down::Unreachable(reason) => reason.clone(),
        Down::TimedOut => "the path went silent".to_owned(),
        Down::Reset => "a stateless reset".to_owned(),
        Down::Peer { code, reason } => format!("closed by the peer with {code:#x} {reason:?}"),
        Down::Local { code, reason } => format!("closed by us with {code:#x} {reason:?}"),
    }
}
