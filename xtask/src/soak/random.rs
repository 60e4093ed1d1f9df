//! Repeatable randomness: the run's seed decides every choice (SplitMix64, which no attacker has to be kept from guessing).

/// A stream of numbers.
pub(super) struct Random(u64);

impl Random {
    /// The stream of a seed and a purpose, so that a row finds the same numbers whichever rows run before it.
    pub(super) fn new(seed: u64, purpose: &str) -> Random {
        let mut random = Random(seed);
        for byte in purpose.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_the_purpose_decide() {
        let first = |seed, purpose| Random::new(seed, purpose).next();
        assert_eq!(first(1, "cache"), first(1, "cache"));
        assert_ne!(first(1, "cache"), first(2, "cache"));
        assert_ne!(first(1, "cache"), first(1, "mutants"));
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::new(1, "test");
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(0), 0);
    }
}
