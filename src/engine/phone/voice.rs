//! A voice made of tones: what the phone says when it was given no clip.
//!
//! Harmonics of a gliding pitch under two moving formants, in syllables: enough of speech for a codec's speech model to
//! take it for one, and easy to tell apart by ear from silence, hum or a stuck frame.

use std::f64::consts::{PI, TAU};

use crate::audio::wav::Wav;

const SAMPLE_RATE: u32 = 8000;
const SECONDS: f64 = 4.0;
const SYLLABLES_PER_S: f64 = 2.5;
/// Formants of the vowels in turn, Hz (Peterson and Barney's averages for a, i, u, e).
const VOWELS: [(f64, f64); 4] = [(730.0, 1090.0), (270.0, 2290.0), (300.0, 870.0), (530.0, 1840.0)];

/// The same samples every time.
pub(super) fn wav() -> Wav {
    let mut phase = 0.0;
    let samples = (0..(SECONDS * f64::from(SAMPLE_RATE)) as usize).map(|n| {
        let t = n as f64 / f64::from(SAMPLE_RATE);
        let pitch = 140.0 + 30.0 * (t * 2.3).sin() - 8.0 * t;
        phase += TAU * pitch / f64::from(SAMPLE_RATE);
        let syllable = t * SYLLABLES_PER_S;
        let vowel = VOWELS[syllable as usize % VOWELS.len()];
        // A short pause between syllables.
        let loudness = (syllable.fract() * PI * 1.15).sin().max(0.0);
        (9000.0 * loudness * glottis(phase, pitch, vowel)).clamp(-20_000.0, 20_000.0) as i16
    });
    let samples = samples.collect();
    Wav { sample_rate: SAMPLE_RATE, channels: 1, samples }
}

fn glottis(phase: f64, pitch: f64, (first, second): (f64, f64)) -> f64 {
    let near = |hz: f64, formant: f64, width: f64| (-((hz - formant) / width).powi(2)).exp();
    let harmonic = |k: f64| {
        let hz = k * pitch;
        let weight = near(hz, first, 180.0) + 0.5 * near(hz, second, 260.0) + 0.05;
        weight * (k * phase).sin()
    };
    (1..=22).map(f64::from).map(harmonic).sum::<f64>() / 2.0
}
