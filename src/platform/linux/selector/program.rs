//! The classic-BPF program that chooses a socket of a group, as pure data.
//!
//! It decides by the sender's address alone, so it needs no map, no privilege and no kernel
//! newer than 4.6. It never counts and never remembers: it is replaced whenever the choice changes.

use std::{num::NonZeroU16, ops::Range};

pub(super) use crate::platform::sys::reuseport::Instruction;

/// First two bytes of the source address of a probe: 127.66.h.l means socket `h << 8 | l`.
pub(super) const PROBE_NET: u16 = 0x7f42;

/// What no socket is numbered: the kernel then chooses by hash among all.
const NOBODY: u32 = u32::MAX;

/// The network header, `SKF_NET_OFF` of `<linux/filter.h>`.
const NET_OFF: u32 = 0xfff0_0000;
/// A random number, `SKF_AD_OFF + SKF_AD_RANDOM`.
const RANDOM: u32 = 0xffff_f000 + 56;

// Codes from `<linux/bpf_common.h>`.
const LD_W: u16 = 0x20;
const LD_B: u16 = 0x30;
const ADD: u16 = 0x04;
const AND: u16 = 0x54;
const RSH: u16 = 0x74;
const MOD: u16 = 0x94;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;

/// Sends a probe to the socket it names, of `sockets` there are, and everyone else to one of
/// `selected` (ascending, no doubles, each below `sockets`) at random, in proportion to their
/// weights; to any, if that is empty.
pub(super) fn program(sockets: u16, selected: &[(u16, NonZeroU16)]) -> Vec<Instruction> {
    // The destination of `pick`, counted from behind the instruction that jumps.
    let mut program = vec![
        plain(LD_B, NET_OFF),
        plain(RSH, 4),
        jump(JEQ, 4, 0, 8), // an IPv6 packet
        plain(LD_W, NET_OFF + 12),
        plain(TAX, 0),
        plain(RSH, 16),
        jump(JEQ, u32::from(PROBE_NET), 0, 4), // not a probe
        plain(TXA, 0),
        plain(AND, 0xffff),
        jump(JGE, u32::from(sockets), 1, 0), // a probe of a socket there is not
        plain(RET_A, 0),
    ];
    program.extend(pick(selected));
    program
}

fn pick(selected: &[(u16, NonZeroU16)]) -> Vec<Instruction> {
    match selected {
        [] => vec![plain(RET_K, NOBODY)],
        [(only, _)] => vec![plain(RET_K, u32::from(*only))],
        several => {
            let runs = runs(several);
            let sum = runs.last().map_or(1, |run| run.lots.end);
            let mut all = vec![plain(LD_W, RANDOM), plain(MOD, sum)];
            all.extend(branch(&runs));
            all
        }
    }
}

/// Lots, of which a random one is drawn, and who wins with them.
#[derive(Clone, Debug)]
struct Run {
    lots: Range<u32>,
    winner: Winner,
}

#[derive(Clone, Copy, Debug)]
enum Winner {
    /// One socket wins with all of them.
    One(u32),
    /// The first lot is this socket's, the next one the next one's, and so on.
    Each(u32),
}

