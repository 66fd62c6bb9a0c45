//! Chance for what is spread or drawn: xorshift, good enough for that and for nothing that is to be kept from anybody.

#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// 0 to 1, without 1.
    pub fn throw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 to `most`, each as likely.
    pub fn up_to(&mut self, most: u32) -> u32 {
        // Below 2^33, so nothing is lost on the way.
        ((self.throw() * (f64::from(most) + 1.0)) as u32).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_up_and_none_beyond() {
        let mut dice = Dice::new(0);
        let mut seen = [0; 4];
        (0..1000).for_each(|_| seen[dice.up_to(3) as usize] += 1);
        assert!(seen.iter().all(|times| (150..350).contains(times)), "{seen:?}");
        assert_eq!(dice.up_to(0), 0);
        assert!((0..1000).map(|_| dice.up_to(u32::MAX)).any(|number| number > u32::MAX / 2));
    }
}
