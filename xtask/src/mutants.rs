//! `cargo xtask mutants`: proves that the simulator catches faults, by planting some.
//!
//! `tests/sim/mutants.txt` lists them. Each is planted alone in a copy of the tree under
//! `target/mutants`, the simulator is built and run there, and must fail or hang. A mutant that
//! lives shows a law the simulator does not know.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// A simulator that takes longer than this is caught in a loop; unharmed it needs a fraction.
const HANGS_AFTER: Duration = Duration::from_mins(3);

/// Storms per mutant: enough, as the list of those caught shows.
const SEEDS: &str = "200";

/// Entries of the tree that are no part of its source.
const NOT_SOURCE: [&str; 2] = ["target", ".git"];

/// A fault to plant: in `file`, `from` becomes `to`.
struct Mutant {
    why: String,
    file: PathBuf,
    from: String,
    to: String,
}

/// What became of a mutant.
enum Fate {
    /// These tests failed.
    Caught(String),
    /// The simulator did not end.
    Hung,
    Lives,
}

/// Plants every mutant of the list, or those whose line says one of the words given.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match hunt(words) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("mutants: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns how many live.
fn hunt(words: &[String]) -> io::Result<usize> {
    let root = root();
    let mutants = parse(&fs::read_to_string(root.join("tests/sim/mutants.txt"))?)?;
    let wanted = |it: &&Mutant| words.is_empty() || words.iter().any(|word| it.why.contains(word));
    let field = root.join("target/mutants");
    copy_source(&root, &field)?;
    rename_crate(&field)?;
    let (mut caught, mut lives) = (0, 0);
    for mutant in mutants.iter().filter(wanted) {
        let start = now();
        let fate = plant(mutant, &root, &field)?;
        let seconds = start.elapsed().as_secs_f32();
        let word = match &fate {
            Fate::Caught(by) => format!("caught by {by}"),
            Fate::Hung => "caught: it hung".to_owned(),
            Fate::Lives => "LIVES".to_owned(),
        };
        match fate {
            Fate::Caught(_) | Fate::Hung => caught += 1,
            Fate::Lives => lives += 1,
        }
        say(&format!("{seconds:5.1}s  {:<58} {word}", mutant.why));
    }
    say(&format!("{caught} caught, {lives} live"));
    Ok(lives)
}

fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

fn parse(text: &str) -> io::Result<Vec<Mutant>> {
    let blocks = text.split("\n\n").map(str::trim).filter(|it| !it.starts_with('#'));
    blocks.filter(|it| !it.is_empty()).map(parse_block).collect()
}

fn parse_block(block: &str) -> io::Result<Mutant> {
    let lines: Vec<&str> = block.lines().collect();
    if let [why, file, from, to] = lines.as_slice()
        && let (Some(from), Some(to)) = (from.strip_prefix("- "), to.strip_prefix("+ "))
    {
        let (why, file) = ((*why).to_owned(), PathBuf::from(file));
        return Ok(Mutant { why, file, from: from.to_owned(), to: to.to_owned() });
    }
    Err(io::Error::other(format!("not a mutant: why, file, `- from`, `+ to`:\n{block}")))
}

/// Gives the copy's crate another version. Cargo names what it builds by package and version, not
/// by folder: without this a mutant would overwrite the healthy build in the shared target.
fn rename_crate(field: &Path) -> io::Result<()> {
    let manifest = field.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    let (head, package) = text.split_once("\n[package]\n").unwrap_or(("", ""));
    let own = package.lines().find(|it| it.starts_with("version = "));
    let own = own.ok_or_else(|| io::Error::other("Cargo.toml names no version"))?;
    let package = package.replacen(own, &version, 1);
    fs::write(manifest, format!("{head}\n[package]\n{package}"))
}

/// Brings the copy up to date; unchanged files keep their times, so little is built again.
fn copy_source(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_SOURCE.iter().any(|it| name == *it) {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_source(&source, &copy)?;
        } else {
            write_if_new(&copy, &fs::read(&source)?)?;
        }
    }
    Ok(())
}

fn write_if_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content)
}

fn plant(mutant: &Mutant, root: &Path, field: &Path) -> io::Result<Fate> {
    let healthy = fs::read_to_string(root.join(&mutant.file))?;
    if healthy.matches(&mutant.from).count() != 1 {
        let why = format!("`{}` is not there exactly once: {}", mutant.from, mutant.why);
        return Err(io::Error::other(why));
    }
    let sick = healthy.replacen(&mutant.from, &mutant.to, 1);
    fs::write(field.join(&mutant.file), sick)?;
    let fate = build(root, field).and_then(|simulator| judge(&simulator, field));
    fs::write(field.join(&mutant.file), healthy)?;
    fate
}

/// Builds the simulator and returns its path. Dependencies come from the tree's own target.
fn build(root: &Path, field: &Path) -> io::Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["test", "--quiet", "--test", "sim", "--no-run", "--message-format=json"])
        .current_dir(field)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other("the mutant does not compile; write another"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(executable).next_back();
    built.ok_or_else(|| io::Error::other("cargo built no simulator"))
}

fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

fn judge(simulator: &Path, field: &Path) -> io::Result<Fate> {
    let log = field.join("sim.log");
    let mut child = Command::new(simulator)
        .current_dir(field)
        .env("BUNPILOT_SEEDS", SEEDS)
        .env("RUST_BACKTRACE", "0")
        .stdout(File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()?;
    match wait(&mut child)? {
        None => Ok(Fate::Hung),
        Some(true) => Ok(Fate::Lives),
        Some(false) => Ok(Fate::Caught(culprits(&fs::read(&log)?))),
    }
}

/// Whether it ended well; `None` if it had to be killed.
#[expect(clippy::disallowed_methods, reason = "a build tool may wait")]
fn wait(child: &mut Child) -> io::Result<Option<bool>> {
    let start = now();
    while start.elapsed() < HANGS_AFTER {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The tests that failed, storms first: they need no one to foresee the fault.
fn culprits(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let failed = log.lines().filter_map(|it| it.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let (stories, storms): (Vec<&str>, Vec<&str>) =
        failed.partition(|it| it.starts_with("story::"));
    let mut text = storms.join(", ");
    if !stories.is_empty() {
        let comma = if text.is_empty() { "" } else { ", " };
        let _written = write!(text, "{comma}{} stories", stories.len());
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a build tool may look at the clock")]
fn now() -> Instant {
    Instant::now()
}

fn say(line: &str) {
    let _lost = writeln!(io::stdout().lock(), "{line}");
}
