//! Seeded chance, and how much of it a run wants.

use std::{env, time::Duration};

use super::tools;

/// Rounds of a test that goes on for as long as one likes: `short` of them, or `BUNPILOT_ROUNDS`.
pub(crate) fn rounds(short: u32) -> u32 {
    env::var("BUNPILOT_ROUNDS").map_or(short, |it| it.parse().expect("a number of rounds"))
}

/// `SplitMix64`.
#[derive(Debug)]
pub(crate) struct Luck(u64);

impl Luck {
    /// Begins with `BUNPILOT_SEED`, else with a seed nobody chose; says which.
    pub(crate) fn new(story: &str) -> Self {
        let seed = env::var("BUNPILOT_SEED").map_or_else(
            |_| u64::from(std::process::id()),
            |it| it.parse().expect("a number as the seed"),
        );
        tools::say(&format!("{story}: BUNPILOT_SEED={seed}"));
        Self(seed)
    }

    /// `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// Lets up to `max` pass, any length of it as likely as another.
    #[expect(clippy::disallowed_methods, reason = "a random moment is what is asked for")]
    pub(crate) fn dawdle(&mut self, max: Duration) {
        let micros = self.below(u64::try_from(max.as_micros()).expect("a short time"));
        std::thread::sleep(Duration::from_micros(micros));
    }
}
