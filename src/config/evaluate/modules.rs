//! Which file an `import` or `require` means, and what the engine gets for it.

use std::{
    path::{Component, Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use rquickjs::{
    Ctx, Error, Exception, Function, Module, Object, Value,
    context::EvalOptions,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use super::{
    super::fault::{Problem, Source},
    Studio,
    compile::{Compiled, System, compile, quoted},
};

/// Modules that the prelude makes; `node:` may stand before all but the last.
const BUILTIN: &[&str] =
    &["path", "path/posix", "os", "fs", "fs/promises", "url", "process", "module", "bunpilot"];

/// Endings tried, in this order, after a name that is no file.
const ENDINGS: &[&str] =
    &[".ts", ".mts", ".cts", ".js", ".mjs", ".cjs", ".json", "/index.ts", "/index.js"];

/// Gives modules to the engine.
pub(super) struct Shelf(pub(super) Rc<Studio>);

impl Resolver for Shelf {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        self.0.resolve(base, name).map_err(|problem| self.0.throw(ctx, problem))
    }
}

impl Loader for Shelf {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        if BUILTIN.contains(&name) {
            let builtin: Object<'_> =
                ctx.globals().get::<_, Object<'_>>(super::PRELUDE_NAME)?.get("builtin")?;
            let value: Value<'_> = builtin.get(name)?;
            let code = format!("globalThis.{}.builtin[{name:?}]", super::PRELUDE_NAME);
            return declare_value(ctx, name, &code, &value);
        }
        let file = Path::new(name);
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = self.0.json(file).map_err(|problem| self.0.throw(ctx, problem))?;
            return Module::declare(ctx.clone(), name, format!("export default {text};"));
        }
        let compiled = self.0.compiled(file).map_err(|problem| self.0.throw(ctx, problem))?;
        if compiled.system == System::CommonJs {
            let load: Function<'_> =
                ctx.globals().get::<_, Object<'_>>(super::PRELUDE_NAME)?.get("load")?;
            let value: Value<'_> = load.call((name,))?;
            let code = format!("globalThis.{}.load({})", super::PRELUDE_NAME, quoted(file));
            return declare_value(ctx, name, &code, &value);
        }
        let module = Module::declare(ctx.clone(), name, compiled.code)?;
        let folder = file.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let meta = module.meta()?;
        meta.set("url", format!("file://{name}"))?;
        meta.set("filename", name)?;
        meta.set("dirname", &*folder)?;
        meta.set("path", name)?;
        meta.set("dir", &*folder)?;
        meta.set(
            "env",
            ctx.globals().get::<_, Object<'_>>("process")?.get::<_, Value<'_>>("env")?,
        )?;
        Ok(module)
    }
}

/// A module whose default is `code`, and whose other exports are the entries of its `value`.
fn declare_value<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    code: &str,
    value: &Value<'js>,
) -> rquickjs::Result<Module<'js, Declared>> {
    let mut lines = vec![format!("const value = {code}; export default value;")];
    for key in value.as_object().into_iter().flat_map(Object::keys::<String>) {
        let key = key?;
        if is_identifier(&key) && key != "default" {
            lines.push(format!("const _{key} = value.{key}; export {{ _{key} as {key} }};"));
        }
    }
    Module::declare(ctx.clone(), name, lines.concat())
}

fn is_identifier(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

impl Studio {
    /// The module that `name` means in the file `base`: a built-in's name or a file's path.
    pub(super) fn resolve(&self, base: &str, name: &str) -> Result<String, Problem> {
        let plain = name.strip_prefix("node:").unwrap_or(name);
        if BUILTIN.contains(&plain) {
            return Ok(plain.to_owned());
        }
        let path = name.strip_prefix("file://").unwrap_or(name);
        if !path.starts_with(['.', '/']) {
            return Err(self.place(base, name, foreign(name)));
        }
        let folder = Path::new(base).parent().unwrap_or(Path::new("/"));
        let wanted = lexical(&folder.join(path));
        self.candidates(&wanted).map(|file| file.to_string_lossy().into_owned()).ok_or_else(|| {
            let problem = Problem::new(format!("cannot find `{name}`"));
            self.place(base, name, problem.help(format!("looked for `{}`", wanted.display())))
        })
    }

    fn candidates(&self, wanted: &Path) -> Option<PathBuf> {
        let is_file = |path: &PathBuf| self.host.file_kind(path).is_file();
        let text = wanted.to_string_lossy();
        // TypeScript writes `./x.js` for a file that is still called `x.ts`.
        let written = text.strip_suffix(".js").map(|stem| PathBuf::from(format!("{stem}.ts")));
        let endings = ENDINGS.iter().map(|ending| PathBuf::from(format!("{text}{ending}")));
        std::iter::once(wanted.to_path_buf()).chain(written).chain(endings).find(is_file)
    }

    /// Points at the text `name` in the file `base`.
    fn place(&self, base: &str, name: &str, problem: Problem) -> Problem {
        let origins = self.origins.borrow();
        let Some(origin) = origins.get(base) else { return problem };
        let text = origin.source.text();
        let quoted = [format!("'{name}'"), format!("\"{name}\""), format!("`{name}`")];
        match quoted.iter().find_map(|quoted| Some((text.find(quoted)?, quoted.len()))) {
            Some((start, length)) => problem.at(&origin.source, start..start + length),
            None => problem,
        }
    }

    fn read(&self, file: &Path) -> Result<String, Problem> {
        self.host
            .read(file)
            .map_err(|error| Problem::new(format!("cannot read `{}`: {error}", file.display())))
    }

    fn compiled(&self, file: &Path) -> Result<Compiled, Problem> {
        let compiled = compile(file, &self.read(file)?)?;
        let name = file.to_string_lossy().into_owned();
        self.origins.borrow_mut().insert(name, Arc::clone(&compiled.origin));
        Ok(compiled)
    }

    fn json(&self, file: &Path) -> Result<String, Problem> {
        let text = self.read(file)?;
        match super::super::load::json(&Source::new(file, &text)) {
            Ok(_) => Ok(text),
            Err(problem) => Err(problem),
        }
    }

    /// What the prelude's `load` runs: a function, or the text of a JSON file.
    pub(super) fn commonjs<'js>(&self, ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<Value<'js>> {
        let file = Path::new(name);
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = self.json(file).map_err(|problem| self.throw(ctx, problem))?;
            return Ok(rquickjs::String::from_str(ctx.clone(), &text)?.into_value());
        }
        let compiled = self.compiled(file).map_err(|problem| self.throw(ctx, problem))?;
        if compiled.system == System::EcmaScript {
            let message = format!("`{name}` is an ES module: use `import` instead of `require`");
            return Err(Exception::throw_message(ctx, &message));
        }
        let mut options = EvalOptions::default();
        options.strict = false;
        options.filename = Some(name.to_owned());
        ctx.eval_with_options(compiled.code, options)
    }

    /// Ends the evaluation with `problem`, which is better than what the engine would say.
    pub(super) fn throw(&self, ctx: &Ctx<'_>, problem: Problem) -> Error {
        let error = Exception::throw_message(ctx, problem.message());
        self.problem.borrow_mut().get_or_insert(problem);
        error
    }
}

fn foreign(name: &str) -> Problem {
    if name.starts_with("node:") {
        return Problem::new(format!("`{name}` is not built in")).help(super::OTHER_RUNTIME);
    }
    Problem::new(format!("`{name}` is an npm package, which the built-in engine cannot load"))
        .help(super::OTHER_RUNTIME)
}

/// Removes `.` and `..` by their letters, as imports do.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}
