//! Fetches the programs the tests run: into `target/tools` where that works, through apt where it
//! must, never globally by npm or pip.
//!
//! A tool that cannot be had is not an error here: it is named with the reason, and the tests that
//! need it decide.

use std::{
    cell::OnceCell,
    ffi::OsString,
    fs,
    os::unix::{self, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    ebpf,
    shell::{Failure, cargo, find, root, run, say},
};

/// Where a tool that is not on the `PATH` comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A Debian package, installed; needs root.
    Apt(&'static str),
    /// A Debian package, only unpacked, and the program's path in it.
    Deb(&'static str, &'static str),
    /// An npm package with a program of the tool's name.
    Npm(&'static str),
    /// A Python package with a program of the tool's name.
    Pip(&'static str),
}

/// Everything the tests and measurements run beside bunpilot itself.
const TOOLS: &[(&str, Source)] = &[
    ("node", Source::Apt("nodejs")),
    ("python3", Source::Apt("python3")),
    ("bun", Source::Npm("bun@1.4.5")),
    ("uvicorn", Source::Pip("uvicorn==0.54.0")),
    ("gunicorn", Source::Pip("gunicorn==27.0.1")),
    ("hypercorn", Source::Pip("hypercorn==0.18.0")),
    ("promtool", Source::Deb("prometheus", "usr/bin/promtool")),
    ("hyperfine", Source::Apt("hyperfine")),
    ("s6-svscan", Source::Apt("s6")),
    ("wrk", Source::Apt("wrk")),
];

/// Python modules the tests import; quick to ask for again.
const MODULES: &[&str] = &["prometheus_client==0.26.0"];

/// What benches compare us with; no test needs it.
const RIVALS: &[(&str, Source)] = &[
    ("pm2", Source::Npm("pm2@7.0.4")),
    ("s6-log", Source::Apt("s6")),
    ("svlogd", Source::Deb("runit", "usr/bin/svlogd")),
    ("multilog", Source::Deb("daemontools", "usr/bin/multilog")),
];

/// The fetched tools: `bin/` holds a link to each, `missing` a line `<tool>\t<reason>` for each
/// that is not to be had.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) folder: PathBuf,
    pub(crate) missing: Vec<(&'static str, String)>,
}

/// Fetches what is missing; quick when nothing is.
pub(crate) fn fetch() -> Result<Tools, Failure> {
    let workshop = Workshop { folder: root().join("target/tools"), apt_lists: OnceCell::new() };
    make_folder(&workshop.bin())?;
    let mut missing = Vec::new();
    for (tool, source) in TOOLS {
        if let Err(error) = workshop.provide(tool, *source) {
            say(format_args!("missing: {tool}: {error}"));
            missing.push((*tool, error.to_string()));
        }
    }
    for module in MODULES {
        if let Err(error) = workshop.pip_install(module) {
            say(format_args!("missing: {module}: {error}"));
            missing.push((*module, error.to_string()));
        }
    }
    let tools = Tools { folder: workshop.folder, missing };
    tools.write_missing()?;
    Ok(tools)
}

/// Fetches one of the [`TOOLS`] or [`RIVALS`] unless it is there; returns where it stands.
pub(crate) fn program(name: &'static str) -> Result<PathBuf, Failure> {
    let workshop = Workshop { folder: root().join("target/tools"), apt_lists: OnceCell::new() };
    make_folder(&workshop.bin())?;
    for (tool, source) in TOOLS.iter().chain(RIVALS).filter(|(tool, _)| *tool == name) {
        workshop.provide(tool, *source)?;
    }
    installed(name)
}

/// Where a program stands that is fetched or on the `PATH`.
pub(crate) fn installed(program: &'static str) -> Result<PathBuf, Failure> {
    let fetched = root().join("target/tools/bin").join(program);
    if fetched.exists() { Ok(fetched) } else { needed(program) }
}

/// Fetches what builds the objects of `ebpf/`, two minutes on two cores: Debian's compiler and
/// LLVM, which only root can, and the linker into `target/tools`.
pub(crate) fn for_ebpf() -> Result<(), Failure> {
    let workshop = Workshop { folder: root().join("target/tools"), apt_lists: OnceCell::new() };
    make_folder(&workshop.folder)?;
    let absent = ebpf::PACKAGES.iter().copied().filter(|it| !is_package(it));
    workshop.apt_install(&absent.collect::<Vec<_>>())?;
    if workshop.bin().join(ebpf::LINKER[0]).exists() || find(ebpf::LINKER[0]).is_some() {
        return Ok(());
    }
    let (folder, root) = (workshop.folder.as_os_str(), "--root".as_ref());
    let mut install = cargo();
    install.args(["install", "--quiet"]).args(ebpf::LINKER).args([root, folder]);
    install.envs(ebpf::LINKER_PROFILE.iter().copied());
    run(install.env("LLVM_PREFIX", ebpf::LLVM))
}

/// Whether a package of Debian is installed.
fn is_package(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    query.output().is_ok_and(|it| it.status.success() && it.stdout == b"installed")
}

impl Tools {
    /// A `PATH` on which the fetched tools come first, the python with our modules among them.
    pub(crate) fn path(&self) -> OsString {
        let own = ["bin", "venv/bin"].map(|it| self.folder.join(it));
        let others = std::env::var_os("PATH").unwrap_or_default();
        let all = own.into_iter().chain(std::env::split_paths(&others));
        // Our folders hold no separator; what was in `PATH` never does.
        std::env::join_paths(all).unwrap_or(others)
    }

    fn write_missing(&self) -> Result<(), Failure> {
        let mut lines = String::new();
        for (tool, why) in &self.missing {
            lines.extend([tool, "\t", why, "\n"]);
        }
        let path = self.folder.join("missing");
        fs::write(&path, lines).map_err(|source| Failure::File { what: "write", path, source })
    }
}

struct Workshop {
    folder: PathBuf,
    /// Set once apt's lists are fresh.
    apt_lists: OnceCell<()>,
}

impl Workshop {
    fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    fn provide(&self, tool: &str, source: Source) -> Result<(), Failure> {
        if self.bin().join(tool).exists() || find(tool).is_some() {
            return Ok(());
        }
        match source {
            Source::Apt(package) => self.apt_install(&[package]),
            Source::Deb(package, path) => self.link(tool, &self.unpack(package)?.join(path)),
            Source::Npm(package) => {
                self.npm_install(package)?;
                self.link(tool, &self.folder.join("npm/node_modules/.bin").join(tool))
            }
            Source::Pip(package) => {
                self.pip_install(package)?;
                self.link(tool, &self.folder.join("venv/bin").join(tool))
            }
        }
    }

    fn npm_install(&self, package: &str) -> Result<(), Failure> {
        let npm = needed("npm")?;
        let folder = self.folder.join("npm");
        make_folder(&folder)?;
        run(Command::new(npm)
            .args(["install", "--no-audit", "--no-fund", "--prefix", ".", package])
            .current_dir(folder))
    }

    fn pip_install(&self, package: &str) -> Result<(), Failure> {
        let venv = self.folder.join("venv");
        if !venv.join("bin/pip").exists() {
            run(Command::new(needed("python3")?).args(["-m", "venv"]).arg(&venv))?;
        }
        run(Command::new(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            package,
        ]))
    }

    fn apt_install(&self, packages: &[&str]) -> Result<(), Failure> {
        if packages.is_empty() {
            return Ok(());
        }
        self.refresh_apt()?;
        run(Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    }

    fn unpack(&self, package: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("deb").join(package);
        make_folder(&folder)?;
        let download = || {
            run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(&folder))
        };
        // lists that are missing or old are the one cause we can mend
        download().or_else(|_| self.refresh_apt().and_then(|()| download()))?;
        let debs = fs::read_dir(&folder).map_err(reading(&folder))?;
        for deb in
            debs.filter_map(Result::ok).filter(|it| it.path().extension() == Some("deb".as_ref()))
        {
            run(Command::new("dpkg").arg("-x").arg(deb.path()).arg(&folder))?;
        }
        Ok(folder)
    }

    fn refresh_apt(&self) -> Result<(), Failure> {
        if self.apt_lists.get().is_none() {
            let apt = needed("apt-get")?;
            if !is_root() {
                return Err(Failure::Forbidden("apt-get"));
            }
            run(Command::new(apt).args(["update", "--quiet"]))?;
            self.apt_lists.get_or_init(|| ());
        }
        Ok(())
    }

    fn link(&self, tool: &str, program: &Path) -> Result<(), Failure> {
        let path = self.bin().join(tool);
        fs::metadata(program).map_err(reading(program))?;
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).map_err(writing(&path))?;
        }
        unix::fs::symlink(program, &path).map_err(writing(&path))
    }
}

fn needed(program: &'static str) -> Result<PathBuf, Failure> {
    find(program).ok_or(Failure::Missing(program))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(writing(path))
}

fn reading(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |source| Failure::File { what: "read", path: path.to_owned(), source }
}

fn writing(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |source| Failure::File { what: "write", path: path.to_owned(), source }
}
