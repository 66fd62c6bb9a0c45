//! How much of a connection may be on its way: CUBIC, and never less than what its live audio makes while an answer is awaited.
//!
//! Speech is a known, small rate that can't wait: a loss says nothing about it, and half of it is worth nothing. A controller
//! that halves its window at each loss starves a link of 32 bridges on a path that loses 2 % (decision 0046). So the window has a
//! floor: what the link was given to say in the last seconds, as far as it came in pieces of a frame's size. Beyond the floor,
//! and for everything larger, it is CUBIC's (RFC 9438). The rate is counted by a [`Meter`] where the session speaks, since what leaves is
//! already what the window allowed.
//!
//! A window that is full of lost packets is not opened before the transport's own probe, which doubles its distance: up to seconds after
//! the path healed. So each question to a quiet path ([`quiet`](super::quiet)) leaves whatever is on its way.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// Beyond a round trip an acknowledgement takes up to 25 ms (RFC 9000 §18.2), and a lost packet is known for one when
/// three later ones have come, which are 20 ms apart.
const AWAITED: Duration = Duration::from_millis(100);
/// Of a round trip beyond the least one, what is taken for other people's queue. A longer one may be ours, and is not filled more.
const QUEUE: Duration = Duration::from_millis(200);
/// A packet counts for a full one until it is built.
const SPARE_PACKETS: u64 = 1;
/// A window so large is not paced either.
const UNPACED: u64 = 1 << 40;
/// What is counted of one piece: a frame of pcm16 at 48 kHz, two channels. More is no speech.
const FRAME_BYTES: u64 = 4_096;
/// Headers and seal of a packet, which each piece may need of its own.
const PACKET_BYTES: u64 = 48;
/// How long pieces are counted together. The longest frames are 60 ms.
const PERIOD: Duration = Duration::from_millis(250);
/// A rate that is not reached any more is forgotten in this time: who falls silent will speak again.
const MEMORY: Duration = Duration::from_secs(8);

/// What a connection's controller is told.
#[derive(Clone, Default)]
pub(super) struct Demand(Arc<Told>);

#[derive(Default)]
struct Told {
    /// Bytes per second that the connection must carry.
    rate: AtomicU64,
    /// The next packet leaves whatever is on its way.
    exempt: AtomicBool,
}

impl Demand {
    /// A quiet path is asked whether it lives, also when it holds a whole window: what was lost in it is only known to be lost by
    /// answers. For one packet, until taken back.
    pub(super) fn exempt(&self, exempt: bool) {
        self.0.exempt.store(exempt, Relaxed);
    }
}

/// Counts what the session says.
pub(super) struct Meter {
    demand: Demand,
    bytes: u64,
    since: Instant,
}

impl Meter {
    pub(super) fn new(demand: Demand, now: Instant) -> Self {
        Self { demand, bytes: 0, since: now }
    }

    /// A piece of a stream, or a datagram.
    pub(super) fn said(&mut self, bytes: usize) {
        self.bytes += (bytes as u64).min(FRAME_BYTES) + PACKET_BYTES;
    }

    /// Once per turn.
    pub(super) fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < PERIOD {
            return;
        }
        let rate = self.bytes * 1_000 / passed.as_millis() as u64;
        let before = self.demand.0.rate.load(Relaxed);
        let faded = before * passed.min(MEMORY).as_millis() as u64 / MEMORY.as_millis() as u64;
        self.demand.0.rate.store(rate.max(before - faded), Relaxed);
        (self.bytes, self.since) = (0, now);
    }
}

impl ControllerFactory for Demand {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, mtu);
        Box::new(Floored { cubic, demand: (*self).clone(), round_trip: AWAITED, mtu: mtu.into() })
    }
}

struct Floored {
    cubic: Box<dyn Controller>,
    demand: Demand,
    round_trip: Duration,
    mtu: u64,
}

impl Floored {
    fn floor(&self) -> u64 {
        let rate = self.demand.0.rate.load(Relaxed);
        let awaited = self.round_trip + AWAITED;
        // A quarter more, for what is said again.
        rate.saturating_mul(awaited.as_micros() as u64) / 800_000 + SPARE_PACKETS * self.mtu
    }
}

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.demand.exempt(false);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.round_trip = rtt.get().min(rtt.min() + QUEUE);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu.into();
        self.cubic.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        match self.demand.0.exempt.load(Relaxed) {
            true => UNPACED,
            false => self.cubic.window().max(self.floor()),
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (cubic, demand) = (self.cubic.clone_box(), self.demand.clone());
        Box::new(Self { cubic, demand, round_trip: self.round_trip, mtu: self.mtu })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1_200;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn controller(demand: &Demand, now: Instant) -> Box<dyn Controller> {
        Arc::new(demand.clone()).build(now, MTU as u16)
    }

    /// Says pieces of `bytes` every 20 ms.
    fn speak(meter: &mut Meter, from: Instant, time: Duration, bytes: usize) -> Instant {
        let pieces = time.as_millis() as u64 / 20;
        for n in 0..pieces {
            meter.said(bytes);
            meter.roll(from + ms(20 * (n + 1)));
        }
        from + time
    }

    #[test]
    fn losses_leave_room_for_what_is_spoken() {
        let (demand, start) = (Demand::default(), Instant::now());
        let mut meter = Meter::new(demand.clone(), start);
        let mut controller = controller(&demand, start);
        let now = speak(&mut meter, start, ms(2_000), 160);
        for n in 1..200 {
            controller.on_congestion_event(now + ms(n), now + ms(n), n % 10 == 0, MTU);
        }
        // 50 packets of 208 bytes in a second, for 200 ms and a quarter more.
        let floor = 50 * 208 * 2 / 10 * 5 / 4 + MTU;
        assert!(controller.window().abs_diff(floor) <= floor / 20, "{}", controller.window());
        let other = controller.clone_box();
        assert_eq!(other.window(), controller.window());
    }

    #[test]
    fn what_is_no_speech_gets_no_floor() {
        let (demand, start) = (Demand::default(), Instant::now());
        let mut meter = Meter::new(demand.clone(), start);
        speak(&mut meter, start, ms(2_000), 1 << 20);
        assert!(demand.0.rate.load(Relaxed) <= 50 * (FRAME_BYTES + PACKET_BYTES) * 26 / 25);
    }

    #[test]
    fn a_question_leaves_whatever_is_on_its_way_and_nothing_with_it() {
        let (demand, start) = (Demand::default(), Instant::now());
        let mut controller = controller(&demand, start);
        let before = controller.window();
        demand.exempt(true);
        assert!(controller.window() > u64::from(u32::MAX));
        controller.on_sent(start, 60, 1);
        assert_eq!(controller.window(), before);
    }

    #[test]
    fn who_falls_silent_is_forgotten_slowly() {
        let (demand, start) = (Demand::default(), Instant::now());
        let mut meter = Meter::new(demand.clone(), start);
        let now = speak(&mut meter, start, ms(2_000), 160);
        let spoken = demand.0.rate.load(Relaxed);
        meter.roll(now + ms(1_000));
        assert!(demand.0.rate.load(Relaxed) > spoken * 8 / 10);
        meter.roll(now + ms(1_000) + MEMORY);
        assert_eq!((demand.0.rate.load(Relaxed), controller(&demand, now).initial_window() > 0), (0, true));
    }
}
