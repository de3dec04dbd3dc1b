//! The worker SDK shipped to users: the npm package `bunpilot` and the Python module
//! `bunpilot_worker`.
//!
//! Only the files themselves; `cli::sdk` puts them into a project. What they say is read by
//! `ipc::channel` and `ipc::notify`.

/// One file of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdkFile {
    /// Its name within its package.
    pub name: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(SdkFile { name: $name, text: include_str!(concat!("sdk/", $folder, "/", $name)) }),+]
    };
}

/// The npm package `bunpilot`: works in Node 18 and later and in Bun.
pub const JS: &[SdkFile] = files!["js":
    "package.json", "index.cjs", "index.mjs", "index.d.ts", "worker.cjs", "worker.mjs",
    "worker.d.ts",
];

/// The Python module, for Python 3.8 and later.
pub const PYTHON: &[SdkFile] = files!["python": "bunpilot_worker.py"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn text(name: &str) -> &'static str {
        JS.iter().find(|file| file.name == name).unwrap().text
    }

    fn package() -> Value {
        serde_json::from_str(text("package.json")).unwrap()
    }

    #[test]
    fn the_package_has_our_version() {
        assert_eq!(package()["version"], env!("CARGO_PKG_VERSION"));
    }

    /// Every text in `value` that looks like a file of the package.
    fn files_named(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => found.extend(text.strip_prefix("./").map(str::to_owned)),
            Value::Array(items) => items.iter().for_each(|item| files_named(item, found)),
            Value::Object(fields) => fields.values().for_each(|item| files_named(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }

    #[test]
    fn the_package_names_the_files_it_has() {
        let mut named = BTreeSet::new();
        files_named(&package(), &mut named);
        let shipped: BTreeSet<String> = JS.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(named, shipped);
    }

    #[test]
    fn the_types_name_what_is_exported() {
        for module in ["worker", "index"] {
            let exported = |file: &str| text(&format!("{module}.{file}"));
            let declared = exported("d.ts").lines().filter_map(|line| {
                line.strip_prefix("export declare function ")?.split(['(', '<']).next()
            });
            for name in declared {
                assert!(exported("cjs").contains(name), "{name} in {module}.cjs");
                assert!(exported("mjs").contains(name), "{name} in {module}.mjs");
            }
        }
    }
}
