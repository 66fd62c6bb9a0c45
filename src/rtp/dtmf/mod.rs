//! Telephone events (RFC 4733): keys that somebody presses, as packets, both ways.
//!
//! All packets of one press carry the timestamp of its begin, so a press is known by its timestamp: not by the marker, which may
//! be lost, and not by its end, which comes three times. A press that outlasts the 16 bits of its duration goes on in a segment of
//! a later timestamp (§2.5.1.3). Durations are in units of the event's clock: 8000 Hz, or 48000 beside Opus.
//!
//! [`Listener`] gives [`Press`] at the first packet and [`Press::ended`] once; [`Keypad`] is asked once per packet time and plays
//! what was typed, one key after the other.

#[cfg(test)]
mod tests;
mod typed;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use typed::{DEFAULT_DURATION_MS, MOST_STROKES, Stroke, strokes};

/// Bytes of one event (§2.3).
pub const EVENT_BYTES: usize = 4;
/// The last packet of a press comes this often (§2.5.1.4).
const END_PACKETS: u8 = 3;
/// The longest duration of one segment.
const MOST_UNITS: u32 = 0xffff;
/// A press of which nothing is heard for so long is over: its end was lost.
const LOST_END: Duration = Duration::from_millis(500);
/// A timestamp from before the last press is old for so long after it: no network holds a packet longer. Later it is a clock that
/// has begun anew.
const OLD: Duration = Duration::from_secs(3);
/// Loudness of our keys, in −dBm0.
const VOLUME: u8 = 10;
/// Silence between two keys of ours.
pub const PAUSE_MS: u32 = 60;
pub const MIN_DURATION_MS: u32 = 40;
pub const MAX_DURATION_MS: u32 = 4000;

/// One packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub code: u8,
    pub end: bool,
    /// Six bits, −dBm0.
    pub volume: u8,
    pub duration: u16,
}

/// A key: `0`–`9`, `*`, `#`, `A`–`D` (§3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u8);

impl Key {
    pub fn from_char(letter: char) -> Option<Self> {
        let code = match letter {
            '0'..='9' => letter as u8 - b'0',
            '*' => 10,
            '#' => 11,
            'A'..='D' => letter as u8 - b'A' + 12,
            'a'..='d' => letter as u8 - b'a' + 12,
            _ => return None,
        };
        Some(Self(code))
    }

    /// Of an event; others than keys (tones of modems and lines) are none.
    pub fn from_code(code: u8) -> Option<Self> {
        (code < 16).then_some(Self(code))
    }

    /// Its place among the sixteen.
    pub fn bit(self) -> u16 {
        1 << (self.0 & 15)
    }

    /// Those of such places, in the order of their codes.
    pub fn those_of(bits: u16) -> impl Iterator<Item = Self> {
        (0..16).map(Self).filter(move |key| bits & key.bit() != 0)
    }

    pub fn as_char(self) -> char {
        char::from(b"0123456789*#ABCD"[usize::from(self.0 & 15)])
    }
}

impl Event {
    /// The first event of a payload; `None`: it is too short for one. (Several at once, RFC 2833's redundancy, repeat older ones.)
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [code, flags, d0, d1] = *payload.first_chunk::<EVENT_BYTES>()?;
        Some(Self { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration: u16::from_be_bytes([d0, d1]) })
    }

    pub fn bytes(&self) -> [u8; EVENT_BYTES] {
        let [d0, d1] = self.duration.to_be_bytes();
        [self.code, u8::from(self.end) << 7 | (self.volume & 0x3f), d0, d1]
    }
}

/// What was heard of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    pub key: Key,
    /// `None`: it has just been pressed. Else it is over, after so many milliseconds.
    pub ended: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    code: u8,
    timestamp: u32,
    /// Of the segments before this one, and in this one.
    before: u32,
    duration: u32,
    heard_at: Instant,
    over: bool,
}

