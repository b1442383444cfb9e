//! Choices from a seed.

use std::ops::Range;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): any seed will do.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The choices of one of many who share a seed.
    pub(crate) fn of(seed: u64, index: u64) -> Chance {
        let mut chance = Chance(seed);
        let seed = chance.next();
        Chance(seed ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn time(&mut self, range: Range<Duration>) -> Duration {
        let micros = |time: Duration| time.as_micros() as u64;
        Duration::from_micros(self.within(micros(range.start)..micros(range.end)))
    }

    /// As many between 2^n and 2^(n+1) for each n.
    pub(crate) fn bytes(&mut self, bits: Range<u64>) -> u64 {
        let bits = self.within(bits);
        (1 << bits) + self.below(1 << bits)
    }
}
