//! Opus (RFC 6716) through libopus. The only file that names a crate for it.
//!
//! Both directions run at any of the five rates, whatever rate the other end runs at: a packet has none. Malformed packets
//! are errors. What a packet says about its own duration is obeyed up to 120 ms, the format's maximum (RFC 6716 §3.2.5).

use audiopus::coder::{Decoder as LibDecoder, Encoder as LibEncoder};
use audiopus::packet::Packet;
use audiopus::{Application, Bandwidth, Bitrate, Channels, SampleRate, Signal};

use super::{CodecError, Limits};

/// Per channel, bits per second: a phone's speech needs no more (`docs/decisions/0050-audio-codecs.md`).
const BITRATE: i32 = 24_000;
/// The same for sources of more than 16 kHz.
const WIDE_BITRATE: i32 = 32_000;
/// Rates of a listener, and what an encoder makes for each at most (RFC 6716 table 1).
const BANDWIDTHS: [(u32, Bandwidth); 5] = [
    (48_000, Bandwidth::Fullband),
    (24_000, Bandwidth::Superwideband),
    (16_000, Bandwidth::Wideband),
    (12_000, Bandwidth::Mediumband),
    (8000, Bandwidth::Narrowband),
];
/// Five keeps 98 % of the score of nine for 70 % of its cost.
const COMPLEXITY: u8 = 5;
/// Speech of 8 kHz has bits to spare at our rate: one costs half of what five does, and two hundredths of its score
/// (`docs/decisions/0225-narrow-speech-is-encoded-lightly.md`).
const NARROW_COMPLEXITY: u8 = 1;
/// Bits per second and channel below which that would be heard; with a loss expected it is, and at this rate nothing is repeated.
const NARROW_BITRATE: i32 = 20_000;
/// RFC 6716 §3.2.5: no packet is longer.
const MAX_PACKET_MS: usize = 120;
/// Of a 60 ms packet: three frames of 1275 bytes (RFC 6716 §3.4) and their lengths.
const MAX_PACKET_BYTES: usize = 3 * 1275 + 7;

/// How long a packet is, of its first two bytes alone (RFC 6716 §3.1, §3.2). `None`: it is none.
pub fn duration_us(packet: &[u8]) -> Option<u32> {
    let (toc, rest) = packet.split_first()?;
    let frame_us = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config % 2)],
        config => [2500, 5000, 10_000, 20_000][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    let duration = frame_us * frames;
    (1..=MAX_PACKET_MS as u32 * 1000).contains(&duration).then_some(duration)
}

/// Whether a packet repeats the one before ([`Decoder::recover`]): a bit of its first frame, behind one for each 20 ms in it that says
/// whether there is speech (RFC 6716 §4.2.3, §4.2.4). CELT has no such thing.
pub fn repeats(packet: &[u8]) -> bool {
    let Some(config) = packet.first().map(|toc| toc >> 3).filter(|config| *config < 16) else { return false };
    let parts = if config < 12 { (config % 4).max(1) } else { 1 };
    super::bundle::first_frame(packet).and_then(<[u8]>::first).is_some_and(|bits| bits >> (7 - parts) & 1 == 1)
}

/// The widest that a listener of this rate can play all of, and its own rate. Below the narrowest there is none narrower.
fn widest(rate: u32) -> (u32, Bandwidth) {
    let narrowest = BANDWIDTHS[BANDWIDTHS.len() - 1];
    BANDWIDTHS.into_iter().find(|(own, _)| *own <= rate).unwrap_or(narrowest)
}

/// The rate at which a decoder gives all that a listener of this rate can play, and no more.
pub(super) fn rate_within(rate: u32) -> u32 {
    widest(rate).0
}

/// The version of libopus in this binary, as it names itself.
pub fn version() -> &'static str {
    audiopus::version()
}

fn lib_error(error: audiopus::Error) -> CodecError {
    CodecError::Opus(error.to_string())
}

fn rate_and_channels(sample_rate: u32, channels: u8) -> Result<(SampleRate, Channels), CodecError> {
    let sample_rate = SampleRate::try_from(sample_rate as i32).map_err(lib_error)?;
    Ok((sample_rate, Channels::try_from(i32::from(channels)).map_err(lib_error)?))
}

/// Samples to packets: VOIP, variable rate unless a listener wants it constant; with in-band FEC once a loss is expected.
pub struct Encoder {
    lib: LibEncoder,
    sample_rate: u32,
    channels: u8,
    lookahead: usize,
    /// Bits per second that we think right, and that are borne at most.
    bitrate: i32,
    most: i32,
    /// Nobody hears more than 4 kHz of it.
    is_narrow: bool,
    packet: Vec<u8>,
}