impl Held {
    fn units(&self) -> u32 {
        self.before.saturating_add(self.duration)
    }
}

/// Events of one source.
#[derive(Clone, Debug)]
pub struct Listener {
    clock: u32,
    held: Option<Held>,
    /// Events that are no keys, or no events.
    ignored: u64,
}

impl Listener {
    /// `clock`: of the duration, Hz.
    pub fn new(clock: u32) -> Self {
        Self { clock: clock.max(1000), held: None, ignored: 0 }
    }

    /// Another clock, or another source: what is held is forgotten.
    pub fn reset(&mut self, clock: u32) {
        (self.clock, self.held) = (clock.max(1000), None);
    }

    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// One packet; `heard` is told what is new in it.
    pub fn handle(&mut self, timestamp: u32, payload: &[u8], now: Instant, mut heard: impl FnMut(Press)) {
        let event = Event::parse(payload).filter(|event| Key::from_code(event.code).is_some());
        let Some(event) = event else {
            self.ignored += 1;
            return;
        };
        let mut held = match self.held {
            Some(held) if held.timestamp == timestamp => held,
            // Serial arithmetic: an older press has been told.
            Some(held) if timestamp.wrapping_sub(held.timestamp) >= 1 << 31 && held.was_heard_within(OLD, now) => {
                return;
            }
            Some(held) if held.goes_on(timestamp, &event) => {
                Held { timestamp, before: held.before.saturating_add(MOST_UNITS), duration: 0, ..held }
            }
            other => {
                if let Some(old) = other.filter(|old| !old.over) {
                    self.over(&old, &mut heard);
                }
                if let Some(key) = Key::from_code(event.code) {
                    heard(Press { key, ended: None });
                }
                Held { code: event.code, timestamp, before: 0, duration: 0, heard_at: now, over: false }
            }
        };
        if held.over {
            return;
        }
        held.duration = held.duration.max(u32::from(event.duration));
        held.heard_at = now;
        if event.end {
            held.over = true;
            self.over(&held, &mut heard);
        }
        self.held = Some(held);
    }

    /// A press whose end was lost is over some time after its last packet.
    pub fn handle_timeout(&mut self, now: Instant, mut heard: impl FnMut(Press)) {
        let Some(held) = self.held.filter(|held| !held.over) else { return };
        if now.saturating_duration_since(held.heard_at) >= LOST_END {
            self.over(&held, &mut heard);
            self.held = Some(Held { over: true, ..held });
        }
    }

    fn over(&self, held: &Held, heard: &mut impl FnMut(Press)) {
        let ms = u64::from(held.units()) * 1000 / u64::from(self.clock);
        if let Some(key) = Key::from_code(held.code) {
            heard(Press { key, ended: Some(u32::try_from(ms).unwrap_or(u32::MAX)) });
        }
    }
}

impl Held {
    fn was_heard_within(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) < time
    }

    /// Whether an event of a later timestamp is the next segment of this press: this one was told to its limit, or the packet
    /// that would have said so was lost.
    fn goes_on(&self, timestamp: u32, event: &Event) -> bool {
        let ahead = timestamp.wrapping_sub(self.timestamp);
        !self.over && self.code == event.code && (self.duration == MOST_UNITS || ahead == MOST_UNITS)
    }
}

/// One packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// The first packet of a press.
    pub marker: bool,
    pub timestamp: u32,
    pub event: Event,
}

#[derive(Clone, Copy, Debug)]
struct Pressing {
    key: Key,
    /// Of this segment.
    timestamp: u32,
    /// In units of the event's clock: told of this segment, and what is left of the press.
    told: u32,
    left: u32,
    ends_left: u8,
    first: bool,
}

/// Keys that are to be sent.
#[derive(Clone, Debug)]
pub struct Keypad {
    /// Of the events, and of the timestamps they stand in.
    clock: u32,
    rtp_clock: u32,
    /// Strokes, and how long each key of them is pressed.
    queue: VecDeque<(Stroke, u32)>,
    pressing: Option<Pressing>,
    pause_ms: u32,
}

