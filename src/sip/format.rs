//! Payload formats: the codecs that go over RTP here, their numbers, `rtpmap` and `fmtp` lines, and how long a packet is.
//!
//! PCMU is 0 and PCMA 8 (RFC 3551 §6); opus is dynamic and always `opus/48000/2`, whatever is inside (RFC 7587 §7);
//! telephone-event is dynamic and has the clock of the codec beside it (RFC 4733 §2.1).

use std::str::FromStr;

use crate::audio;

/// How long a packet may be for G.711 and for Opus, in ms: [`audio::Params`] has the same steps.
const G711_MS: &[u8] = &[10, 20, 30, 40, 50, 60];
const OPUS_MS: &[u8] = &[10, 20, 40, 60];
/// The longest packet that we take.
pub const MAX_PTIME_MS: u8 = 60;
/// RFC 3551 §6: static numbers end here, dynamic ones begin.
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;

/// A codec that RTP carries here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    Pcmu,
    Pcma,
    Opus,
}

impl Codec {
    pub const ALL: [Codec; 3] = [Codec::Pcmu, Codec::Pcma, Codec::Opus];

    /// Its name in an `rtpmap`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::Opus => "opus",
        }
    }

    /// Of the RTP timestamps (RFC 7587 §4.1: 48000 for every Opus).
    pub fn clock_rate(self) -> u32 {
        if self == Self::Opus { 48_000 } else { 8000 }
    }

    /// The same in audio's nouns.
    pub fn audio(self) -> audio::Codec {
        match self {
            Self::Pcmu => audio::Codec::G711Ulaw,
            Self::Pcma => audio::Codec::G711Alaw,
            Self::Opus => audio::Codec::Opus,
        }
    }

    fn packet_ms(self) -> &'static [u8] {
        if self == Self::Opus { OPUS_MS } else { G711_MS }
    }

    /// The length of our packets: the longest that the far end asked for and that is one of this codec.
    pub fn ptime_ms(self, wanted: u32, most: Option<u32>) -> u8 {
        let limit = most.map_or(wanted, |most| most.min(wanted));
        let choices = self.packet_ms();
        choices.iter().rev().find(|ms| u32::from(**ms) <= limit).copied().unwrap_or(choices[0])
    }
}

/// The name as in an `rtpmap`, in any case.
impl FromStr for Codec {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|codec| codec.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coding {
    Audio(Codec),
    /// telephone-event (RFC 4733).
    Events {
        clock_rate: u32,
    },
    /// Something that we don't speak.
    Other,
    /// A dynamic number without an `rtpmap`.
    Unmapped,
}

impl Coding {
    /// The value of an `rtpmap` behind the number; without one a static number says enough.
    pub(super) fn of(payload_type: u8, map: Option<&str>) -> Self {
        let Some(map) = map else {
            return match payload_type {
                0 => Self::Audio(Codec::Pcmu),
                8 => Self::Audio(Codec::Pcma),
                number if DYNAMIC.contains(&number) => Self::Unmapped,
                _ => Self::Other,
            };
        };
        let mut parts = map.trim().split('/');
        let name = parts.next().unwrap_or_default();
        let Some(rate) = parts.next().and_then(|rate| rate.trim().parse::<u32>().ok()) else { return Self::Other };
        let channels = parts.next().map_or(Some(1), |channels| channels.trim().parse::<u32>().ok());
        if name.eq_ignore_ascii_case("telephone-event") {
            return if rate == 8000 || rate == 48_000 { Self::Events { clock_rate: rate } } else { Self::Other };
        }
        match Codec::from_str(name) {
            // Some peers leave the channels out; it is the same codec.
            Ok(codec) if codec.clock_rate() == rate && (channels == Some(1) || codec == Codec::Opus) => {
                Self::Audio(codec)
            }
            _ => Self::Other,
        }
    }

    /// The value of our own `rtpmap` behind the number.
    pub(super) fn rtpmap(self) -> Option<String> {
        match self {
            Self::Audio(Codec::Opus) => Some("opus/48000/2".to_owned()),
            Self::Audio(codec) => Some(format!("{}/8000", codec.as_str())),
            Self::Events { clock_rate } => Some(format!("telephone-event/{clock_rate}")),
            Self::Other | Self::Unmapped => None,
        }
    }

    /// The value of our own `fmtp`. Events 0 to 15: digits, `*`, `#`, A to D.
    pub(super) fn fmtp(self) -> Option<&'static str> {
        match self {
            Self::Audio(Codec::Opus) => Some("useinbandfec=1"),
            Self::Events { .. } => Some("0-15"),
            _ => None,
        }
    }

