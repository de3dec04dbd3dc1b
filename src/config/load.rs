//! From a configuration file to apps: find it, read it in its format, resolve it; and if anything
//! is wrong, all of it, underlined in the user's own text.

use std::{
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
    str::FromStr,
};

use serde_json::Value;

use super::{
    evaluate::evaluate,
    fault::{Fault, Problem, Rejected, Segment, Source},
    host::Host,
    raw::RawConfig,
    resolve::{self, Base},
    runtime,
    shape::{Dialect, Moves, shape},
    tree::{self, Node},
};
use crate::domain::AppSpec;

/// Names of configuration files, in the order they are looked for.
pub const NAMES: &[&str] = &[
    "bunpilot.config.ts",
    "bunpilot.config.js",
    "bunpilot.config.mjs",
    "bunpilot.config.cjs",
    "bunpilot.json",
    "bunpilot.yaml",
    "bunpilot.yml",
    "bunpilot.toml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.json",
];

/// What evaluates a JavaScript or TypeScript configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The engine in this program.
    #[default]
    BuiltIn,
    /// `bun`, found on `PATH`.
    Bun,
    /// `node`, found on `PATH`.
    Node,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "builtin" => Ok(Self::BuiltIn),
            "bun" => Ok(Self::Bun),
            "node" => Ok(Self::Node),
            _ => Err(format!(
                "`{text}` cannot evaluate configurations; use `builtin`, `bun` or `node`"
            )),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BuiltIn => "builtin",
            Self::Bun => "bun",
            Self::Node => "node",
        })
    }
}

/// A configuration file, understood.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file, absolute.
    pub file: PathBuf,
    /// Its apps.
    pub apps: Vec<AppSpec>,
    /// What was understood, but is not heeded.
    pub warnings: Vec<Problem>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Script,
    Json,
    Yaml,
    Toml,
}

impl Format {
    fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "ts" | "mts" | "cts" | "js" | "mjs" | "cjs" => Some(Self::Script),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// Tells whether an argument of `bunpilot start` names a configuration rather than a script.
#[must_use]
pub fn is_config(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    NAMES.contains(&name)
        || [".config.ts", ".config.mts", ".config.js", ".config.mjs", ".config.cjs"]
            .iter()
            .any(|ending| name.ends_with(ending))
        || matches!(Format::of(file), Some(Format::Json | Format::Yaml | Format::Toml))
}

/// The configuration file of a folder, if there is one.
#[must_use]
pub fn discover(folder: &Path, host: &dyn Host) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|file| host.file_kind(file).is_file())
}

/// Reads the configuration `file`, relative to `caller`'s folder. The apps' own relative paths
/// start from the file's folder.
///
/// # Errors
///
/// All that is wrong, each at its place.
pub fn load(
    file: &Path,
    engine: Engine,
    caller: &Base,
    host: &Rc<dyn Host>,
) -> Result<Loaded, Rejected> {
    let file: PathBuf = caller.cwd.join(file).components().collect();
    let text = host.read(&file).map_err(|error| {
        Problem::new(format!("cannot read the configuration `{}`: {error}", file.display()))
            .help("`bunpilot init` writes one")
    })?;
    let source = Source::new(&file, &text);
    let (value, places) = read(&file, &source, engine, caller, host)?;
    let dialect = if is_ecosystem(&file) { Dialect::Pm2 } else { Dialect::Bunpilot };
    let shaped = shape(value, dialect);
    let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let base = Base { cwd: folder, ..caller.clone() };

    let resolved = resolve::apps(&shaped.raw, &base, &**host);
    let show = |faults: Vec<Fault>| -> Vec<Problem> {
        if faults.is_empty() {
            return Vec::new();
        }
        let node = places.node(&file, &source);
        let picture = Picture { source: &source, node, moves: &shaped.moves };
        let mut problems: Vec<_> = faults.into_iter().map(|fault| picture.of(fault)).collect();
        problems.sort_by_key(Problem::start);
        problems
    };
    match resolved {
        Ok(apps) if shaped.faults.is_empty() => Ok(Loaded {
            warnings: show([shaped.warnings, resolve::remarks(&shaped.raw, &apps)].concat()),
            file,
            apps,
        }),
        Ok(_) => Err(Rejected { problems: show(shaped.faults) }),
        Err(mut more) => {
            more.retain(|fault| !follows(fault, &shaped.faults));
            Err(Rejected { problems: show([shaped.faults, more].concat()) })
        }
    }
}

/// The JSON Schema of the configuration, as an editor wants it.
#[must_use]
pub fn schema() -> Value {
    super::schema::schema()
}

fn is_ecosystem(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ecosystem."))
}

/// Whether `fault` is only there because an earlier one took its value away.
fn follows(fault: &Fault, earlier: &[Fault]) -> bool {
    let related =
        |cause: &Fault| cause.path.starts_with(&fault.path) || fault.path.starts_with(&cause.path);
    earlier.iter().any(related)
}

/// Where the places of a value come from; most files are right, and never need them.
enum Places {
    /// Read along with the value.
    Known(Node),
    /// To be read off the program that the file is.
    Program,
    /// To be read off the JSON text that the file is.
    Json,
}

impl Places {
    fn node(self, file: &Path, source: &Source) -> Node {
        match self {
            Self::Known(node) => node,
            Self::Program => tree::script::exported(file, source),
            Self::Json => tree::script::json(source),
        }
    }
}

fn read(
    file: &Path,
    source: &Source,
    engine: Engine,
    caller: &Base,
    host: &Rc<dyn Host>,
) -> Result<(Value, Places), Problem> {
    let known = |(value, node)| (value, Places::Known(node));
    match Format::of(file) {
        Some(Format::Script) => {
            let value = match engine {
                Engine::BuiltIn => evaluate(file, caller, host),
                Engine::Bun => runtime::evaluate("bun", file, caller, &**host),
                Engine::Node => runtime::evaluate("node", file, caller, &**host),
            };
            Ok((value?, Places::Program))
        }
        Some(Format::Json) => Ok((json(source)?, Places::Json)),
        Some(Format::Yaml) => tree::yaml::read(source).map(known),
        Some(Format::Toml) => tree::toml::read(source).map(known),
        None => Err(Problem::new(format!("`{}` is no configuration by its name", file.display()))
            .help("bunpilot reads .ts, .mts, .js, .mjs, .cjs, .json, .yaml, .yml and .toml")),
    }
}

pub(super) fn json(source: &Source) -> Result<Value, Problem> {
    serde_json::from_str(source.text()).map_err(|error| {
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        let start = source.offset(error.line().saturating_sub(1), error.column().saturating_sub(1));
        Problem::syntax(words).at(source, source.word(start))
    })
}

/// Shows faults in a file.
struct Picture<'a> {
    source: &'a Source,
    node: Node,
    moves: &'a Moves,
}

impl Picture<'_> {
    fn of(&self, fault: Fault) -> Problem {
        let path: Vec<Segment> = self.moves.origin(&fault.path);
        let span = self.node.find(&path, fault.aim);
        Problem::from(fault).at(self.source, span)
    }
}

/// What a file's apps and daemon section are when nobody needs places: the value of a client.
///
/// # Errors
///
/// Every wrong type and unknown key.
pub fn from_value(value: Value) -> Result<RawConfig, Vec<Fault>> {
    let shaped = shape(value, Dialect::Bunpilot);
    if shaped.faults.is_empty() { Ok(shaped.raw) } else { Err(shaped.faults) }
}
