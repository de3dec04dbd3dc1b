//! Who can build for the kernel: rustup's nightly with `rust-src`, or Debian's compiler with its
//! source package. Both need bpf-linker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::shell::{find, root};

/// The linker, and how it is built with Debian's LLVM; `cargo install` needs no more.
pub(crate) const LINKER: &[&str] = &[
    "bpf-linker",
    "--version",
    "=0.13.0",
    "--locked",
    "--no-default-features",
    "--features",
    "llvm-22",
];

/// Compiles the linker fast rather than well: it runs for a second, most of it in LLVM.
pub(crate) const LINKER_PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];

/// Where Debian's LLVM is, for `LLVM_PREFIX`.
pub(crate) const LLVM: &str = "/usr/lib/llvm-22";

/// Debian's packages of what is needed, the LLVM to build the linker with among them.
pub(crate) const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

/// Names a toolchain of rustup to use instead of `nightly`; `system` is the distribution's.
const CHOICE: &str = "BUNPILOT_EBPF_TOOLCHAIN";

/// A compiler, its library's source, and a linker.
pub(super) struct Toolchain {
    kind: Kind,
    /// What `rustc -vV` says.
    version: String,
    /// The library's source, as the compiler names it and where it really lies.
    library: [PathBuf; 2],
    linker: PathBuf,
    linker_version: String,
}

enum Kind {
    Rustup(String),
    System { cargo: PathBuf, rustc: PathBuf },
}

impl Kind {
    fn rustc(&self) -> Command {
        match self {
            Self::Rustup(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "rustc"]);
                command
            }
            Self::System { rustc, .. } => Command::new(rustc),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Rustup(name) => format!("rustup's {name}"),
            Self::System { rustc, .. } => rustc.display().to_string(),
        }
    }

    /// How to get the source of the library.
    fn remedy(&self) -> String {
        match self {
            Self::Rustup(name) => format!("rustup component add rust-src --toolchain {name}"),
            Self::System { .. } => format!("apt-get install {}", PACKAGES[..3].join(" ")),
        }
    }
}

impl Toolchain {
    /// The first that can; else what each of them lacks.
    pub(super) fn find() -> Result<Self, Vec<String>> {
        let mut lacks = Vec::new();
        let linker = linker();
        if linker.is_none() {
            lacks.push(format!(
                "bpf-linker is not on the PATH; on Debian: `apt-get install llvm-22-dev && \
                 LLVM_PREFIX={LLVM} cargo install {}`",
                LINKER.join(" ")
            ));
        }
        for kind in candidates() {
            match (compiler(&kind), &linker) {
                (Ok((version, library)), Some((linker, linker_version))) => {
                    let (linker, linker_version) = (linker.clone(), linker_version.clone());
                    return Ok(Self { kind, version, library, linker, linker_version });
                }
                (Ok(_), None) => return Err(lacks),
                (Err(why), _) => lacks.push(why),
            }
        }
        Err(lacks)
    }

    pub(super) fn name(&self) -> String {
        self.kind.name()
    }

    /// All that the bytes of an object depend on.
    pub(super) fn tools(&self) -> String {
        let line = |start: &str| self.version.lines().find(|it| it.starts_with(start));
        let lines = [line("rustc "), line("LLVM version"), Some(self.linker_version.as_str())];
        lines.into_iter().flatten().flat_map(|line| [line, "\n"]).collect()
    }

    pub(super) fn cargo(&self) -> Command {
        let mut command = match &self.kind {
            Kind::Rustup(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo"]);
                command.env_remove("RUSTC");
                command
            }
            Kind::System { cargo, rustc } => {
                let mut command = Command::new(cargo);
                command.env("RUSTC", rustc);
                command
            }
        };
        // The library and a register of the kernel in assembly need what is not stable.
        command.env("RUSTC_BOOTSTRAP", "1");
        for foreign in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env_remove(foreign);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = self.linker.parent().map(Path::to_owned).into_iter();
        // The folder was found on a path, so it fits one.
        let path = env::join_paths(folders.chain(env::split_paths(&path))).unwrap_or(path);
        command.env("PATH", path);
        command
    }

    /// Flags that name every path outside `ebpf/` the same everywhere.
    pub(super) fn remapped(&self) -> Vec<String> {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        let crates = home.map(|it| (it.join("registry/src"), "/registry"));
        let library = self.library.iter().map(|it| (it.clone(), "/rust/library"));
        let all = crates.into_iter().chain(library);
        all.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).collect()
    }
}

/// Whether any compiler will do, the distribution's among them.
pub(super) fn is_free() -> bool {
    env::var(CHOICE).map_or(true, |it| it == "system")
}

fn candidates() -> Vec<Kind> {
    let system = || Kind::System { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
    match env::var(CHOICE).as_deref() {
        Ok("system") => vec![system()],
        Ok(name) => vec![Kind::Rustup(name.to_owned())],
        Err(_) => vec![Kind::Rustup("nightly".to_owned()), system()],
    }
}

/// What `kind` says of itself, and its library; else what it lacks.
fn compiler(kind: &Kind) -> Result<(String, [PathBuf; 2]), String> {
    let name = kind.name();
    let said = |arguments: &[&str]| answer(kind.rustc().args(arguments));
    let missing = || format!("{name} is not installed; `{}`", kind.remedy());
    let sysroot = said(&["--print", "sysroot"]).ok_or_else(missing)?;
    let version = said(&["-vV"]).ok_or_else(missing)?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
    if !library.join("core/src/lib.rs").exists() {
        return Err(format!("{name} has no source of its library; `{}`", kind.remedy()));
    }
    let real = fs::canonicalize(&library).unwrap_or_else(|_| library.clone());
    Ok((version, [library, real]))
}

/// Where the linker is, and its version.
fn linker() -> Option<(PathBuf, String)> {
    let fetched = root().join("target/tools/bin/bpf-linker");
    let program = if fetched.is_file() { fetched } else { find("bpf-linker")? };
    let version = answer(Command::new(&program).arg("--version"))?;
    Some((program, version))
}

/// What a command says on stdout if it ends well.
pub(super) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
