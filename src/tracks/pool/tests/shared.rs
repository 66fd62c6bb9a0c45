//! Links that many leases share: whose rights count on them, and what their loss means.

use std::collections::BTreeSet;

use super::world::{World, name_of, publication, relay, tokens};
use crate::moqt::message::{Setup, Token};
use crate::moqt::{FullTrackName, RequestErrorCode};
use crate::net::Down;
use crate::tracks::{Delivery, Event, LeaseId, PublishTrack, State, TrackId};

const CAP: usize = 32;
pub(super) const SIDS: [&str; 4] = ["CA1", "CA2", "CA3", "CA4"];

/// Speaks on a track of the call.
pub(super) fn publication_of(name: FullTrackName) -> PublishTrack {
    PublishTrack { track: name, ..publication("audio", Delivery::Stream) }
}

/// One lease for each call on one link, each hearing what the engine (pool 0) says on it.
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) engine: LeaseId,
    pub(super) leases: Vec<LeaseId>,
    spoken: Vec<TrackId>,
    heard: Vec<TrackId>,
}

impl Shared {
    pub(super) fn new() -> Self {
        let mut world = World::new(2, relay());
        let engine = world.lease(0);
        let route = world.route(1, CAP);
        let leases = SIDS.map(|sid| world.pools[1].lease(route, tokens(sid), world.now)).to_vec();
        let spoken = SIDS.map(|sid| world.publish(0, engine, publication_of(name_of(sid, "audio")))).to_vec();
        let mut shared = Self { world, engine, leases, spoken, heard: Vec::new() };
        for (lease, sid) in shared.leases.clone().into_iter().zip(SIDS) {
            let track = shared.hear(lease, sid);
            shared.heard.push(track);
        }
        shared.world.run_ms(200);
        shared
    }

    pub(super) fn hear(&mut self, lease: LeaseId, sid: &'static str) -> TrackId {
        let Self { world, .. } = self;
        world.pools[1].subscribe(&mut world.lines, lease, name_of(sid, "audio"), world.now)
    }

    /// Frames of every call.
    pub(super) fn speak(&mut self, range: std::ops::Range<u64>) {
        for n in range {
            for track in &self.spoken {
                self.world.write(0, *track, n);
            }
            self.world.run_ms(20);
        }
    }

    pub(super) fn counts(&self) -> Vec<usize> {
        self.heard.iter().map(|track| self.world.heard(1, *track).len()).collect()
    }

    fn refused(&self, track: TrackId) -> bool {
        let code = RequestErrorCode::Unauthorized as u64;
        self.world.count(1, |e| matches!(e, Event::Refused { track: of, code: is, .. } if *of == track && *is == code))
            > 0
    }
}

#[test]
fn sixty_four_leases_are_two_links_and_one_more_is_a_third() {
    let mut world = World::new(1, relay());
    let route = world.route(0, CAP);
    let leases: Vec<_> = (0..64).map(|_| world.pools[0].lease(route, tokens("ok"), world.now)).collect();
    world.run_ms(200);
    assert_eq!((world.lines.dialled.len(), world.lines.all.len()), (2, 2));
    world.pools[0].lease(route, tokens("ok"), world.now);
    world.run_ms(200);
    assert_eq!(world.lines.all.len(), 3);
    // Places that are given back are taken again before another link is dialled.
    leases[..8].iter().for_each(|lease| world.release(0, *lease));
    let again: BTreeSet<_> = (0..8).map(|_| world.pools[0].lease(route, tokens("ok"), world.now)).collect();
    assert_eq!(again.len(), 8);
    world.run_ms(5000);
    assert_eq!((world.lines.dialled.len(), world.lines.all.len()), (3, 3));
}

#[test]
fn a_lease_has_no_rights_but_its_own_on_a_link_that_it_shares() {
    let mut shared = Shared::new();
    shared.speak(0..10);
    assert_eq!(shared.counts(), [10; 4]);
    // Neither to hear nor to speak, on a call whose own bridge stands on the same link.
    let (first, second) = (shared.leases[0], shared.leases[1]);
    let foreign_ear = shared.hear(first, "CA9");
    let Shared { world, .. } = &mut shared;
    let foreign_mouth = world.publish(1, second, publication_of(name_of("CA1", "other")));
    shared.world.run_ms(40_000);
    assert!(shared.refused(foreign_ear) && shared.refused(foreign_mouth));
    assert_eq!(shared.world.core.as_ref().unwrap().counters().namespaces, SIDS.len());
    shared.speak(10..20);
    assert_eq!(shared.counts(), [20; 4], "nobody else notices");
}

/// Another's client may show a token in SETUP all the same.
#[test]
fn the_token_of_whoever_dialled_neither_helps_nor_hurts_the_others() {
    for token in ["CA1", "expired"] {
        let mut world = World::new(1, relay());
        world.supplies = false;
        let route = world.route(0, CAP);
        let [own, other] = ["CA1", "CA2"].map(|sid| world.pools[0].lease(route, tokens(sid), world.now));
        world.run_ms(10);
        let [(_, dial, _)] = world.wants[..] else { panic!("one link, one dial: {:?}", world.wants) };
        let tokens: Vec<Token> = tokens(token);
        world.supply(0, dial, Ok(Setup { tokens, ..Setup::default() }));
        world.run_ms(200);
        let mine = world.publish(0, own, publication_of(name_of("CA1", "audio")));
        let his = world.publish(0, other, publication_of(name_of("CA2", "audio")));
        let wrong = world.publish(0, other, publication_of(name_of("CA3", "audio")));
        world.run_ms(40_000);
        let told = world.told(0).into_iter().filter_map(|event| match event {
            Event::Refused { track, .. } => Some(*track),
            _ => None,
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), BTreeSet::from([wrong]), "{token}: not {mine:?} and not {his:?}");
    }
}

