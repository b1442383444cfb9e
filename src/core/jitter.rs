//! Chance from a seed, for spreading what would otherwise happen at once. It is
//! predictable on purpose: it owns no secret, and a seed replays a run.

use std::time::Duration;

/// A sequence of numbers that its seed determines: the splitmix64 generator
/// (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// The next number, any of all 64-bit ones.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration from zero up to but not including `bound`; zero where that is
    /// zero. Bounds above 584 years count as 584 years.
    pub fn below(&mut self, bound: Duration) -> Duration {
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let scaled = (u128::from(self.next_u64()) * u128::from(bound)) >> 64;
        // A product of two 64-bit numbers, shifted by 64, is a 64-bit number.
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_sequence_and_seeds_differ() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            [jitter.next_u64(), jitter.next_u64(), jitter.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The reference sequence of splitmix64 for the seed 0.
        assert_eq!(draw(0)[..2], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn durations_fill_the_range_below_their_bound() {
        let mut jitter = Jitter::new(1);
        let bound = Duration::from_millis(100);
        let draws: Vec<_> = (0..1000).map(|_| jitter.below(bound)).collect();
        assert!(draws.iter().all(|&draw| draw < bound));
        assert!(draws.iter().any(|&draw| draw < bound / 10));
        assert!(draws.iter().any(|&draw| draw > bound * 9 / 10));
        assert_eq!(jitter.below(Duration::ZERO), Duration::ZERO);
        let _ = jitter.below(Duration::MAX);
    }
}
