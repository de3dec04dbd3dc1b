//! `bunpilot init`: writes a configuration that runs as it is.
//!
//! Looks for a script to name in it; where there is none, writes a tiny server beside it. Never
//! overwrites anything.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use crate::config::{Host, NAMES};

/// The file that is written.
const CONFIG: &str = "bunpilot.config.ts";

/// Entry points by custom, best first.
const SCRIPTS: &[&str] = &[
    "src/index.ts",
    "src/server.ts",
    "src/main.ts",
    "src/app.ts",
    "index.ts",
    "server.ts",
    "main.ts",
    "app.ts",
    "src/index.js",
    "src/server.js",
    "index.js",
    "server.js",
    "server.mjs",
    "main.js",
    "app.js",
    "main.py",
    "app.py",
    "server.py",
];

/// The server written where there is no script, for whatever runs it here.
const EXAMPLES: &[Example] = &[
    Example {
        name: "server.mjs",
        runtimes: &["bun", "node", "deno"],
        text: include_str!("init/server.mjs"),
    },
    Example { name: "server.py", runtimes: &["python3"], text: include_str!("init/server.py") },
];

struct Example {
    name: &'static str,
    /// Any of these runs it.
    runtimes: &'static [&'static str],
    text: &'static str,
}

const TEMPLATE: &str = include_str!("init/bunpilot.config.ts");

/// Writes `bunpilot.config.ts` into `folder`, unless there is a configuration already, which is
/// no failure.
///
/// `path` is the caller's `PATH`; what happened is said on `out`.
///
/// # Errors
///
/// If a file cannot be written.
pub fn init(folder: &Path, path: &str, host: &dyn Host, out: &mut dyn Write) -> io::Result<()> {
    let exists = |name: &&&str| host.file_kind(&folder.join(name)).is_file();
    if let Some(name) = NAMES.iter().find(exists) {
        return writeln!(out, "{name} already exists, left as it is");
    }
    let script = match SCRIPTS.iter().find(exists) {
        Some(script) => script,
        None => example(folder, path, host, out)?,
    };
    let name = app_name(folder);
    create(
        folder,
        CONFIG,
        &TEMPLATE.replace("my-app", &name).replace("./server.mjs", &format!("./{script}")),
    )?;
    writeln!(out, "Created {CONFIG}: runs ./{script} as `{name}`\nStart it with `bunpilot start`")
}

/// Writes the server that suits what is installed, and returns its name.
fn example(
    folder: &Path,
    path: &str,
    host: &dyn Host,
    out: &mut dyn Write,
) -> io::Result<&'static str> {
    let runs = |example: &&Example| {
        example.runtimes.iter().any(|runtime| host.find_program(runtime, path).is_some())
    };
    let example = EXAMPLES.iter().find(runs).or(EXAMPLES.first());
    let Some(Example { name, text, .. }) = example else { return Ok("server.mjs") };
    create(folder, name, text)?;
    writeln!(out, "Created {name}: a tiny server to begin with")?;
    Ok(name)
}

/// Writes a new file; an existing one is an error.
fn create(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let file = folder.join(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write `{}`: {error}", file.display()))
    })
}

/// The folder's name, as far as an app may have it.
fn app_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(legal).take(32).collect();
    let name = name.trim_start_matches(['.', '-']).trim_end_matches('-');
    match name {
        "" | "all" => "my-app".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, rc::Rc};

    use super::*;
    use crate::{
        config::{Base, Engine, load},
        platform::host::Machine,
    };

    /// A fresh folder, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("bunpilot-init-{}", std::process::id()));
            let folder = folder.join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn init(&self) -> String {
            let path = std::env::var("PATH").unwrap();
            let mut out = Vec::new();
            init(&self.0, &path, &Machine, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn base(folder: &Folder) -> Base {
        let env = std::env::vars().collect();
        Base { cwd: folder.0.clone(), env, profile: None }
    }

    #[test]
    fn what_is_written_loads() {
        let folder = Folder::new("empty folder");
        let said = folder.init();
        assert!(said.contains("a tiny server") && said.contains("`empty-folder`"), "{said}");
        let host: Rc<dyn Host> = Rc::new(Machine);
        let loaded = load(Path::new(CONFIG), Engine::BuiltIn, &base(&folder), &host).unwrap();
        assert_eq!(loaded.apps.len(), 1);
        assert!(loaded.apps[0].script.is_file());
        assert_eq!(loaded.apps[0].cwd, folder.0);
    }

    #[test]
    fn a_script_that_is_there_is_used() {
        let folder = Folder::new("with-script");
        fs::write(folder.0.join("app.py"), "print(1)").unwrap();
        assert!(folder.init().contains("./app.py"));
        assert!(fs::read_to_string(folder.0.join(CONFIG)).unwrap().contains("'./app.py'"));
        assert!(!folder.0.join("server.mjs").exists());
    }

    #[test]
    fn a_configuration_that_is_there_stays() {
        let folder = Folder::new("taken");
        fs::write(folder.0.join("bunpilot.toml"), "mine").unwrap();
        assert_eq!(folder.init(), "bunpilot.toml already exists, left as it is\n");
        assert!(!folder.0.join(CONFIG).exists());
    }

    #[test]
    fn names_of_folders_become_names_of_apps() {
        for (folder, name) in [
            ("/srv/My App", "My-App"),
            ("/srv/.hidden", "hidden"),
            ("/", "my-app"),
            ("/all", "my-app"),
        ] {
            assert_eq!(app_name(Path::new(folder)), name, "{folder}");
        }
    }
}
