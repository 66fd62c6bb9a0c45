//! Inputs from seeds, the same for the same number: what `cargo test` has in place of a fuzzer that watches coverage.

/// SplitMix64: small, and every seed is a good one.
pub struct Random(u64);

/// Values on which bounds and lengths turn.
const EDGES: &[u8] = &[0x00, 0x01, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xfe, 0xff];
/// Longest input made here.
const LONGEST: usize = 4096;

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// A seed, spoiled in one to eight places.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let pick = self.below(seeds.len());
        let mut input = seeds.get(pick).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            self.spoil(&mut input, seeds);
        }
        input.truncate(LONGEST);
        input
    }

    fn spoil(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let (from, to) = (at.min(input.len()), (at + 1 + self.below(16)).min(input.len()));
        match self.below(8) {
            0 if from < input.len() => input[from] ^= 1 << self.below(8),
            1 if from < input.len() => input[from] = EDGES[self.below(EDGES.len())],
            2 => input.insert(from, self.bits() as u8),
            3 => drop(input.drain(from..to)),
            4 => input.truncate(from),
            5 => {
                let again = input[from..to].to_vec();
                input.splice(from..from, again);
            }
            6 => {
                let pick = self.below(seeds.len());
                let other = seeds.get(pick).map_or(&[][..], |seed| &seed[self.below(seed.len())..]);
                input.splice(from.., other.iter().copied());
            }
            _ => input.extend(std::iter::repeat_n(EDGES[self.below(EDGES.len())], 1 + self.below(12))),
        }
    }
}