impl Encoder {
    pub fn new(sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let (rate, layout) = rate_and_channels(sample_rate, channels)?;
        let mut lib = LibEncoder::new(rate, layout, Application::Voip).map_err(lib_error)?;
        let mut set = || {
            lib.set_signal(Signal::Voice)?;
            lib.enable_inband_fec()?;
            lib.disable_dtx()
        };
        set().map_err(lib_error)?;
        let lookahead = lib.lookahead().map_err(lib_error)? as usize;
        let (bitrate, most, is_narrow, packet) = (BITRATE, i32::MAX, false, vec![0; MAX_PACKET_BYTES]);
        let mut encoder = Self { lib, sample_rate, channels, lookahead, bitrate, most, is_narrow, packet };
        encoder.limit(Limits::default())?;
        Ok(encoder)
    }

    /// From the next packet on.
    pub fn limit(&mut self, limits: Limits) -> Result<(), CodecError> {
        let (rate, bandwidth) = widest(limits.playback_rate);
        let heard = self.sample_rate.min(rate);
        let own = if heard > 16_000 { WIDE_BITRATE } else { BITRATE };
        self.is_narrow = heard <= 8000;
        self.bitrate = own * i32::from(self.channels);
        self.most = limits.bitrate.and_then(|most| i32::try_from(most).ok()).unwrap_or(i32::MAX);
        let mut set = || {
            self.lib.set_max_bandwidth(bandwidth)?;
            self.lib.set_vbr(!limits.constant)
        };
        set().map_err(lib_error)?;
        self.expect_loss(limits.loss)
    }

    /// Interleaved samples of 10, 20, 40 or 60 ms to one packet, valid until the next call.
    pub fn encode(&mut self, samples: &[i16]) -> Result<&[u8], CodecError> {
        let length = self.lib.encode(samples, &mut self.packet).map_err(lib_error)?;
        Ok(&self.packet[..length])
    }

    /// From 1 % on (at most 100) packets repeat the one before in little, for [`Decoder::recover`], with a quarter more bits where those are
    /// borne: with fewer libopus repeats nothing below 6 %, and takes them from the bandwidth above. It costs a tenth of a point of quality
    /// and up to 40 % of time, and only datagrams leave holes: on streams a loss is a delay.
    pub fn expect_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        let wanted = if percent > 0 { self.bitrate * 5 / 4 } else { self.bitrate };
        let bitrate = wanted.min(self.most);
        let is_light = self.is_narrow && percent == 0 && bitrate >= NARROW_BITRATE * i32::from(self.channels);
        let mut set = || {
            self.lib.set_complexity(if is_light { NARROW_COMPLEXITY } else { COMPLEXITY })?;
            self.lib.set_bitrate(Bitrate::BitsPerSecond(bitrate))?;
            self.lib.set_packet_loss_perc(percent.min(100))
        };
        set().map_err(lib_error)
    }

    /// Samples per channel that decoded audio lags behind what was encoded.
    pub fn lookahead(&self) -> usize {
        self.lookahead
    }
}

/// Packets to samples, with concealment.
pub struct Decoder {
    lib: LibDecoder,
    channels: usize,
    sample_rate: usize,
}

impl Decoder {
    pub fn new(sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let (rate, layout) = rate_and_channels(sample_rate, channels)?;
        let lib = LibDecoder::new(rate, layout).map_err(lib_error)?;
        Ok(Self { lib, channels: usize::from(channels), sample_rate: sample_rate as usize })
    }

