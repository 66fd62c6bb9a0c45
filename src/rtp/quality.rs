//! An estimated MOS: the E-model (ITU-T G.107) with its default values, fed with what RTP and RTCP measure.
//!
//! R = 93.2 − Idd − Ie,eff. 93.2 is Ro − Is with all defaults of G.107 table 2; Idd is the delay impairment of an echo-free
//! connection (G.107 §7.4, equations 7-27 and 7-28); Ie,eff is the equipment impairment under loss (§7.5, equation 7-29). What
//! echo, noise and loudness do is not measured, hence taken as by default. It is an estimate of a line, not of what was said on it.

/// Ro − Is with the defaults.
const BEST_R: f64 = 93.2;

/// How a codec sounds, and how it takes losses (G.113 appendix I: Ie and Bpl).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equipment {
    pub impairment: f64,
    pub robustness: f64,
}

impl Equipment {
    /// G.711 without concealment (G.113 table I.4: 4.3): most phones do better, so this is the cautious figure.
    pub const G711: Self = Self { impairment: 0.0, robustness: 4.3 };
    /// G.113 has no row for Opus. Its concealment is at least as good as G.711's appendix I, of which the figure is (25.1).
    pub const OPUS: Self = Self { impairment: 0.0, robustness: 25.1 };
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Mouth to ear, ms.
    pub delay_ms: f64,
    /// 0 to 1.
    pub loss: f64,
    /// Mean length of a run of losses against that of random loss; 1: random.
    pub burst_ratio: f64,
}

impl Conditions {
    /// `round_trip_ms`: of the network; `jitter_ms`: a buffer of twice as much is assumed; `frame_ms`: packing and codec.
    pub fn measured(round_trip_ms: f64, jitter_ms: f64, frame_ms: f64, loss: f64, gaps: u64, lost: u64) -> Self {
        let delay_ms = round_trip_ms / 2.0 + 2.0 * jitter_ms + frame_ms;
        let mean_run = if gaps > 0 { lost as f64 / gaps as f64 } else { 1.0 };
        // Random loss comes in runs of 1 / (1 − loss) on average.
        let burst_ratio = (mean_run * (1.0 - loss.clamp(0.0, 1.0))).max(1.0);
        Self { delay_ms, loss, burst_ratio }
    }
}

/// The transmission rating R, 0 to 93.2.
pub fn rating(equipment: Equipment, conditions: Conditions) -> f64 {
    let loss = conditions.loss.clamp(0.0, 1.0) * 100.0;
    let Equipment { impairment, robustness } = equipment;
    let effective = match loss > 0.0 {
        true => impairment + (95.0 - impairment) * loss / (loss / conditions.burst_ratio.max(1.0) + robustness),
        false => impairment,
    };
    (BEST_R - delay_impairment(conditions.delay_ms) - effective).clamp(0.0, BEST_R)
}

/// The mean opinion score of a rating (G.107 annex B, equation B-4).
pub fn mos(rating: f64) -> f64 {
    let r = rating.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// Idd.
fn delay_impairment(delay_ms: f64) -> f64 {
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    let root = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Conditions = Conditions { delay_ms: 20.0, loss: 0.0, burst_ratio: 1.0 };

    fn near(found: f64, wanted: f64, by: f64) {
        assert!((found - wanted).abs() <= by, "{found} is not {wanted} ± {by}");
    }

    #[test]
    fn ratings_to_scores_as_annex_b_has_them() {
        // G.107 table B.1: R and MOS-CQE.
        for (r, score) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            near(mos(r), score, 0.01);
        }
        near(mos(BEST_R), 4.41, 0.005);
        assert_eq!((mos(-5.0), mos(0.0)), (1.0, 1.0));
    }

    #[test]
    fn delay_costs_nothing_up_to_100_ms_and_more_and_more_behind() {
        assert_eq!(delay_impairment(100.0), 0.0);
        // By hand: Ta = 400 gives X = 2, 25 (65^(1/6) − 3 (1 + 64/729)^(1/6) + 2).
        near(delay_impairment(400.0), 25.0 * (2.005_175 - 3.0 * 1.014_125 + 2.0), 0.01);
        let steps: Vec<f64> = (1..=8).map(|n| delay_impairment(f64::from(n) * 100.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[1] > pair[0]), "{steps:?}");
    }

    #[test]
    fn loss_costs_as_equation_7_29_says() {
        let lossy = |loss| Conditions { loss, ..GOOD };
        // G.711 without concealment, 1 % at random: 95 · 1 / (1 + 4.3) = 17.92.
        near(rating(Equipment::G711, lossy(0.01)), 93.2 - 17.92, 0.01);
        near(rating(Equipment::OPUS, lossy(0.01)), 93.2 - 95.0 / 26.1, 0.01);
        let bursty = Conditions { burst_ratio: 3.0, ..lossy(0.05) };
        assert!(rating(Equipment::OPUS, bursty) < rating(Equipment::OPUS, lossy(0.05)));
        assert_eq!(rating(Equipment::G711, GOOD), BEST_R);
        assert!(mos(rating(Equipment::G711, lossy(1.0))) < 1.2);
    }

    #[test]
    fn what_was_measured_becomes_conditions() {
        let found = Conditions::measured(100.0, 10.0, 20.0, 0.1, 5, 20);
        assert_eq!(found.delay_ms, 90.0);
        near(found.burst_ratio, 3.6, 1e-9);
        assert_eq!(Conditions::measured(0.0, 0.0, 20.0, 0.0, 0, 0).burst_ratio, 1.0);
        let nonsense = Conditions { delay_ms: f64::MAX, loss: 7.0, burst_ratio: 0.0 };
        assert_eq!(mos(rating(Equipment::G711, nonsense)), 1.0);
    }
}
