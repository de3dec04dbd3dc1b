//! The classic-BPF program that chooses a socket of a group, as pure data.
//!
//! It decides by the sender's address alone, so it needs no map, no privilege and no kernel
//! newer than 4.6. It never counts and never remembers: it is replaced whenever the choice changes.

use std::ops::Range;

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
/// `selected` (ascending, no doubles, each below `sockets`) at random; to any, if that is empty.
pub(super) fn program(sockets: u16, selected: &[u16]) -> Vec<Instruction> {
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

fn pick(selected: &[u16]) -> Vec<Instruction> {
    match selected {
        [] => vec![plain(RET_K, NOBODY)],
        [only] => vec![plain(RET_K, u32::from(*only))],
        several => {
            let count = u32::try_from(several.len()).unwrap_or(u32::MAX);
            let mut all = vec![plain(LD_W, RANDOM), plain(MOD, count)];
            all.extend(branch(&runs(several)));
            all
        }
    }
}

/// Positions in the selection that follow each other as their sockets do.
#[derive(Clone, Debug)]
struct Run {
    positions: Range<u32>,
    first: u32,
}

fn runs(selected: &[u16]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (position, &index) in (0..).zip(selected) {
        let index = u32::from(index);
        match runs.last_mut() {
            Some(run) if run.first + (run.positions.end - run.positions.start) == index => {
                run.positions.end += 1;
            }
            _ => runs.push(Run { positions: position..position + 1, first: index }),
        }
    }
    runs
}

/// Turns the position in the accumulator into the number of its socket.
fn branch(runs: &[Run]) -> Vec<Instruction> {
    if let [run] = runs {
        return leaf(run);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let middle = high.first().map_or(0, |run| run.positions.start);
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

fn leaf(run: &Run) -> Vec<Instruction> {
    let shift = run.first - run.positions.start;
    if run.positions.len() == 1 {
        vec![plain(RET_K, run.first)]
    } else if shift == 0 {
        vec![plain(RET_A, 0)]
    } else {
        vec![plain(ADD, shift), plain(RET_A, 0)]
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

    use super::*;

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
                ADD => a += k,
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
        let program = program(600, &[3]);
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
        let every_second: Vec<u16> = (0..super::super::SOCKETS_MAX).step_by(2).collect();
        let program = program(super::super::SOCKETS_MAX, &every_second);
        // Translated to eBPF each becomes at most two instructions of 8 bytes, and before 6.8 the
        // kernel allows 20 KiB (net.core.optmem_max).
        assert!(program.len() * 2 * 8 + 512 < 20_480, "{}", program.len());
    }

    proptest! {
        #[test]
        fn everyone_selected_gets_the_same_share_and_nobody_else_any(
            selected in proptest::collection::btree_set(0_u16..super::super::SOCKETS_MAX, 1..300),
            start in any::<u16>(),
        ) {
            let selected: Vec<u16> = selected.into_iter().collect();
            let program = program(super::super::SOCKETS_MAX, &selected);
            let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
            let count = u32::try_from(selected.len()).unwrap();
            for random in (0..count * 2).map(|n| n + u32::from(start)) {
                *seen.entry(run(&program, &ipv6(), random)).or_default() += 1;
            }
            let expected = selected.iter().map(|&index| (u32::from(index), 2)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
