//! Runs a JavaScript or TypeScript configuration in process, and gives back what it exports.
//!
//! A small engine (`QuickJS`) behind the door of [`Host`]: it reads files and prints, nothing else.
//! Bounded in time and memory. Decides nothing about the value.

mod compile;
mod modules;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rquickjs::{
    CatchResultExt as _, CaughtError, Context, Ctx, Exception, Function, Module, Object, Promise,
    Runtime, Value, promise::PromiseState,
};

use super::{
    fault::Problem,
    host::{FileKind, Host},
    resolve::Base,
};
use compile::Origin;

/// Longest run of a configuration file.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Most memory a configuration file may use.
const MEMORY_MAX_BYTES: usize = 64 << 20;

/// Deepest stack of the engine: well below that of the smallest thread we run in, 2 MiB.
const STACK_MAX_BYTES: usize = 512 << 10;

/// Most jobs and timers; time bounds them first unless the clock stands still.
const TURNS_MAX: u32 = 10_000_000;

/// Where the prelude's functions are kept for Rust and for generated modules.
const PRELUDE_NAME: &str = "__bunpilot";

const OTHER_RUNTIME: &str =
    "`--config-runtime bun` (or `node`) evaluates the file with that program instead";

/// All that lives while one configuration file is evaluated.
struct Studio {
    host: Rc<dyn Host>,
    /// The files loaded so far, by path.
    origins: RefCell<BTreeMap<String, Arc<Origin>>>,
    /// The first failure that we can explain better than the engine.
    problem: RefCell<Option<Problem>>,
    began: Duration,
    late: Cell<bool>,
}

/// Evaluates `file`, absolute, and returns its default export as JSON.
///
/// # Errors
///
/// What the engine, the parser or the limits have to say, at its place in the file.
pub(super) fn evaluate(
    file: &Path,
    base: &Base,
    host: &Rc<dyn Host>,
) -> Result<serde_json::Value, Problem> {
    let studio = Rc::new(Studio {
        host: Rc::clone(host),
        origins: RefCell::default(),
        problem: RefCell::default(),
        began: host.elapsed(),
        late: Cell::new(false),
    });
    let text = studio.run(file, base)?;
    serde_json::from_str(&text)
        .map_err(|error| Problem::new(format!("cannot read its JSON: {error}")))
}

fn engine(error: &rquickjs::Error) -> Problem {
    Problem::new(format!("the built-in engine failed: {error}")).help(OTHER_RUNTIME)
}

impl Studio {
    fn run(self: &Rc<Self>, file: &Path, base: &Base) -> Result<String, Problem> {
        let runtime = Runtime::new().map_err(|error| engine(&error))?;
        runtime.set_memory_limit(MEMORY_MAX_BYTES);
        runtime.set_max_stack_size(STACK_MAX_BYTES);
        let studio = Rc::clone(self);
        runtime.set_interrupt_handler(Some(Box::new(move || studio.is_late())));
        runtime.set_loader(modules::Shelf(Rc::clone(self)), modules::Shelf(Rc::clone(self)));
        let context = Context::full(&runtime).map_err(|error| engine(&error))?;
        let result = context.with(|ctx| {
            let result = self.exported(&ctx, file, base).catch(&ctx);
            result.map_err(|error| self.explain(file, error))
        });
        // Cycles between the engine and our closures end here.
        runtime.set_interrupt_handler(None);
        result?.ok_or_else(|| {
            Problem::new(format!("`{}` exports no configuration", file.display()))
                .help("end it with `export default { apps: [ … ] }`")
        })
    }

    fn is_late(&self) -> bool {
        let late = self.host.elapsed().saturating_sub(self.began) > TIME_MAX;
        self.late.set(self.late.get() || late);
        self.late.get()
    }

