//! The weather over shared links: forty bridges on two links, a speaker that restarts, relays that drain one after the other.

use std::collections::HashSet;
use std::time::Duration;

use super::shared::publication_of;
use super::world::{UNIX, World, name_of, relay, tokens};
use crate::moqt::message::GoAway;
use crate::moqt::session::tests::pair::{Conditions, Rng};
use crate::net::{Down, LinkEvent};
use crate::tracks::{Delivery, Pool, PublishTrack, TrackId};

const LEASES: usize = 40;
const CAP: usize = 32;
const FRAMES: u64 = 400;
const AFTER: u64 = 50;

struct Storm {
    world: World,
    rng: Rng,
    delivery: Delivery,
    sids: Vec<&'static str>,
    spoken: Vec<TrackId>,
    heard: Vec<TrackId>,
    restarts: usize,
    drains: usize,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut world = World::new(2, relay());
        let loss = if seed.is_multiple_of(3) { 5 } else { 0 };
        world.lines.conditions =
            Conditions { jitter: Duration::from_millis(rng.below(15)), loss, ..Conditions::default() };
        let sids: Vec<&'static str> = (0..LEASES).map(|n| &*Box::leak(format!("CA{n}").into_boxed_str())).collect();
        let route = world.route(1, CAP);
        let mut heard = Vec::new();
        for sid in &sids {
            let lease = world.pools[1].lease(route, tokens(sid), world.now);
            let World { pools, lines, now, .. } = &mut world;
            heard.push(pools[1].subscribe(lines, lease, name_of(sid, "audio"), *now));
        }
        let delivery = if seed.is_multiple_of(2) { Delivery::Stream } else { Delivery::Datagram };
        let mut storm = Self { world, rng, delivery, sids, spoken: Vec::new(), heard, restarts: 0, drains: 0 };
        storm.publish();
        storm.world.run_ms(300);
        storm
    }

    fn publish(&mut self) {
        let lease = self.world.lease(0);
        let names = self.sids.iter().map(|sid| name_of(sid, "audio"));
        let tracks = names.map(|name| PublishTrack { delivery: self.delivery, ..publication_of(name) });
        self.spoken = tracks.map(|track| self.world.publish(0, lease, track)).collect();
    }

    /// The speaker's process dies, and another takes its place.
    fn restart(&mut self) {
        self.restarts += 1;
        let links: Vec<u64> = self.world.pools[0].links.keys().map(|link| link.0).collect();
        let passed = self.world.now - self.world.began;
        self.world.pools[0] = Pool::new(self.rng.below(1 << 32), self.world.now, UNIX + passed);
        links.into_iter().for_each(|link| self.world.cut(link, Down::Reset));
        self.world.run_ms(self.rng.below(3_000));
        self.publish();
    }

    fn drain(&mut self, link: u64) {
        let timeout = Some(Duration::from_millis(500 + self.rng.below(3_000))).filter(|_| self.rng.below(2) == 0);
        if let Some(line) = self.world.lines.all.get_mut(&link) {
            self.drains += 1;
            line.pair.server.goaway(GoAway { uri: String::new(), timeout });
        }
    }

    fn happen(&mut self) {
        let standing: Vec<u64> = self.world.lines.all.keys().copied().collect();
        let link = standing.get(self.rng.below(standing.len() as u64) as usize).copied().unwrap_or_default();
        match self.rng.below(8) {
            0 => self.world.cut(link, Down::Reset),
            1 => self.world.event(link, LinkEvent::Quiet),
            2 => self.world.event(link, LinkEvent::Alive),
            3 => self.drain(link),
            4 => standing.into_iter().for_each(|link| self.drain(link)),
            5 => {
                self.world.lines.reachable = false;
                self.world.crash();
            }
            6 => self.restart(),
            _ => self.world.lines.reachable = true,
        }
    }

    fn speak(&mut self, range: std::ops::Range<u64>) {
        for n in range {
            for track in &self.spoken {
                self.world.write(0, *track, n);
            }
            self.world.run_ms(20);
        }
    }

    /// On every call: no frame twice, stamps exact, and frames and known losses fill the places.
    fn check(&self, seed: u64) {
        let (mut frames, mut places) = (0, 0);
        for track in &self.heard {
            let heard = self.world.heard(1, *track);
            let distinct: HashSet<_> = heard.iter().map(|(n, ..)| n).collect();
            assert_eq!(distinct.len(), heard.len(), "seed {seed}: no frame twice");
            assert!(heard.iter().all(|(n, stamp, _)| *stamp == Some(n * 20_000)), "seed {seed}");
            frames += heard.len() as u64;
            places += heard.iter().map(|(.., sequence)| sequence + 1).max().unwrap_or_default();
        }
        assert_eq!(frames + self.world.pools[1].counters().missing, places, "seed {seed}");
    }
}

fn live_through(seed: u64) -> (usize, usize, u64) {
    let mut storm = Storm::new(seed);
    for n in 0..FRAMES {
        if storm.rng.below(25) == 0 {
            storm.happen();
        }
        storm.speak(n..n + 1);
    }
    storm.check(seed);
    storm.world.lines.reachable = true;
    storm.world.lines.conditions.loss = 0;
    storm.world.crash();
    storm.world.run_ms(4_000);
    storm.speak(FRAMES..FRAMES + AFTER);
    storm.world.run_ms(500);
    storm.check(seed);
    for track in &storm.heard {
        let tail = storm.world.heard(1, *track).into_iter().filter(|(n, ..)| *n >= FRAMES).count() as u64;
        assert_eq!(tail, AFTER, "seed {seed}: all is well again on every call");
    }
    assert!(storm.world.lines.all.len() <= 3, "seed {seed}: the speaker's link and two for forty bridges");
    (storm.restarts, storm.drains, storm.world.pools[1].counters().reconnects)
}

#[test]
fn forty_bridges_on_two_links_in_all_weathers() {
    let lives: Vec<_> = (0..16).map(live_through).collect();
    let sum = lives.iter().fold((0, 0, 0), |sum, life| (sum.0 + life.0, sum.1 + life.1, sum.2 + life.2));
    assert!(sum.0 > 15 && sum.1 > 30 && sum.2 > 60, "there was weather: {sum:?} restarts, drains, new links");
}

/// Numbers of a publisher grow over its restarts; what it says next is new, and is heard from its first frame on.
#[test]
fn a_speaker_that_restarts_is_heard_again_and_nothing_twice() {
    // Those whose path loses nothing.
    for seed in (0..12).filter(|seed: &u64| !seed.is_multiple_of(3)) {
        let mut storm = Storm::new(seed);
        let mut from = 0;
        for _ in 0..5 {
            storm.restart();
            storm.world.run_ms(1_500);
            storm.speak(from..from + 30);
            from += 30;
        }
        storm.check(seed);
        for track in &storm.heard {
            let heard: Vec<_> = storm.world.heard(1, *track).into_iter().map(|(n, ..)| n).collect();
            let in_order = storm.delivery == Delivery::Datagram || heard.is_sorted();
            assert!(heard.len() >= 140 && in_order, "seed {seed}: {heard:?}");
        }
    }
}
