//! How files are named, placed and kept.

use std::collections::BTreeSet;

use super::{Fault, Page, source::code_only};

/// Longest file, in lines, its tests included; [`LONG`] holds the exceptions.
const LINES_MAX: usize = 500;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[];

/// All that may lie at the top level, beside dotfiles.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "ebpf",
    "src",
    "target",
    "tests",
    "xtask",
];

/// Beginnings of paths that exist on somebody's machine only. Split, so that this file may name
/// them.
const PRIVATE_FOLDERS: &[&str] =
    &[concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/", "work/")];

/// The home of examples: nobody's.
const EXAMPLE_HOME: &str = concat!("/", "home/me");

/// Files whose text others wrote.
const FOREIGN: &[&str] = &["Cargo.lock"];

/// Only what the house has a place for.
pub(super) fn top_level(names: &[String]) -> Vec<Fault> {
    let strangers =
        names.iter().filter(|it| !it.starts_with('.') && !TOP_LEVEL.contains(&it.as_str()));
    strangers.map(|it| Fault::file(it, "has no place at the top level")).collect()
}

/// A Rust file's length, name and opening.
pub(super) fn shape(page: &Page) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lines = page.text.lines().count();
    if lines > LINES_MAX && !LONG.iter().any(|(path, _)| *path == page.path) {
        let what = format!("{lines} lines, at most {LINES_MAX}; split it, or argue in `LONG`");
        faults.push(Fault::file(&page.path, what));
    }
    if page.path.ends_with("/mod.rs") {
        faults.push(Fault::file(&page.path, "write `foo.rs` beside `foo/`, not `foo/mod.rs`"));
    }
    if !page.text.starts_with("//!") {
        let what = "opens without `//!`: say what it decides and what it never does";
        faults.push(Fault::file(&page.path, what));
    }
    faults
}

/// Exceptions in [`LONG`] that no file needs.
pub(super) fn stale_exceptions(pages: &[Page]) -> Vec<Fault> {
    let needed = |path: &str| {
        pages.iter().any(|page| page.path == path && page.text.lines().count() > LINES_MAX)
    };
    let stale = LONG.iter().filter(|(path, _)| !needed(path));
    stale.map(|(path, _)| Fault::file(path, "needs no exception in `LONG`")).collect()
}

/// Words that mean nothing to anyone else: paths of one machine and what this checkout keeps
/// private.
pub(super) fn words(page: &Page, secrets: &[String]) -> Vec<Fault> {
    if FOREIGN.contains(&page.path.as_str()) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (at, line) in page.text.lines().enumerate() {
        for folder in PRIVATE_FOLDERS.iter().filter(|it| names_folder(line, it)) {
            let what = format!("names `{folder}`, a folder of one machine");
            faults.push(Fault::line(&page.path, at + 1, what));
        }
        for _ in secrets.iter().filter(|it| line.contains(it.as_str())) {
            faults.push(Fault::line(
                &page.path,
                at + 1,
                "names something private to this checkout",
            ));
        }
    }
    faults
}

/// Whether `folder` begins a path in `line`, rather than continuing one as in `src/work/`.
fn names_folder(line: &str, folder: &str) -> bool {
    let begins = |at: usize| {
        if line[at..].starts_with(EXAMPLE_HOME) {
            return false;
        }
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')' | '*'))
    };
    line.match_indices(folder).any(|(at, _)| begins(at))
}

/// Rust files no module declares: they would never be compiled.
pub(super) fn orphans(pages: &[Page]) -> Vec<Fault> {
    let paths: BTreeSet<_> = pages.iter().map(|page| page.path.as_str()).collect();
    let mut faults = Vec::new();
    for path in paths.iter().filter(|it| !is_root(it)) {
        let Some((folder, file)) = path.rsplit_once('/') else { continue };
        let Some(module) = file.strip_suffix(".rs") else { continue };
        let declares = |parent: &String| {
            let page = pages.iter().find(|page| page.path == *parent);
            page.is_some_and(|page| declared(&page.text, module))
        };
        let parents =
            [format!("{folder}.rs"), format!("{folder}/main.rs"), format!("{folder}/lib.rs")];
        if !parents.iter().any(declares) {
            faults.push(Fault::file(path, format!("no `mod {module};` declares it")));
        }
    }
    faults
}

/// Whether cargo knows the file by itself or from Cargo.toml.
fn is_root(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name, "main.rs" | "lib.rs" | "build.rs" | "mod.rs")
        || path.starts_with("benches/")
        || path.contains("/examples/")
        || path.contains("/bin/")
}

fn declared(text: &str, module: &str) -> bool {
    let wanted = ["mod".to_owned(), format!("{module};")];
    code_only(text).lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.windows(2).any(|it| it == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page { path: path.to_owned(), text: text.to_owned() }
    }

    #[track_caller]
    fn check(faults: &[Fault], expected: &[&str]) {
        let found: Vec<_> =
            faults.iter().map(|Fault { place, what }| format!("{place}: {what}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_long_file_is_a_fault() {
        let text = format!("//! x\n{}", "\n".repeat(LINES_MAX));
        let what = "a.rs: 501 lines, at most 500; split it, or argue in `LONG`";
        check(&shape(&page("a.rs", &text)), &[what]);
        check(&shape(&page("a.rs", &text[..text.len() - 1])), &[]);
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        let what = "a.rs: opens without `//!`: say what it decides and what it never does";
        check(&shape(&page("a.rs", "use std::fs;\n//! late")), &[what]);
    }

    #[test]
    fn mod_rs_is_a_fault() {
        let what = "src/a/mod.rs: write `foo.rs` beside `foo/`, not `foo/mod.rs`";
        check(&shape(&page("src/a/mod.rs", "//! a")), &[what]);
    }

    #[test]
    fn the_top_level_is_fixed() {
        let names = ["src", ".ci", "notes.txt"].map(str::to_owned);
        check(&top_level(&names), &["notes.txt: has no place at the top level"]);
    }

    #[test]
    fn undeclared_files_are_found() {
        let pages = [
            page("tests/cli/main.rs", "//! cli\nmod defects;\n// mod logs;\n"),
            page("tests/cli/defects.rs", "#[cfg(unix)] mod health;\npub(crate) mod ipc;"),
            page("tests/cli/defects/health.rs", ""),
            page("tests/cli/defects/ipc.rs", ""),
            page("tests/cli/defects/pc.rs", ""),
            page("tests/cli/logs.rs", ""),
        ];
        check(
            &orphans(&pages),
            &[
                "tests/cli/defects/pc.rs: no `mod pc;` declares it",
                "tests/cli/logs.rs: no `mod logs;` declares it",
            ],
        );
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let line = format!("see {}you/x and src{}x", PRIVATE_FOLDERS[0], PRIVATE_FOLDERS[3]);
        check(
            &words(&page("README.md", &line), &[]),
            &[&format!("README.md:1: names `{}`, a folder of one machine", PRIVATE_FOLDERS[0])],
        );
    }

    #[test]
    fn the_home_of_examples_is_nobodys() {
        check(&words(&page("README.md", &format!("HOME={EXAMPLE_HOME}/x")), &[]), &[]);
    }

    #[test]
    fn private_words_are_found_but_not_repeated() {
        let secrets = ["gizmo".to_owned()];
        check(
            &words(&page("a.sh", "x\nrun gizmo"), &secrets),
            &["a.sh:2: names something private to this checkout"],
        );
    }
}