#[test]
fn a_lease_that_goes_leaves_the_link_to_the_others() {
    let mut shared = Shared::new();
    shared.speak(0..10);
    let gone = shared.leases[2];
    shared.world.release(1, gone);
    shared.speak(10..20);
    assert_eq!(shared.counts(), [20, 20, 10, 20]);
    let links: Vec<_> = shared.world.lines.closed.iter().collect();
    assert!(links.is_empty(), "{links:?}");
    assert_eq!(shared.world.core.as_ref().unwrap().counters().subscriptions, 3);
}

#[test]
fn the_links_death_is_one_dial_and_audio_on_every_call_again() {
    let mut shared = Shared::new();
    shared.speak(0..10);
    let (link, dialled) = (2, shared.world.lines.dialled.len());
    assert_eq!(shared.world.lines.all.len(), 2, "the engine's and the bridges'");
    shared.world.cut(link, Down::Reset);
    shared.speak(10..60);
    assert_eq!(shared.world.lines.dialled.len(), dialled + 1);
    let counts = shared.counts();
    assert!(counts.iter().all(|count| (30..60).contains(count)), "{counts:?}");
    for state in [State::Reconnecting, State::Connected] {
        let told = |e: &Event| matches!(e, Event::State { lease, state: is, .. } if shared.leases.contains(lease) && *is == state);
        assert!(shared.world.count(1, told) >= SIDS.len(), "{state:?}");
    }
    assert_eq!(shared.world.pools[1].counters().stale, 0);
}

#[test]
fn who_is_refused_a_way_to_connect_does_not_keep_the_others_from_theirs() {
    let mut shared = Shared::new();
    shared.world.supplies = false;
    shared.world.cut(2, Down::Reset);
    let refused = shared.leases[0];
    for _ in 0..20 {
        shared.world.run_ms(100);
        for (pool, id, lease) in std::mem::take(&mut shared.world.wants) {
            let supply = if lease == refused { Err("another speaks there") } else { Ok(Setup::default()) };
            shared.world.supply(pool, id, supply);
        }
    }
    shared.speak(0..10);
    assert_eq!(shared.counts(), [10; 4]);
}

/// A relay ends what an expired token allowed; whoever shows a fresh one in time keeps it, on a link that others share.
#[test]
fn a_call_outlives_its_token_when_a_fresh_one_is_shown() {
    for renews in [true, false] {
        let mut world = World::new(2, relay());
        let engine = world.lease(0);
        let route = world.route(1, CAP);
        let lease = world.pools[1].lease(route, tokens("CA1@30"), world.now);
        let other = world.pools[1].lease(route, tokens("CA2@1000"), world.now);
        world.publish(1, other, publication_of(name_of("CA2", "down")));
        let up = world.publish(0, engine, publication_of(name_of("CA1", "audio")));
        let down = world.publish(1, lease, publication_of(name_of("CA1", "down")));
        let World { pools, lines, now, .. } = &mut world;
        let said = pools[0].subscribe(lines, engine, name_of("CA1", "down"), *now);
        let heard = pools[1].subscribe(lines, lease, name_of("CA1", "audio"), *now);
        world.run_ms(300);
        let all = 20 * 50;
        for n in 0..all * 6 {
            if renews && n == all {
                world.pools[1].renew(lease, tokens("CA1@2000"));
            }
            world.write(0, up, n);
            world.write(1, down, n);
            world.run_ms(20);
        }
        let lost = |e: &Event| matches!(e, Event::Lost { .. } | Event::Refused { .. });
        let counts = (world.heard(0, said).len() as u64, world.heard(1, heard).len() as u64);
        if renews {
            assert_eq!((world.count(0, lost), world.count(1, lost)), (0, 0));
            assert_eq!(counts, (all * 6, all * 6));
            assert_eq!(world.core.as_ref().unwrap().counters().namespaces, 2);
        } else {
            assert!(world.count(1, lost) > 0 && counts.1 < all * 6, "{counts:?}");
        }
    }
}

/// Who only listens announces nothing that could show the fresh token: an update of his subscription does.
#[test]
fn a_listener_outlives_its_token_when_a_fresh_one_is_shown() {
    for (cap, renews) in [(CAP, true), (1, true), (CAP, false)] {
        let mut world = World::new(2, relay());
        let engine = world.lease(0);
        let route = world.route(1, cap);
        let listening = ["CA1@30", "CA1@1000"].map(|token| {
            let lease = world.pools[1].lease(route, tokens(token), world.now);
            let World { pools, lines, now, .. } = &mut world;
            (lease, pools[1].subscribe(lines, lease, name_of("CA1", "audio"), *now))
        });
        let up = world.publish(0, engine, publication_of(name_of("CA1", "audio")));
        world.run_ms(300);
        let all = 20 * 50;
        for n in 0..all * 6 {
            if renews && n == all {
                world.pools[1].renew(listening[0].0, tokens("CA1@2000"));
            }
            world.write(0, up, n);
            world.run_ms(20);
        }
        let lost = world.count(1, |e| matches!(e, Event::Lost { .. } | Event::Refused { .. }));
        let heard = listening.map(|(_, track)| world.heard(1, track).len() as u64);
        let counters = world.core.as_ref().unwrap().counters();
        if renews {
            assert_eq!((lost, heard, counters.expired), (0, [all * 6; 2], 0), "cap {cap}");
        } else {
            assert!(lost > 0 && counters.expired > 0, "without it the token's end is the subscription's");
        }
    }
}
