//! One rate to another, any chunk at a time.
//!
//! A polyphase FIR: windowed sinc, 16 zero crossings per side of the lower rate, Kaiser β 8, cut at 0.93 of the lower Nyquist
//! frequency. State runs on from chunk to chunk, so chunks of any size give the same samples. Delay: [`Resampler::delay`],
//! 2 ms at 8 kHz. Owned by one decoder or encoder; it knows samples only.

use std::f64::consts::PI;

/// Per side, at the lower of the two rates.
const ZERO_CROSSINGS: u32 = 16;
const KAISER_BETA: f64 = 8.0;
/// Of the lower Nyquist frequency.
const CUT: f64 = 0.93;
/// Accumulators side by side, and what the taps of a phase are a multiple of: the width of two vector registers or one.
const LANES: usize = 8;

/// The coefficients of one ratio and the memory of one stream.
pub struct Resampler {
    /// Reduced ratio: `up` phases, `down` of them per output sample.
    up: usize,
    down: usize,
    taps: usize,
    /// `up` phases of `taps`, each in the order of time.
    bank: Vec<f32>,
    channels: Vec<Channel>,
}

struct Channel {
    /// The last `taps - 1` samples and the chunk in work.
    history: Vec<f32>,
    /// Position of the next output in `history`, in phases.
    position: usize,
}

impl Resampler {
    /// `None`: the rates are equal and there is nothing to do.
    pub fn new(from: u32, to: u32, channels: u8) -> Option<Self> {
        if from == to || from == 0 || to == 0 {
            return None;
        }
        let divisor = gcd(from, to);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        let (bank, taps) = bank(from, to, up);
        // The first output stands at the first input sample, behind a past of silence.
        let channel = || Channel { history: vec![0.0; taps - 1], position: (taps - 1) * up };
        Some(Self { up, down, taps, bank, channels: (0..channels).map(|_| channel()).collect() })
    }

    /// Interleaved samples in; appends what can be told by now.
    pub fn process(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        let (count, start) = (self.channels.len(), out.len());
        for index in 0..count {
            let channel = &mut self.channels[index];
            channel.history.extend(samples.iter().skip(index).step_by(count).map(|sample| f32::from(*sample)));
            let mut at = start + index;
            while channel.position / self.up < channel.history.len() {
                let (newest, phase) = (channel.position / self.up, channel.position % self.up);
                let window = &channel.history[newest + 1 - self.taps..=newest];
                let sample = dot(window, &self.bank[phase * self.taps..][..self.taps]);
                // Other channels of this sample are written by their own rounds.
                if at >= out.len() {
                    out.resize(at - index + count, 0);
                }
                out[at] = sample.round_ties_even() as i16;
                at += count;
                channel.position += self.down;
            }
            let keep = self.taps - 1;
            let drop = channel.history.len() - keep;
            channel.history.copy_within(drop.., 0);
            channel.history.truncate(keep);
            channel.position -= drop * self.up;
        }
    }

    /// Output samples per channel that the filter lags behind.
    pub fn delay(&self) -> usize {
        self.taps / 2 * self.up / self.down
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `LANES` sums side by side, which the compiler turns into vector instructions: float sums may not be reordered by it.
fn dot(window: &[f32], taps: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (window, taps) in window.chunks_exact(LANES).zip(taps.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += window[lane] * taps[lane];
        }
    }
    sums.iter().sum()
}

fn bank(from: u32, to: u32, up: usize) -> (Vec<f32>, usize) {
    let lower = from.min(to);
    let taps = (2 * ZERO_CROSSINGS * from).div_ceil(lower) as usize;
    let taps = taps.next_multiple_of(LANES);
    let length = taps * up;
    let centre = length as f64 / 2.0;
    // In cycles per sample of the rate `from * up`, at which the prototype stands.
    let cut = CUT * 0.5 * f64::from(lower) / (f64::from(from) * up as f64);
    let prototype = |j: usize| {
        let x = j as f64 - centre;
        let sinc = if x == 0.0 { 1.0 } else { (2.0 * PI * cut * x).sin() / (2.0 * PI * cut * x) };
        let edge = (1.0 - (x / centre).powi(2)).max(0.0).sqrt();
        sinc * bessel_i0(KAISER_BETA * edge)
    };
    let mut bank = Vec::with_capacity(length);
    for phase in 0..up {
        // In the order of time: the oldest sample meets the last coefficient of its phase.
        let row: Vec<f64> = (0..taps).rev().map(|k| prototype(phase + k * up)).collect();
        // Each phase passes a constant unchanged; else the phases would hum at the ratio's rate.
        let gain: f64 = row.iter().sum();
        bank.extend(row.iter().map(|tap| (tap / gain) as f32));
    }
    (bank, taps)
}

/// Modified Bessel function of the first kind, order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [u32; 5] = [8000, 12_000, 16_000, 24_000, 48_000];

    fn tone(rate: u32, hz: f64, seconds: f64) -> Vec<i16> {
        let count = (f64::from(rate) * seconds) as usize;
        (0..count).map(|n| (16_000.0 * (n as f64 * hz * 2.0 * PI / f64::from(rate)).sin()).round() as i16).collect()
    }