    /// Our own number where nothing else was agreed on.
    fn number(self) -> u8 {
        match self {
            Self::Audio(Codec::Pcmu) => 0,
            Self::Audio(Codec::Pcma) => 8,
            Self::Audio(Codec::Opus) => 111,
            Self::Events { clock_rate: 8000 } => 101,
            Self::Events { .. } => 102,
            Self::Other | Self::Unmapped => *DYNAMIC.start(),
        }
    }
}

/// Which number stands for what in one dialog. A number once used keeps its meaning (RFC 3264 §8.3.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Vec<(u8, Coding)>);

impl Numbers {
    /// What the far end's offer called it.
    pub(super) fn learn(&mut self, payload_type: u8, coding: Coding) {
        self.0.retain(|(number, known)| *number != payload_type && *known != coding);
        self.0.push((payload_type, coding));
    }

    /// The number of this coding, a new one if it has none yet. `None`: all dynamic numbers are taken.
    pub(super) fn assign(&mut self, coding: Coding) -> Option<u8> {
        if let Some(number) = self.find(coding) {
            return Some(number);
        }
        let is_free = |number: &u8| !self.0.iter().any(|(taken, _)| taken == number);
        let own = Some(coding.number()).filter(is_free);
        let number = own.or_else(|| DYNAMIC.into_iter().find(is_free))?;
        self.0.push((number, coding));
        Some(number)
    }

    pub(super) fn find(&self, coding: Coding) -> Option<u8> {
        self.0.iter().find(|(_, known)| *known == coding).map(|(number, _)| *number)
    }

    pub(super) fn meaning(&self, payload_type: u8) -> Option<Coding> {
        self.0.iter().find(|(number, _)| *number == payload_type).map(|(_, coding)| *coding)
    }
}

/// telephone-event of one dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    pub send_type: u8,
    pub receive_type: u8,
    /// Of their durations. Their timestamps are the audio's.
    pub clock_rate: u32,
    /// Which of the events 0 to 15, which are keys, the far end takes, a bit for each: it is sent no other (RFC 4733 §2.4.1).
    pub keys: u16,
}

impl Events {
    pub const ALL_KEYS: u16 = 0xffff;

    /// The keys of an `fmtp`'s value: numbers and ranges (RFC 4733 §2.4.1). What names nothing at all means all of them, as no value does.
    pub(super) fn keys_of(fmtp: &str) -> u16 {
        let list = fmtp.trim();
        let list = list.strip_prefix("events=").unwrap_or(list).trim_matches('"');
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse::<u8>().ok()?..=last.trim().parse::<u8>().ok()?).filter(|range| !range.is_empty())
        };
        let ranges: Vec<_> = list.split(',').filter_map(range).collect();
        let is_named = |code: &u8| ranges.is_empty() || ranges.iter().any(|range| range.contains(code));
        (0..16).filter(is_named).fold(0, |keys, code| keys | 1 << code)
    }
}

/// What the far end wishes of the Opus that it receives (RFC 7587 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusWishes {
    /// Hz; more than this it does not play.
    pub max_playback_rate: u32,
    /// bit/s.
    pub max_average_bitrate: Option<u32>,
    pub in_band_fec: bool,
    pub dtx: bool,
    pub stereo: bool,
    pub constant: bool,
}

impl Default for OpusWishes {
    fn default() -> Self {
        Self {
            max_playback_rate: 48_000,
            max_average_bitrate: None,
            in_band_fec: false,
            dtx: false,
            stereo: false,
            constant: false,
        }
    }
}

impl OpusWishes {
    /// What an encoder has to keep to. The rest are wishes: what we make is mono and without DTX; whether it repeats anything hangs on what is lost.
    pub(super) fn limits(self) -> audio::Limits {
        audio::Limits {
            playback_rate: self.max_playback_rate,
            bitrate: self.max_average_bitrate,
            constant: self.constant,
            ..audio::Limits::default()
        }
    }

    /// From the value of an `fmtp` behind the number. A parameter that makes no sense is not there.
    pub(super) fn read(fmtp: &str) -> Self {
        let mut wishes = Self::default();
        for parameter in fmtp.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let number = value.trim().parse::<u32>().ok();
            match name.trim().to_ascii_lowercase().as_str() {
                "maxplaybackrate" => {
                    wishes.max_playback_rate = number.filter(|hz| (8000..=48_000).contains(hz)).unwrap_or(48_000);
                }
                "maxaveragebitrate" => {
                    wishes.max_average_bitrate = number.filter(|bits| (6000..=510_000).contains(bits));
                }
                "useinbandfec" => wishes.in_band_fec = number == Some(1),
                "usedtx" => wishes.dtx = number == Some(1),
                "stereo" => wishes.stereo = number == Some(1),
                "cbr" => wishes.constant = number == Some(1),
                _ => {}
            }
        }
        wishes
    }
}