impl Keypad {
    pub fn new(clock: u32, rtp_clock: u32) -> Self {
        let (clock, rtp_clock) = (clock.max(1000), rtp_clock.max(1000));
        Self { clock, rtp_clock, queue: VecDeque::new(), pressing: None, pause_ms: 0 }
    }

    /// Other clocks from the next press on.
    pub fn set_clocks(&mut self, clock: u32, rtp_clock: u32) {
        (self.clock, self.rtp_clock) = (clock.max(1000), rtp_clock.max(1000));
    }

    /// `false`: [`MOST_STROKES`] wait already. Durations are clamped to 40 ms to 4 s.
    pub fn press(&mut self, stroke: Stroke, duration_ms: u32) -> bool {
        let fits = self.queue.len() < MOST_STROKES;
        if fits {
            self.queue.push_back((stroke, duration_ms.clamp(MIN_DURATION_MS, MAX_DURATION_MS)));
        }
        fits
    }

    /// Nothing more is pressed.
    pub fn clear(&mut self) {
        self.queue.clear();
        (self.pressing, self.pause_ms) = (None, 0);
    }

    /// Keys that wait and are not to be kept are pressed no more.
    pub fn retain(&mut self, is_kept: impl Fn(Key) -> bool) {
        self.queue.retain(|(stroke, _)| stroke.key().is_none_or(&is_kept));
    }

    /// Strokes that have not begun.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Nothing is pressed and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.pressing.is_none() && self.queue.is_empty()
    }

    /// The next tick has a packet.
    pub fn is_due(&self) -> bool {
        let is_key = || matches!(self.queue.front(), Some((Stroke::Key(_), _)));
        self.pressing.is_some() || self.pause_ms == 0 && is_key()
    }

    /// The packet of this moment, at `timestamp` of the stream, `step_ms` after the last; while there is one, no audio is sent.
    pub fn tick(&mut self, timestamp: u32, step_ms: u32) -> Option<Pressed> {
        if self.pressing.is_none() {
            if self.pause_ms > 0 {
                self.pause_ms = self.pause_ms.saturating_sub(step_ms);
                return None;
            }
            let (key, duration_ms) = match self.queue.pop_front()? {
                (Stroke::Key(key), duration_ms) => (key, duration_ms),
                (Stroke::Pause { ms }, _) => {
                    self.pause_ms = ms.saturating_sub(step_ms);
                    return None;
                }
            };
            let left = duration_ms * (self.clock / 1000);
            self.pressing = Some(Pressing { key, timestamp, told: 0, left, ends_left: END_PACKETS, first: true });
        }
        let (clock, rtp_clock) = (self.clock, self.rtp_clock);
        let pressing = self.pressing.as_mut()?;
        let step = (step_ms * (clock / 1000)).min(pressing.left);
        if step > 0 && pressing.told == MOST_UNITS {
            // The next segment begins where this one ended.
            let ahead = u64::from(MOST_UNITS) * u64::from(rtp_clock) / u64::from(clock);
            pressing.timestamp = pressing.timestamp.wrapping_add(ahead as u32);
            pressing.told = 0;
        }
        let step = step.min(MOST_UNITS - pressing.told);
        pressing.told += step;
        pressing.left -= step;
        let end = pressing.left == 0;
        let event = Event { code: pressing.key.0, end, volume: VOLUME, duration: pressing.told.min(MOST_UNITS) as u16 };
        let pressed = Pressed { marker: pressing.first, timestamp: pressing.timestamp, event };
        pressing.first = false;
        if end {
            pressing.ends_left -= 1;
            if pressing.ends_left == 0 {
                (self.pressing, self.pause_ms) = (None, PAUSE_MS);
            }
        }
        Some(pressed)
    }
}
