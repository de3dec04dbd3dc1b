//! Seeded chance: one seed, one history.

use std::time::Duration;

/// `SplitMix64`. Small enough to read, good enough to shuffle.
#[derive(Debug)]
pub(crate) struct Luck(pub(crate) u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `0..bound`.
    pub(crate) fn below(&mut self, bound: u16) -> u16 {
        u16::try_from(self.next() % u64::from(bound)).unwrap()
    }

    /// `low..=high`.
    pub(crate) fn range(&mut self, low: u16, high: u16) -> u16 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn percent(&mut self, chance: u16) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn ms(&mut self, low: u16, high: u16) -> Duration {
        Duration::from_millis(u64::from(self.range(low, high)))
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::from(self.below(u16::try_from(items.len()).unwrap()))]
    }
}
