//! Numbers of the running kernel's types and places of their fields, read from its BTF.
//!
//! The format is that of the kernel's `Documentation/bpf/btf.rst`. Holds nothing but where each
//! type begins: a kernel has some hundred thousand. Believes no length: what does not add up is
//! `None`.

use std::collections::BTreeMap;

/// Kinds of types, by their numbers.
pub(super) mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(in super::super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(in super::super) const TYPEDEF: u32 = 8;
    pub(in super::super) const FUNCTION: u32 = 12;
    pub(super) const FUNCTION_PROTOTYPE: u32 = 13;
    pub(super) const VARIABLE: u32 = 14;
    pub(super) const DATA_SECTION: u32 = 15;
    pub(super) const DECLARATION_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

/// Bytes of a type before what its kind adds, and of a member.
const TYPE_BYTES: usize = 12;

/// How deep nameless members are followed.
const DEPTH_MAX: usize = 8;

/// The types of a kernel.
pub(super) struct Types<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Where each type begins; the first is 1.
    begins: Vec<usize>,
}

impl<'a> Types<'a> {
    /// Finds the types of what `/sys/kernel/btf/vmlinux` holds.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = word(bytes, 4)?;
        let mut at = header.checked_add(word(bytes, 8)?)?;
        let end = at.checked_add(word(bytes, 12)?)?;
        let strings = header.checked_add(word(bytes, 16)?)?;
        let mut begins = vec![0];
        while at < end {
            begins.push(at);
            let (kind, length) = shape(bytes, at)?;
            let more = match kind {
                kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATA_SECTION | kind::ENUM64 => 12 * length,
                kind::ENUM | kind::FUNCTION_PROTOTYPE => 8 * length,
                _ => 0,
            };
            at += TYPE_BYTES + more;
        }
        Some(Self { bytes, strings, begins })
    }

    /// The numbers of types, each wanted by kind and name. Structures that are only declared are
    /// none.
    pub(super) fn find<'b>(&self, wanted: &[(u32, &'b str)]) -> BTreeMap<&'b str, usize> {
        let mut found = BTreeMap::new();
        for (number, &at) in self.begins.iter().enumerate().skip(1) {
            let Some((kind, length)) = shape(self.bytes, at) else { continue };
            let fits = |(it, name): &&(u32, &str)| *it == kind && self.is_called(at, name);
            if (kind != kind::STRUCT || length > 0)
                && let Some((_, name)) = wanted.iter().find(fits)
            {
                found.entry(*name).or_insert(number);
            }
        }
        found
    }

    /// How many bytes into structure number `structure` its member `name` begins, members of
    /// nameless members among them.
    pub(super) fn offset(&self, structure: usize, name: &str) -> Option<u32> {
        self.offset_within(*self.begins.get(structure)?, name, 0)
    }

    fn offset_within(&self, structure: usize, name: &str, depth: usize) -> Option<u32> {
        let (kind::STRUCT | kind::UNION, length) = shape(self.bytes, structure)? else {
            return None;
        };
        // Of a structure with bit fields the upper byte tells their widths.
        let mask = if word(self.bytes, structure + 4)? >> 31 == 1 { 0xff_ffff } else { u32::MAX };
        for number in 0..length {
            let member = structure + TYPE_BYTES * (number + 1);
            let bits = u32::try_from(word(self.bytes, member + 8)?).ok()? & mask;
            if self.is_called(member, name) {
                return Some(bits / 8);
            }
            if self.is_called(member, "") && depth < DEPTH_MAX {
                let inner = *self.begins.get(word(self.bytes, member + 4)?)?;
                if let Some(more) = self.offset_within(inner, name, depth + 1) {
                    return Some(bits / 8 + more);
                }
            }
        }
        None
    }

    /// Whether the type or member at `at` has this name.
    fn is_called(&self, at: usize, name: &str) -> bool {
        let found = word(self.bytes, at).and_then(|name| self.bytes.get(self.strings + name..));
        let rest = found.and_then(|it| it.strip_prefix(name.as_bytes()));
        rest.is_some_and(|it| it.first() == Some(&0))
    }
}

/// Kind and length of the type at `at`.
fn shape(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let info = word(bytes, at + 4)?;
    Some((u32::try_from(info >> 24).ok()? & 0x1f, info & 0xffff))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { union { long b; int c; }; int d; }; }` and an empty one of
    /// the same name before it.
    fn sample() -> Vec<u8> {
        let names = b"\0outer\0a\0b\0c\0d\0";
        let of = |name: &str| -> u32 {
            let text = [name.as_bytes(), b"\0"].concat();
            let at = names.windows(text.len()).position(|it| it == text).unwrap();
            u32::try_from(at).unwrap()
        };
        let info = |kind: u32, length: u32| kind << 24 | length;
        let types = [
            vec![of("a"), info(kind::INT, 0), 4, 32],
            vec![of("outer"), info(kind::STRUCT, 0), 0],
            vec![0, info(kind::UNION, 2), 8, of("b"), 1, 0, of("c"), 1, 0],
            vec![0, info(kind::STRUCT, 2), 16, 0, 3, 0, of("d"), 1, 64],
            vec![
                of("outer"),
                info(kind::STRUCT, 2) | 1 << 31,
                24,
                of("a"),
                1,
                0,
                0,
                4,
                4 << 24 | 64,
            ],
        ];
        let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_le_bytes).collect();
        let (types_len, names_len) =
            (types.len().try_into().unwrap(), names.len().try_into().unwrap());
        let header = [0x0001_eb9f, 24, 0, types_len, types_len, names_len];
        let header = header.into_iter().flat_map(u32::to_le_bytes);
        header.chain(types).chain(names.iter().copied()).collect()
    }

    #[test]
    fn members_are_found_at_any_depth() {
        let bytes = sample();
        let types = Types::read(&bytes).unwrap();
        let outer = types.find(&[(kind::STRUCT, "outer"), (kind::INT, "outer")])["outer"];
        let offsets = ["a", "b", "c", "d", "e"].map(|it| types.offset(outer, it));
        assert_eq!(offsets, [Some(0), Some(8), Some(8), Some(16), None]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            let Some(types) = Types::read(&bytes[..length]) else { continue };
            let found = types.find(&[(kind::STRUCT, "outer")]).into_values();
            found.for_each(|it| assert!(types.offset(it, "d").is_none_or(|it| it == 16)));
        }
        assert!(Types::read(b"").is_none());
    }
}
