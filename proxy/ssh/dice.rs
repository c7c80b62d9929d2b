//! Random numbers for tests, which come again with the same seed (xorshift64).

/// Dice that fall as their seed says.
pub(super) struct Dice(u64);

impl Dice {
    /// With this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of so many numbers, from 0 on.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Seeds of each kind of game: a few seconds' worth, or as many as `KEYWARD_SSH_SEEDS` says.
pub(super) fn seeds(few: u64) -> std::ops::RangeInclusive<u64> {
    let many = std::env::var("KEYWARD_SSH_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    1..=many.unwrap_or(few)
}
