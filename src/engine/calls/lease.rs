//! Who may speak: one holder per side and rendition of a call.
//!
//! A holder lives from its token until it gives the right back, until its publication is lost, or, if it never began to publish,
//! [`GRACE`] after its last token. The same holder may ask again (a reconnect): its epoch grows, and the loss of its older
//! publication takes nothing from the newer token, which has a grace of its own.
//!
//! Who was lost is remembered until another takes the right: on a link that bridges share he may publish again with the
//! token he has (decision 0045), and is its holder again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::tracks::Side;

/// From a token to the first sign of its publication.
pub(super) const GRACE: Duration = Duration::from_secs(15);
/// Renditions of a call that may be spoken on at the same time; with those who were lost no more are remembered.
const MAX_LEASES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<(Side, String), Lease>,
    epoch: u64,
}

#[derive(Debug)]
struct Lease {
    holder: String,
    live: bool,
    /// What is live was so before the last token: its loss is that of a session which another replaces.
    ghost: bool,
    grace_until: Instant,
}

/// Why a token is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Another holder speaks there.
    Other,
    /// Too many renditions of this call are spoken on.
    TooMany,
}

impl Leases {
    /// The epoch of the holder's new token.
    pub(super) fn take(&mut self, side: Side, rendition: &str, holder: &str, now: Instant) -> Result<u64, Taken> {
        let place = (side, rendition.to_owned());
        let live = match self.held.get(&place) {
            Some(lease) if lease.holder == holder => lease.live,
            Some(lease) if lease.is_held(now) => return Err(Taken::Other),
            Some(_) => false,
            None => {
                self.make_room(now)?;
                false
            }
        };
        self.held.insert(place, Lease { holder: holder.to_owned(), live, ghost: live, grace_until: now + GRACE });
        self.epoch += 1;
        Ok(self.epoch)
    }

    pub(super) fn is_held_by(&self, side: Side, rendition: &str, holder: &str, now: Instant) -> bool {
        self.held.get(&(side, rendition.to_owned())).is_some_and(|lease| lease.holder == holder && lease.is_held(now))
    }

    /// The holder gives it back; nobody else's is touched.
    pub(super) fn release(&mut self, side: Side, rendition: &str, holder: &str) {
        let place = (side, rendition.to_owned());
        if self.held.get(&place).is_some_and(|lease| lease.holder == holder) {
            self.held.remove(&place);
        }
    }

    /// A publication began or was lost.
    pub(super) fn speaking(&mut self, side: Side, rendition: &str, live: bool, now: Instant) {
        if let Some(lease) = self.held.get_mut(&(side, rendition.to_owned())) {
            let was_live = std::mem::replace(&mut lease.live, live);
            if !was_live && !live {
                return;
            }
            if !live && !std::mem::take(&mut lease.ghost) {
                lease.grace_until = now;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Whoever was lost makes room.
    fn make_room(&mut self, now: Instant) -> Result<(), Taken> {
        if self.held.len() >= MAX_LEASES {
            let lost = self.held.iter().find(|(_, lease)| !lease.is_held(now)).map(|(place, _)| place.clone());
            self.held.remove(&lost.ok_or(Taken::TooMany)?);
        }
        Ok(())
    }
}

impl Lease {
    fn is_held(&self, now: Instant) -> bool {
        self.live || now < self.grace_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: Side = Side::Downlink;

    #[test]
    fn one_holder_per_rendition() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        assert_eq!(leases.take(SIDE, "audio", "a", now), Ok(1));
        assert_eq!(leases.take(SIDE, "audio", "b", now), Err(Taken::Other));
        assert_eq!(leases.take(SIDE, "audio.pcm16.16000", "b", now), Ok(2));
        assert_eq!(leases.take(Side::Uplink, "audio", "b", now), Ok(3));
        assert_eq!(leases.take(SIDE, "audio", "a", now), Ok(4), "a holder's next token is newer");
    }

    #[test]
    fn a_holder_that_never_speaks_is_forgotten() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.take(SIDE, "audio", "a", now).unwrap();
        assert_eq!(leases.take(SIDE, "audio", "b", now + GRACE / 2), Err(Taken::Other));
        assert!(leases.take(SIDE, "audio", "b", now + GRACE).is_ok());
    }

    #[test]
    fn a_speaker_keeps_it_until_its_publication_is_lost() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.take(SIDE, "audio", "a", now).unwrap();
        leases.speaking(SIDE, "audio", true, now);
        let later = now + 10 * GRACE;
        assert_eq!(leases.take(SIDE, "audio", "b", later), Err(Taken::Other));
        leases.speaking(SIDE, "audio", false, later);
        assert!(leases.take(SIDE, "audio", "b", later).is_ok());
        // Also right after the token.
        leases.speaking(SIDE, "audio", true, later);
        leases.speaking(SIDE, "audio", false, later);
        assert!(leases.take(SIDE, "audio", "c", later).is_ok());
    }

    #[test]
    fn a_reconnect_beside_its_own_ghost_stays_the_holder() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.take(SIDE, "audio", "a", now).unwrap();
        leases.speaking(SIDE, "audio", true, now);
        let later = now + 10 * GRACE;
        leases.take(SIDE, "audio", "a", later).unwrap();
        leases.speaking(SIDE, "audio", false, later); // the old session's publication
        assert_eq!(leases.take(SIDE, "audio", "b", later), Err(Taken::Other));
        leases.speaking(SIDE, "audio", true, later);
        leases.speaking(SIDE, "audio", false, later);
        assert!(leases.take(SIDE, "audio", "b", later).is_ok());
    }

    #[test]
    fn who_was_lost_and_speaks_again_with_his_token_is_the_holder_unless_another_is() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.take(SIDE, "audio", "a", now).unwrap();
        leases.speaking(SIDE, "audio", true, now);
        leases.speaking(SIDE, "audio", false, now); // his link fell
        assert!(!leases.is_held_by(SIDE, "audio", "a", now));
        let later = now + GRACE;
        leases.speaking(SIDE, "audio", true, later);
        assert!(leases.is_held_by(SIDE, "audio", "a", later));
        assert_eq!(leases.take(SIDE, "audio", "b", later), Err(Taken::Other));
        leases.speaking(SIDE, "audio", false, later);
        leases.take(SIDE, "audio", "b", later).unwrap();
        assert_eq!(leases.take(SIDE, "audio", "a", later), Err(Taken::Other));
    }

    #[test]
    fn only_the_holder_gives_it_back() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.take(SIDE, "audio", "a", now).unwrap();
        leases.release(SIDE, "audio", "b");
        assert_eq!(leases.take(SIDE, "audio", "b", now), Err(Taken::Other));
        leases.release(SIDE, "audio", "a");
        assert!(leases.take(SIDE, "audio", "b", now).is_ok());
    }

    #[test]
    fn a_call_has_room_for_so_many_speakers() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        for n in 0..MAX_LEASES {
            leases.take(SIDE, &n.to_string(), "a", now).unwrap();
        }
        assert_eq!(leases.take(SIDE, "one more", "a", now), Err(Taken::TooMany));
        assert!(leases.take(SIDE, "one more", "a", now + GRACE).is_ok());
    }
}
