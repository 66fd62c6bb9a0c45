//! What RTCP says of a leg's two streams, and what it is told: one [`Reports`] per leg.
//!
//! Every [`INTERVAL`] a compound packet is due: SR or RR with a block on what comes, and the CNAME. Legs report at different
//! times, since each begins at a place of its own in the interval (RFC 3550 §6.3 wants no herd). A peer's block on our stream
//! gives the round trip (§6.4.1) and what he loses of it.

use std::time::{Duration, Instant};

use super::loss::Expected;
use super::receiver::Receiver;
use super::rtcp::{self, ReportBlock, Rtcp, RtcpError};
use super::sender::Sender;

/// RFC 3550 §6.2: at least five seconds.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Seconds from 1900 to 1970.
const UNIX_IN_NTP: u64 = 2_208_988_800;
/// A longer round trip is somebody's wrong clock.
const MOST_ROUND_TRIP: Duration = Duration::from_secs(30);

/// NTP's 64 bits of a moment that is so long after 1970.
pub fn ntp(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + UNIX_IN_NTP) << 32 | fraction
}

/// The middle 32 bits, which reports carry.
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[derive(Clone, Debug)]
pub struct Reports {
    ssrc: u32,
    cname: String,
    due: Instant,
    /// Of the peer's last SR, and when it came.
    last_sr: Option<(u32, Instant)>,
    round_trip: Option<Duration>,
    /// What the peer said last of our stream.
    told: Option<ReportBlock>,
    expected: Expected,
    heard: u64,
    bad: u64,
}

impl Reports {
    pub fn new(ssrc: u32, cname: String, now: Instant) -> Self {
        let share = Duration::from_millis(u64::from(ssrc) % INTERVAL.as_millis() as u64);
        let due = now + share.max(INTERVAL / 5);
        Self {
            ssrc,
            cname,
            due,
            last_sr: None,
            round_trip: None,
            told: None,
            expected: Expected::default(),
            heard: 0,
            bad: 0,
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// A compound packet of the peer. `ntp`: our clock's reading.
    pub fn handle(&mut self, bytes: &[u8], source: Option<u32>, now: Instant, ntp: u64) -> Result<(), RtcpError> {
        let (mut last_sr, mut told) = (None, None);
        let parsed = rtcp::parse(bytes, |packet| {
            if let Rtcp::Report { ssrc, sender, blocks } = packet {
                if source.is_none_or(|source| source == ssrc) {
                    last_sr = sender.map(|sender| middle(sender.ntp)).or(last_sr);
                }
                told = blocks.iter().find(|block| block.ssrc == self.ssrc).or(told);
            }
        });
        match parsed {
            Ok(()) => self.heard += 1,
            Err(_) => self.bad += 1,
        }
        parsed?;
        if let Some(sr) = last_sr {
            self.last_sr = Some((sr, now));
        }
        if let Some(block) = told {
            self.told = Some(block);
            self.expected.handle(&block);
            self.round_trip = round_trip(&block, middle(ntp)).or(self.round_trip);
        }
        Ok(())
    }

    /// Appends the compound packet that is due; the next is due an interval later.
    pub fn write(
        &mut self,
        receiver: &mut Receiver,
        sender: &mut Sender,
        (now, ntp): (Instant, u64),
        out: &mut Vec<u8>,
    ) {
        self.due += INTERVAL;
        if self.due <= now {
            self.due = now + INTERVAL;
        }
        let sr = self.last_sr.map(|(sr, at)| {
            let since = now.saturating_duration_since(at).as_micros() as u64;
            (sr, u32::try_from((since << 16) / 1_000_000).unwrap_or(u32::MAX))
        });
        let (block, info) = (receiver.report(sr), sender.info(ntp, now));
        rtcp::write_report(self.ssrc, info.as_ref(), block.as_ref(), out);
        rtcp::write_cname(self.ssrc, self.cname.as_bytes(), out);
    }

    /// Appends the last compound packet of a leg.
    pub fn write_bye(
        &mut self,
        receiver: &mut Receiver,
        sender: &mut Sender,
        (now, ntp): (Instant, u64),
        out: &mut Vec<u8>,
    ) {
        self.write(receiver, sender, (now, ntp), out);
        rtcp::write_bye(self.ssrc, out);
    }

    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What the peer said last of our stream.
    pub fn told(&self) -> Option<&ReportBlock> {
        self.told.as_ref()
    }

    /// How much of our stream the peer will lose, in percent.
    pub fn expected_loss(&self) -> u8 {
        self.expected.percent()
    }

    /// Compound packets of the peer: read, and spoiled.
    pub fn counts(&self) -> (u64, u64) {
        (self.heard, self.bad)
    }
}

/// RFC 3550 §6.4.1, figure 2: A − LSR − DLSR, in 65,536ths of a second.
fn round_trip(block: &ReportBlock, now: u32) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let units = now.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
    // A peer's clock that rounds up may make it negative by a little: nothing, then.
    let units = if units >= 1 << 31 { 0 } else { units };
    let time = Duration::from_micros((u64::from(units) * 1_000_000) >> 16);
    (time <= MOST_ROUND_TRIP).then_some(time)
}
