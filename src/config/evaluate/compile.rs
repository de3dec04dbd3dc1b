//! From a file's text to what the engine runs: types gone, and a map back to the original.

use std::{path::Path, sync::Arc};

use oxc::{
    allocator::Allocator,
    codegen::{Codegen, CodegenOptions, CodegenReturn},
    diagnostics::{Diagnostics, Severity},
    parser::Parser,
    semantic::SemanticBuilder,
    span::SourceType,
    transformer::{TransformOptions, Transformer},
};

use super::super::fault::{Problem, Source};

/// A file ready to run.
pub(super) struct Compiled {
    pub(super) code: String,
    pub(super) system: System,
    pub(super) origin: Arc<Origin>,
}

/// The module system a file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    EcmaScript,
    CommonJs,
}

/// Leads from a place in the code back to the file.
pub(super) struct Origin {
    pub(super) source: Source,
    /// Places of the code and of the file, as (line, column) from 0, in the order of the code.
    places: Vec<((u32, u32), (u32, u32))>,
}

impl Origin {
    /// The byte of the file that `line` and `column` of the code, both counted from 1, come from.
    pub(super) fn offset(&self, line: u32, column: u32) -> Option<usize> {
        // The first line of the code is our own.
        let line = line.checked_sub(1 + HEADER_LINES)?;
        let wanted = (line, column.saturating_sub(1));
        let behind = self.places.partition_point(|(code, _)| *code <= wanted);
        let (_, (line, column)) = self.places.get(behind.checked_sub(1)?)?;
        Some(self.source.offset(usize::try_from(*line).ok()?, usize::try_from(*column).ok()?))
    }
}

/// Lines put before the code, always: names that node gives to every file, where they are used.
const HEADER_LINES: u32 = 1;

pub(super) fn compile(file: &Path, text: &str) -> Result<Compiled, Problem> {
    let source = Source::new(file, text);
    let allocator = Allocator::default();
    let kind = SourceType::from_path(file).unwrap_or_default();
    let parsed = Parser::new(&allocator, text, kind).parse();
    syntax(&source, parsed.diagnostics)?;
    let system = system(file, parsed.module_record.has_module_syntax);
    let mut program = parsed.program;

    let semantic = SemanticBuilder::new()
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .with_check_syntax_error(true)
        .build(&program);
    syntax(&source, semantic.diagnostics)?;
    let scoping = semantic.semantic.into_scoping();
    let free = |name: &str| {
        scoping.root_unresolved_references().iter().any(|(unresolved, _)| *unresolved == name)
    };
    let header = match system {
        System::CommonJs => {
            "(function (module, exports, require, __filename, __dirname) {".to_owned()
        }
        System::EcmaScript => node_names(file, free),
    };

    let options = TransformOptions::default();
    let transformed =
        Transformer::new(&allocator, file, &options).build_with_scoping(scoping, &mut program);
    syntax(&source, transformed.diagnostics)?;
    let options =
        CodegenOptions { source_map_path: Some(file.to_path_buf()), ..CodegenOptions::default() };
    let CodegenReturn { code, map, .. } = Codegen::new().with_options(options).build(&program);
    let footer = if system == System::CommonJs { "\n})" } else { "" };
    let mut places = Vec::new();
    if let Some(map) = &map {
        places.extend(map.get_tokens().map(|it| {
            ((it.get_dst_line(), it.get_dst_col()), (it.get_src_line(), it.get_src_col()))
        }));
    }
    Ok(Compiled {
        code: format!("{header}\n{code}{footer}"),
        system,
        origin: Arc::new(Origin { source, places }),
    })
}

/// A file without `import` or `export` is `CommonJS`, unless its name says otherwise.
fn system(file: &Path, has_module_syntax: bool) -> System {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("mjs" | "mts") => System::EcmaScript,
        Some("cjs" | "cts") => System::CommonJs,
        _ if has_module_syntax => System::EcmaScript,
        _ => System::CommonJs,
    }
}

/// Names of `CommonJS` that bun gives to modules, too; each only where the file means it.
fn node_names(file: &Path, free: impl Fn(&str) -> bool) -> String {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let require = "import { createRequire as __createRequire } from 'node:module';\
                   const require = __createRequire(";
    let names = [
        ("__filename", "const __filename = (", file),
        ("__dirname", "const __dirname = (", folder),
        ("require", require, file),
    ];
    let used = names.into_iter().filter(|(name, ..)| free(name));
    used.flat_map(|(_, open, path)| [open.to_owned(), quoted(path), ");".to_owned()]).collect()
}

/// A path as a literal of JavaScript.
pub(super) fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// The first of a parser's complaints that is an error.
fn syntax(source: &Source, complaints: Diagnostics) -> Result<(), Problem> {
    let mut complaints = complaints.into_iter();
    let Some(error) = complaints.find(|complaint| complaint.severity == Severity::Error) else {
        return Ok(());
    };
    let mut problem = Problem::syntax(&error.message);
    if let Some(label) = error.labels.iter().next() {
        let byte = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        let start = byte(label.offset());
        problem = problem.at(source, start..start + byte(label.len()).max(1));
    }
    if let Some(help) = &error.help {
        problem = problem.help(help.to_string());
    }
    Err(problem)
}