/// Gives each as many lots as its weight is, in a row.
fn runs(selected: &[(u16, NonZeroU16)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut lot = 0;
    for &(index, weight) in selected {
        let (index, next) = (u32::from(index), lot + u32::from(weight.get()));
        match runs.last_mut() {
            Some(Run { lots, winner: Winner::Each(first) })
                if weight == NonZeroU16::MIN && *first + (lots.end - lots.start) == index =>
            {
                lots.end = next;
            }
            _ if weight == NonZeroU16::MIN => {
                runs.push(Run { lots: lot..next, winner: Winner::Each(index) });
            }
            _ => runs.push(Run { lots: lot..next, winner: Winner::One(index) }),
        }
        lot = next;
    }
    runs
}

/// Turns the lot in the accumulator into the number of the socket that wins with it.
fn branch(runs: &[Run]) -> Vec<Instruction> {
    if let [run] = runs {
        return leaf(run);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let middle = high.first().map_or(0, |run| run.lots.start);
    let (low, high) = (branch(low), branch(high));
    let mut all = match u8::try_from(low.len()) {
        Ok(near) => vec![jump(JGE, middle, near, 0)],
        Err(_far) => {
            vec![jump(JGE, middle, 0, 1), plain(JA, u32::try_from(low.len()).unwrap_or(u32::MAX))]
        }
    };
    all.extend(low);
    all.extend(high);
    all
}

fn leaf(Run { lots, winner }: &Run) -> Vec<Instruction> {
    match *winner {
        Winner::One(index) => vec![plain(RET_K, index)],
        Winner::Each(first) if lots.len() == 1 => vec![plain(RET_K, first)],
        // by weights lots may be ahead of the sockets: then the sum wraps around
        Winner::Each(first) => match first.wrapping_sub(lots.start) {
            0 => vec![plain(RET_A, 0)],
            shift => vec![plain(ADD, shift), plain(RET_A, 0)],
        },
    }
}

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::SOCKETS_MAX, *};

    /// What the kernel would do with `program`, a packet and a random number.
    fn run(program: &[Instruction], packet: &[u8], random: u32) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let byte = |i: u32| u32::from(packet[usize::try_from(i - NET_OFF).unwrap()]);
            match code {
                LD_B => a = byte(k),
                LD_W if k == RANDOM => a = random,
                LD_W => a = (0..4).fold(0, |word, i| word << 8 | byte(k + i)),
                ADD => a = a.wrapping_add(k),
                AND => a &= k,
                RSH => a >>= k,
                MOD => a %= k,
                TAX => x = a,
                TXA => a = x,
                JA => at += usize::try_from(k).unwrap(),
                JEQ => at += usize::from(if a == k { jt } else { jf }),
                JGE => at += usize::from(if a >= k { jt } else { jf }),
                RET_K => return k,
                RET_A => return a,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn even(selected: &[u16]) -> Vec<(u16, NonZeroU16)> {
        selected.iter().map(|&index| (index, NonZeroU16::MIN)).collect()
    }

    fn ipv4(source: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&source);
        packet
    }

    fn ipv6() -> Vec<u8> {
        // Bytes 12..16 look like a probe's address.
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[12..16].copy_from_slice(&[127, 66, 0, 0]);
        packet
    }

    #[test]
    fn probes_reach_the_socket_they_name() {
        let program = program(600, &even(&[3]));
        for (low, index) in [([0, 0], 0), ([0, 7], 7), ([1, 0], 256), ([2, 87], 599)] {
            assert_eq!(run(&program, &ipv4([127, 66, low[0], low[1]]), 0), index);
        }
        // Not there, another network, and no IPv4.
        assert_eq!(run(&program, &ipv4([127, 66, 2, 88]), 0), 3);
        assert_eq!(run(&program, &ipv4([127, 0, 0, 1]), 0), 3);
        assert_eq!(run(&program, &ipv6(), 0), 3);
    }

    #[test]
    fn nobody_selected_leaves_it_to_the_kernel() {
        assert_eq!(run(&program(4, &[]), &ipv4([10, 0, 0, 1]), 9), NOBODY);
    }

    #[test]
    fn the_worst_selection_fits_old_kernels() {
        let every_second: Vec<u16> = (0..SOCKETS_MAX).step_by(2).collect();
        let mut uneven = even(&every_second);
        for (_, weight) in uneven.iter_mut().step_by(2) {
            *weight = NonZeroU16::MAX;
        }
        let program = [even(&every_second), uneven].map(|it| program(SOCKETS_MAX, &it));
        let longest = program.iter().map(Vec::len).max().unwrap();
        // Translated to eBPF each becomes at most two instructions of 8 bytes, and before 6.8 the
        // kernel allows 20 KiB (net.core.optmem_max).
        assert!(longest * 2 * 8 + 512 < 20_480, "{longest}");
    }

    proptest! {
        #[test]
        fn everyone_selected_gets_its_share_and_nobody_else_any(
            selected in proptest::collection::btree_map(0..SOCKETS_MAX, 1_u16..5, 1..300),
            start in any::<u16>(),
        ) {
            let weighted: Vec<_> = selected
                .iter()
                .map(|(&index, &weight)| (index, NonZeroU16::new(weight).unwrap()))
                .collect();
            let program = program(SOCKETS_MAX, &weighted);
            let mut seen: BTreeMap<u16, u16> = BTreeMap::new();
            let sum: u32 = selected.values().copied().map(u32::from).sum();
            for random in (0..sum * 2).map(|n| n + u32::from(start)) {
                let index = u16::try_from(run(&program, &ipv6(), random)).unwrap();
                *seen.entry(index).or_default() += 1;
            }
            let expected = selected.into_iter().map(|(index, weight)| (index, weight * 2));
            prop_assert_eq!(seen, expected.collect());
        }
    }
}