    /// The JSON text of what `file` exports; `None` if that is nothing.
    fn exported<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        file: &Path,
        base: &Base,
    ) -> rquickjs::Result<Option<String>> {
        let native = self.native(ctx, file, base)?;
        let prelude: Function<'js> = ctx.eval(include_str!("evaluate/prelude.js"))?;
        let prelude: Object<'js> = prelude.call((native,))?;
        ctx.globals().set(PRELUDE_NAME, prelude.clone())?;
        let tick: Function<'js> = prelude.get("tick")?;
        let finish: Function<'js> = prelude.get("finish")?;

        let module = Module::import(ctx, &*file.to_string_lossy())?;
        let namespace: Object<'js> = self.settle(ctx, &module, &tick)?;
        let exported: Value<'js> = namespace.get("default")?;
        let json: Promise<'js> = finish.call((exported,))?;
        self.settle(ctx, &json, &tick)
    }

    /// Runs jobs and timers until `promise` is settled.
    fn settle<'js, T: rquickjs::FromJs<'js>>(
        &self,
        ctx: &Ctx<'js>,
        promise: &Promise<'js>,
        tick: &Function<'js>,
    ) -> rquickjs::Result<T> {
        for _ in 0..TURNS_MAX {
            if promise.state() != PromiseState::Pending || self.is_late() {
                break;
            }
            if !ctx.execute_pending_job() && !tick.call::<_, bool>(())? {
                break;
            }
        }
        promise.result().unwrap_or(Err(rquickjs::Error::WouldBlock))
    }

    /// What the prelude gets to work with.
    fn native<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        file: &Path,
        base: &Base,
    ) -> rquickjs::Result<Object<'js>> {
        let native = Object::new(ctx.clone())?;
        let env = Object::new(ctx.clone())?;
        for (name, value) in &base.env {
            env.set(&**name, &**value)?;
        }
        native.set("env", env)?;
        native.set("cwd", base.cwd.to_string_lossy().into_owned())?;
        native.set("file", file.to_string_lossy().into_owned())?;
        native.set("cpus", self.host.cpus().get())?;
        native.set("platform", if cfg!(target_os = "macos") { "darwin" } else { "linux" })?;
        native.set("arch", if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" })?;
        self.native_functions(ctx, &native)?;
        Ok(native)
    }

    fn native_functions<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        native: &Object<'js>,
    ) -> rquickjs::Result<()> {
        let studio = Rc::clone(self);
        let say = move |text: String| studio.host.say(&text);
        native.set("say", Function::new(ctx.clone(), say)?)?;

        let studio = Rc::clone(self);
        let kind = move |path: String| match studio.host.file_kind(Path::new(&path)) {
            FileKind::Missing => "missing",
            FileKind::Folder => "folder",
            FileKind::File | FileKind::Executable => "file",
        };
        native.set("kind", Function::new(ctx.clone(), kind)?)?;

        let studio = Rc::clone(self);
        let read = text_function(move |ctx, path, _| {
            studio.host.read(Path::new(&path)).map_err(|error| {
                Exception::throw_message(&ctx, &format!("cannot read `{path}`: {error}"))
            })
        });
        native.set("read", Function::new(ctx.clone(), read)?)?;

        let studio = Rc::clone(self);
        let resolve = text_function(move |ctx, base, name| {
            studio
                .resolve(&base, &name.0.unwrap_or_default())
                .map_err(|problem| studio.throw(&ctx, problem))
        });
        native.set("resolve", Function::new(ctx.clone(), resolve)?)?;

        let studio = Rc::clone(self);
        let commonjs = value_function(move |ctx, name| studio.commonjs(&ctx, &name));
        native.set("commonjs", Function::new(ctx.clone(), commonjs)?)
    }

    /// Puts what the engine caught into words, at its place.
    fn explain(&self, file: &Path, error: CaughtError<'_>) -> Problem {
        if let Some(problem) = self.problem.take() {
            return problem;
        }
        let file = file.display();
        let said = |text| Problem::new(format!("`{file}` {text}")).help(OTHER_RUNTIME);
        if self.late.get() {
            // The engine drops the exception that ends it, and with it the place.
            return said(format!("did not finish within {} s", TIME_MAX.as_secs()));
        }
        match error {
            CaughtError::Exception(exception) => self.explain_exception(&exception),
            CaughtError::Value(value) => {
                let text = value.as_string().and_then(|text| text.to_string().ok());
                said(format!("threw `{}`", text.as_deref().unwrap_or(value.type_name())))
            }
            CaughtError::Error(rquickjs::Error::WouldBlock) => {
                said("waits for something that never happens".to_owned())
            }
            CaughtError::Error(error) => engine(&error),
        }
    }

    fn explain_exception(&self, exception: &Exception<'_>) -> Problem {
        let name: String = exception.get("name").unwrap_or_default();
        let message = exception.message().unwrap_or_default();
        let problem = match (&*name, &*message) {
            // The file's own words.
            ("Error", message) => Problem::new(message),
            (_, "out of memory") => {
                let most = MEMORY_MAX_BYTES >> 20;
                Problem::new(format!("the configuration needs more than {most} MiB of memory"))
                    .help(OTHER_RUNTIME)
            }
            (name, message) => Problem::new(format!("{name}: {message}")).help(OTHER_RUNTIME),
        };
        self.place_of(&exception.stack().unwrap_or_default(), problem)
    }

    /// Underlines the innermost place of `stack` that lies in a file of the user.
    fn place_of(&self, stack: &str, problem: Problem) -> Problem {
        let origins = self.origins.borrow();
        for frame in stack.lines() {
            let Some((name, line, column)) = frame_place(frame) else { continue };
            let Some(origin) = origins.get(name) else { continue };
            if let Some(offset) = origin.offset(line, column) {
                return problem.at(&origin.source, origin.source.culprit(offset));
            }
        }
        problem
    }
}

/// Reads the place of a line like `    at load (/srv/bunpilot.config.ts:3:7)`.
fn frame_place(frame: &str) -> Option<(&str, u32, u32)> {
    let place = frame.trim().strip_prefix("at ")?;
    let place = place.rsplit_once('(').map_or(place, |(_, inner)| inner).trim_end_matches(')');
    let (rest, column) = place.rsplit_once(':')?;
    let (name, line) = rest.rsplit_once(':')?;
    Some((name, line.parse().ok()?, column.parse().ok()?))
}

/// Tells the compiler that a closure works in any context of the engine.
fn text_function<F>(function: F) -> F
where
    F: for<'js> Fn(Ctx<'js>, String, rquickjs::function::Opt<String>) -> rquickjs::Result<String>,
{
    function
}

/// As [`text_function`], for closures that return a value of the engine.
fn value_function<F>(function: F) -> F
where
    F: for<'js> Fn(Ctx<'js>, String) -> rquickjs::Result<Value<'js>>,
{
    function
}