    fn resample(from: u32, to: u32, samples: &[i16], chunk: usize) -> (Vec<i16>, usize) {
        let (mut resampler, mut out) = (Resampler::new(from, to, 1).unwrap(), Vec::new());
        for chunk in samples.chunks(chunk) {
            resampler.process(chunk, &mut out);
        }
        (out, resampler.delay())
    }

    /// What remains after the best fitting sine of `hz`, in dB below it; and the sine's gain in dB against 16000.
    fn purity(samples: &[i16], rate: u32, hz: f64) -> (f64, f64) {
        let (mut a, mut b) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            let angle = n as f64 * hz * 2.0 * PI / f64::from(rate);
            a += f64::from(*sample) * angle.sin() * 2.0 / samples.len() as f64;
            b += f64::from(*sample) * angle.cos() * 2.0 / samples.len() as f64;
        }
        let mut rest = 0.0;
        for (n, sample) in samples.iter().enumerate() {
            let angle = n as f64 * hz * 2.0 * PI / f64::from(rate);
            rest += (f64::from(*sample) - a * angle.sin() - b * angle.cos()).powi(2);
        }
        let power = (a * a + b * b) / 2.0;
        let gain = 10.0 * (power / (16_000.0_f64.powi(2) / 2.0)).log10();
        (10.0 * (power / (rest / samples.len() as f64)).log10(), gain)
    }

    #[test]
    fn tones_pass_clean_between_all_rates() {
        for from in RATES {
            for to in RATES.into_iter().filter(|to| *to != from) {
                let (out, delay) = resample(from, to, &tone(from, 1000.0, 1.2), 160);
                let settled = &out[2 * delay..2 * delay + to as usize];
                let (snr, gain) = purity(settled, to, 1000.0);
                assert!(snr > 80.0, "{from} -> {to}: {snr:.1} dB");
                assert!(gain.abs() < 0.01, "{from} -> {to}: gain {gain:.3} dB");
            }
        }
    }

    #[test]
    fn speech_near_the_edge_passes_and_what_lies_beyond_does_not_come_back() {
        for (from, to) in [(48_000, 8000), (48_000, 16_000), (24_000, 16_000), (16_000, 12_000), (16_000, 8000)] {
            let nyquist = f64::from(to) / 2.0;
            let (out, delay) = resample(from, to, &tone(from, 0.85 * nyquist, 1.2), 333);
            let (_, gain) = purity(&out[2 * delay..2 * delay + to as usize], to, 0.85 * nyquist);
            assert!(gain > -1.5, "{from} -> {to}: {gain:.2} dB at 0.85 of Nyquist");
            let (out, delay) = resample(from, to, &tone(from, 1.15 * nyquist, 1.2), 333);
            let loudest = out[2 * delay..].iter().map(|sample| i32::from(*sample).abs()).max().unwrap();
            assert!(loudest <= 2, "{from} -> {to}: an alias of {loudest}");
        }
        // Up: the images of 0.85 Nyquist lie above it and stay away.
        let (out, delay) = resample(8000, 48_000, &tone(8000, 3000.0, 1.2), 160);
        let (snr, _) = purity(&out[2 * delay..2 * delay + 48_000], 48_000, 3000.0);
        assert!(snr > 75.0, "{snr:.1} dB");
    }

    #[test]
    fn the_size_of_chunks_makes_no_difference() {
        let samples: Vec<i16> = (0..4000_i64).map(|n| (n * n * 7919 % 60_013 - 30_000) as i16).collect();
        for (from, to) in [(8000, 48_000), (48_000, 8000), (24_000, 16_000), (12_000, 16_000)] {
            let (whole, _) = resample(from, to, &samples, 4000);
            for chunk in [1, 7, 160, 961] {
                assert_eq!(resample(from, to, &samples, chunk).0, whole, "{from} -> {to} by {chunk}");
            }
            assert_eq!(whole.len(), (4000 * to).div_ceil(from) as usize);
        }
    }

    #[test]
    fn delay_is_as_told_and_short() {
        for (from, to) in [(8000, 48_000), (48_000, 8000), (16_000, 48_000), (24_000, 16_000), (16_000, 12_000)] {
            let mut impulse = vec![0; from as usize / 10];
            impulse[0] = 20_000;
            let (out, delay) = resample(from, to, &impulse, 100);
            let peak = (0..out.len()).max_by_key(|n| out[*n]).unwrap();
            assert!(peak.abs_diff(delay) <= 1, "{from} -> {to}: peak at {peak}, told {delay}");
            assert!(delay as f64 / f64::from(to) <= 0.0021, "{from} -> {to}");
        }
    }

    #[test]
    fn channels_do_not_mix() {
        let (left, right) = (tone(48_000, 500.0, 0.2), tone(48_000, 900.0, 0.2));
        let stereo: Vec<i16> = left.iter().zip(&right).flat_map(|(l, r)| [*l, *r]).collect();
        let (mut resampler, mut out) = (Resampler::new(48_000, 16_000, 2).unwrap(), Vec::new());
        stereo.chunks(1920).for_each(|chunk| resampler.process(chunk, &mut out));
        let alone = resample(48_000, 16_000, &right, 960).0;
        assert_eq!(out.iter().skip(1).step_by(2).copied().collect::<Vec<_>>(), alone);
        assert_eq!(out.len(), alone.len() * 2);
    }
}