    /// Appends what a packet holds, interleaved. After an error nothing is appended and the decoder goes on.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), CodecError> {
        let packet = Packet::try_from(packet).map_err(lib_error)?;
        self.run(Some(packet), MAX_PACKET_MS, false, out)
    }

    /// Appends `ms` of a lost packet from what the packet after it repeats of it (RFC 6716 §2.1.7); concealment if that is
    /// nothing. Then decode that packet.
    pub fn recover(&mut self, next: &[u8], ms: usize, out: &mut Vec<i16>) -> Result<(), CodecError> {
        let next = Packet::try_from(next).map_err(lib_error)?;
        self.run(Some(next), ms.min(MAX_PACKET_MS), true, out)
    }

    /// Appends `ms` (a multiple of 10, at most 120) of what may have stood in a lost packet.
    pub fn conceal(&mut self, ms: usize, out: &mut Vec<i16>) -> Result<(), CodecError> {
        self.run(None, ms.min(MAX_PACKET_MS), false, out)
    }

    fn run(
        &mut self,
        packet: Option<Packet<'_>>,
        most_ms: usize,
        fec: bool,
        out: &mut Vec<i16>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        out.resize(start + self.sample_rate * most_ms / 1000 * self.channels, 0);
        let decoded = match out[start..].as_mut().try_into() {
            Ok(signals) => self.lib.decode(packet, signals, fec),
            Err(error) => Err(error),
        };
        out.truncate(start + decoded.as_ref().map_or(0, |samples| samples * self.channels));
        decoded.map(|_| ()).map_err(lib_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(rate: u32, channels: u8, ms: usize, count: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(rate, channels).unwrap();
        let samples = rate as usize * ms / 1000;
        let tone = |n: usize| (10_000.0 * (n as f64 * 400.0 * std::f64::consts::TAU / f64::from(rate)).sin()) as i16;
        let frame = |i: usize| -> Vec<i16> {
            (i * samples..(i + 1) * samples).flat_map(|n| vec![tone(n); usize::from(channels)]).collect()
        };
        (0..count).map(|i| encoder.encode(&frame(i)).unwrap().to_vec()).collect()
    }

    #[test]
    fn libopus_is_the_wanted_one() {
        assert!(version().starts_with("libopus 1.6.1"), "{}", version());
    }

    #[test]
    fn narrow_speech_is_encoded_lightly_while_it_has_bits() {
        let complexity = |rate, channels, limits| {
            let mut encoder = Encoder::new(rate, channels).unwrap();
            encoder.limit(limits).unwrap();
            encoder.lib.complexity().unwrap()
        };
        let all = Limits::default();
        let of = |bits: u32| Limits { bitrate: Some(bits), ..all };
        assert_eq!(complexity(8000, 1, all), NARROW_COMPLEXITY);
        assert_eq!(complexity(8000, 2, of(40_000)), NARROW_COMPLEXITY);
        assert_eq!(complexity(48_000, 1, Limits { playback_rate: 8000, ..all }), NARROW_COMPLEXITY);
        let lossy = Limits { loss: 1, ..all };
        for (rate, channels, limits) in
            [(8000, 1, of(19_999)), (8000, 2, of(39_999)), (8000, 1, lossy), (12_000, 1, all), (16_000, 1, all)]
        {
            assert_eq!(complexity(rate, channels, limits), COMPLEXITY, "{rate} {channels} {limits:?}");
        }
        let mut encoder = Encoder::new(8000, 1).unwrap();
        encoder.limit(of(12_000)).unwrap();
        encoder.limit(all).unwrap();
        assert_eq!(encoder.lib.complexity().unwrap(), NARROW_COMPLEXITY, "its limit has gone");
    }

    /// With less effort libopus repeats nothing at this rate.
    #[test]
    fn narrow_speech_of_few_bits_is_repeated_where_a_loss_is_expected() {
        let mut encoder = Encoder::new(8000, 1).unwrap();
        encoder.limit(Limits { bitrate: Some(NARROW_BITRATE as u32), loss: 5, ..Limits::default() }).unwrap();
        // What stays the same is noise to it, and noise is not repeated.
        let hz = |frame: usize| [250.0, 700.0, 1300.0][frame % 3];
        let tone = |n: usize| (9000.0 * (n as f64 * hz(n / 160) * std::f64::consts::TAU / 8000.0).sin()) as i16;
        let frame = |i: usize| (i * 160..(i + 1) * 160).map(tone).collect::<Vec<i16>>();
        let repeating = (0..50).filter(|i| repeats(encoder.encode(&frame(*i)).unwrap())).count();
        assert!(repeating >= 40, "{repeating} of 50");
    }

    #[test]
    fn every_rate_duration_and_layout_decodes_at_every_rate() {
        for rate in [8000, 12_000, 16_000, 24_000, 48_000] {
            for (channels, ms) in [(1, 10), (1, 20), (2, 20), (1, 40), (2, 60)] {
                for packet in packets(rate, channels, ms, 3) {
                    for (out_rate, out_channels) in [(8000, 1), (16_000, 2), (48_000, 1)] {
                        let (mut decoder, mut out) = (Decoder::new(out_rate, out_channels).unwrap(), Vec::new());
                        decoder.decode(&packet, &mut out).unwrap();
                        assert_eq!(out.len(), out_rate as usize * ms / 1000 * usize::from(out_channels));
                    }
                }
            }
        }
    }

    #[test]
    fn a_packet_says_how_long_it_is() {
        for rate in [8000, 16_000, 48_000] {
            for ms in [10, 20, 40, 60] {
                let packets = packets(rate, 1, ms, 3);
                assert!(packets.iter().all(|packet| duration_us(packet) == Some(ms as u32 * 1000)), "{rate} {ms}");
            }
        }
        // RFC 6716 table 2: SILK 60 ms, hybrid 20, CELT 2.5; two frames; 48 of 2.5 ms; none; 49 of 2.5 ms; 140 ms; cut off.
        let cases: [(&[u8], Option<u32>); 8] = [
            (&[3 << 3], Some(60_000)),
            (&[13 << 3], Some(20_000)),
            (&[16 << 3], Some(2500)),
            (&[31 << 3 | 1], Some(40_000)),
            (&[16 << 3 | 3, 48], Some(120_000)),
            (&[16 << 3 | 3, 0], None),
            (&[16 << 3 | 3, 49], None),
            (&[16 << 3 | 3], None),
        ];
        for (packet, wanted) in cases {
            assert_eq!(duration_us(packet), wanted, "{packet:?}");
        }
        assert_eq!((duration_us(&[]), duration_us(&[31 << 3 | 3, 7])), (None, None));
    }

    #[test]
    fn a_lost_packet_sounds_like_the_one_before() {
        let (mut decoder, mut out) = (Decoder::new(16_000, 1).unwrap(), Vec::new());
        for packet in packets(16_000, 1, 20, 20) {
            decoder.decode(&packet, &mut out).unwrap();
        }
        let energy =
            |samples: &[i16]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64;
        let before = energy(&out[out.len() - 320..]);
        let start = out.len();
        decoder.conceal(20, &mut out).unwrap();
        assert_eq!(out.len() - start, 320);
        assert!(energy(&out[start..]) > before / 4.0, "concealed 20 ms are not silence");
    }

    #[test]
    fn a_lost_packet_is_recovered_from_the_next() {
        // A tone that changes with every frame: concealment can only repeat the one before.
        let mut encoder = Encoder::new(16_000, 1).unwrap();
        encoder.expect_loss(20).unwrap();
        let hz = |frame: usize| [250.0, 700.0, 1300.0][frame % 3];
        let sample = |n: usize| (9000.0 * (n as f64 * hz(n / 320) * std::f64::consts::TAU / 16_000.0).sin()) as i16;
        let frame = |i: usize| (i * 320..(i + 1) * 320).map(sample).collect::<Vec<i16>>();
        let packets: Vec<Vec<u8>> = (0..61).map(|i| encoder.encode(&frame(i)).unwrap().to_vec()).collect();
        let error = |fill: &dyn Fn(&mut Decoder, usize, &mut Vec<i16>)| {
            let (mut whole, mut holed) = (Vec::new(), Vec::new());
            let (mut one, mut other) = (Decoder::new(16_000, 1).unwrap(), Decoder::new(16_000, 1).unwrap());
            for (n, packet) in packets.iter().enumerate() {
                one.decode(packet, &mut whole).unwrap();
                match n {
                    n if n % 6 == 5 => fill(&mut other, n, &mut holed),
                    _ => other.decode(packet, &mut holed).unwrap(),
                }
            }
            assert_eq!(whole.len(), holed.len());
            let holes = (0..whole.len()).filter(|n| n / 320 % 6 == 5);
            holes.map(|n| (f64::from(whole[n]) - f64::from(holed[n])).powi(2)).sum::<f64>()
        };
        let recovered = error(&|decoder, n, out| decoder.recover(&packets[n + 1], 20, out).unwrap());
        let concealed = error(&|decoder, _, out| decoder.conceal(20, out).unwrap());
        assert!(recovered < concealed / 2.0, "{recovered:e} against {concealed:e}");
    }

    #[test]
    fn malformed_packets_are_errors_and_the_decoder_goes_on() {
        let good = packets(48_000, 1, 20, 4);
        let (mut decoder, mut out) = (Decoder::new(48_000, 1).unwrap(), Vec::new());
        assert!(decoder.decode(&[], &mut out).is_err());
        // Code 3 with no frame count, with zero frames, and with more than 120 ms (RFC 6716 §3.4, R5).
        assert!(decoder.decode(&[0x03], &mut out).is_err());
        assert!(decoder.decode(&[0x03, 0x00], &mut out).is_err());
        assert!(decoder.decode(&[0x1B, 0x3F, 0, 0, 0, 0], &mut out).is_err());
        assert!(out.is_empty());
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..4000 {
            let mut packet = good[round % 4].clone();
            match random() % 3 {
                0 => packet = (0..random() % 200).map(|_| random() as u8).collect(),
                1 => packet.truncate(random() as usize % packet.len()),
                _ => (0..=random() % 8).for_each(|_| {
                    let at = random() as usize % packet.len();
                    packet[at] = random() as u8;
                }),
            }
            out.clear();
            let _ = decoder.decode(&packet, &mut out);
            assert!(out.len() <= 5760);
            let _ = decoder.recover(&packet, 20, &mut out);
        }
        out.clear();
        decoder.decode(&good[0], &mut out).unwrap();
        assert_eq!(out.len(), 960);
    }
}
