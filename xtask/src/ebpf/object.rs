//! What of a linked object is committed: all that a loader reads, and nothing else.

use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Takes out what only debuggers read; the BTF stays.
pub(super) fn strip(linked: &[u8]) -> Result<Vec<u8>, String> {
    let mut builder = Builder::read(linked).map_err(|error| error.to_string())?;
    for section in &mut builder.sections {
        let debug = [&b".debug_"[..], b".rel.debug_"];
        section.delete = debug.iter().any(|prefix| section.name.starts_with(prefix));
    }
    let named = |data: &SectionData<'_>| matches!(data, SectionData::SectionString);
    if !builder.sections.iter().any(|it| named(&it.data)) {
        // LLVM keeps the names of sections with those of symbols, the builder beside them.
        let table = builder.sections.add();
        table.name = b".shstrtab"[..].into();
        table.sh_type = SHT_STRTAB;
        table.sh_addralign = 1;
        table.data = SectionData::SectionString;
    }
    builder.delete_orphans();
    builder.delete_unused_versions();
    let mut bytes = Vec::new();
    builder.write(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _};

    use super::*;

    #[test]
    fn what_is_committed_is_stripped_already() {
        let path = crate::shell::root().join("ebpf/prebuilt/cpu.o");
        let bytes = std::fs::read(path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let names: Vec<_> =
            file.sections().filter_map(|it| it.name().ok().map(str::to_owned)).collect();
        for needed in [".BTF", "license", "maps", ".maps", "iter/task"] {
            assert!(names.iter().any(|it| it == needed), "{needed} of {names:?}");
        }
        assert!(!names.iter().any(|it| it.contains("debug")), "{names:?}");
        assert_eq!(strip(&bytes).unwrap(), bytes);
    }

    #[test]
    fn no_object_is_an_error() {
        assert!(strip(b"not an object").is_err());
    }
}
