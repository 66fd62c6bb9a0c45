//! The places of a host that nobody answered at: left out for a while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a place that failed is left out, and how many of a host are.
const LEFT_OUT: Duration = Duration::from_secs(60);
const MOST: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Failed(Vec<(SocketAddr, Instant)>);

impl Failed {
    pub(super) fn has(&self, place: SocketAddr, now: Instant) -> bool {
        self.0.iter().any(|(failed, at)| *failed == place && now.saturating_duration_since(*at) < LEFT_OUT)
    }

    /// `false`: it is left out already.
    pub(super) fn enter(&mut self, place: SocketAddr, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < LEFT_OUT);
        let is_new = !self.has(place, now);
        if is_new && self.0.len() < MOST {
            self.0.push((place, now));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_fails_is_left_out_for_a_while() {
        let [one, other]: [SocketAddr; 2] = ["192.0.2.1:5060", "192.0.2.1:5070"].map(|text| text.parse().unwrap());
        let (mut failed, now) = (Failed::default(), Instant::now());
        assert!(!failed.has(one, now) && failed.enter(one, now));
        assert!(failed.has(one, now) && !failed.has(other, now), "another port is another place");
        assert!(!failed.enter(one, now), "nobody goes round and round");
        assert!(failed.enter(other, now));
        let later = now + LEFT_OUT;
        assert!(!failed.has(one, later) && failed.enter(one, later));
    }

    #[test]
    fn it_is_bounded() {
        let (mut failed, now) = (Failed::default(), Instant::now());
        for port in 1..=1000 {
            failed.enter(SocketAddr::from(([192, 0, 2, 1], port)), now);
        }
        assert_eq!(failed.0.len(), MOST);
    }
}
