//! The rule of one port: whom to choose from, in which way, and the order of turns.

use std::num::NonZeroU16;

use crate::domain::Balance;

/// Most that may be chosen from.
pub const READY_MAX: usize = 1024;

/// Longest round, in turns.
pub const TURNS_MAX: usize = 2048;

/// How the connections of one port are given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In which way.
    pub balance: Balance,
    /// Who takes those that nobody is ready for.
    pub parking: Option<u16>,
    ready: Vec<(u16, NonZeroU16)>,
    turns: Vec<u16>,
}

impl Rule {
    /// Gives connections to the seats `ready`, each by its weight. Of more than [`READY_MAX`] the
    /// last ones get none.
    #[must_use]
    pub fn new(
        balance: Balance,
        ready: impl IntoIterator<Item = (u16, NonZeroU16)>,
        parking: Option<u16>,
    ) -> Self {
        let ready: Vec<_> = ready.into_iter().take(READY_MAX).collect();
        let weights: Vec<NonZeroU16> = ready.iter().map(|(_, weight)| *weight).collect();
        let seat = |position: usize| ready.get(position).map(|(seat, _)| *seat);
        let turns = turns(&weights).into_iter().filter_map(seat).collect();
        Self { balance, parking, ready, turns }
    }

    /// Whom to choose from, and how much of all each is to get.
    #[must_use]
    pub fn ready(&self) -> &[(u16, NonZeroU16)] {
        &self.ready
    }

    /// Whose turn it is, one after the other and over again.
    #[must_use]
    pub fn turns(&self) -> &[u16] {
        &self.turns
    }
}

/// One round in which position `i` has its turn `weights[i]` times, as far apart as possible:
/// smooth weighted round robin, as nginx does it. Weights that would make a round longer than
/// [`TURNS_MAX`] are scaled down, nobody's to nothing as long as there are fewer than that.
#[must_use]
pub fn turns(weights: &[NonZeroU16]) -> Vec<usize> {
    let weights = scaled(weights);
    let total: i64 = weights.iter().sum();
    let mut current = vec![0_i64; weights.len()];
    let round = usize::try_from(total).unwrap_or_default().min(TURNS_MAX);
    let mut next = || {
        for (current, weight) in current.iter_mut().zip(&weights) {
            *current += weight;
        }
        // The first one of several that are as far behind.
        let (position, most) = current.iter_mut().enumerate().rev().max_by_key(|(_, it)| **it)?;
        *most -= total;
        Some(position)
    };
    (0..round).map_while(|_| next()).collect()
}

/// The same proportions in the smallest numbers, or nearly the same in numbers that fit.
fn scaled(weights: &[NonZeroU16]) -> Vec<i64> {
    let common = weights.iter().map(|it| i64::from(it.get())).fold(0, divisor).max(1);
    let least: Vec<i64> = weights.iter().map(|it| i64::from(it.get()) / common).collect();
    let total: i64 = least.iter().sum();
    let longest = i64::try_from(TURNS_MAX).unwrap_or(i64::MAX);
    if total <= longest {
        return least;
    }
    let spare = longest - i64::try_from(least.len()).unwrap_or(longest).min(longest);
    least.iter().map(|weight| 1 + weight * spare / total).collect()
}

/// The greatest common divisor, by Euclid.
fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights(weights: &[u16]) -> Vec<NonZeroU16> {
        weights.iter().filter_map(|it| NonZeroU16::new(*it)).collect()
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(turns(&weights(&[1, 1, 1])), [0, 1, 2]);
        assert_eq!(turns(&weights(&[5, 1, 1])), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&weights(&[200, 100])), [0, 1, 0]);
        assert!(turns(&[]).is_empty());
    }

    #[test]
    fn a_rule_names_seats() {
        let one = NonZeroU16::MIN;
        let rule = Rule::new(Balance::RoundRobin, [(7, one), (3, one)], Some(9));
        assert_eq!(rule.turns(), [7, 3]);
        let crowd = (0..2000).map(|it| (it, one));
        let rule = Rule::new(Balance::Random, crowd, None);
        assert_eq!((rule.ready().len(), rule.turns().len()), (READY_MAX, READY_MAX));
    }

    proptest! {
        #[test]
        fn everybody_gets_a_share(given in prop::collection::vec(1..=u16::MAX, 1..200)) {
            let given = weights(&given);
            let turns = turns(&given);
            prop_assert!(turns.len() <= TURNS_MAX);
            let count = |position| turns.iter().filter(|it| **it == position).count();
            let counts: Vec<usize> = (0..given.len()).map(count).collect();
            prop_assert!(counts.iter().all(|it| *it > 0));
            // Whoever weighs more never gets less.
            let mut shares: Vec<_> = given.iter().zip(&counts).collect();
            shares.sort();
            prop_assert!(shares.is_sorted_by_key(|(_, count)| **count), "{shares:?}");
        }
    }
}
