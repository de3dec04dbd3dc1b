//! What the kernel does for us where it lets us: programs of `ebpf/`, loaded and kept.
//!
//! Everything here accelerates something that works without. What cannot be loaded is said once,
//! with a [`Refusal`] that names the reason, and served by the next rung.

pub mod books;
mod btf;
pub mod gate;
mod kept;
mod load;

use std::{env, io};

use rustix::thread::{CapabilitySet, capabilities};

pub use self::load::Refusal;

/// Environment variable that keeps us out of the kernel if it is `off`.
const CHOICE: &str = "BUNPILOT_BPF";

/// Whether programs may be loaded: wanted, and not bound to be refused.
///
/// # Errors
///
/// [`Refusal::Off`] and [`Refusal::Forbidden`].
fn allowed() -> Result<(), Refusal> {
    if env::var(CHOICE).is_ok_and(|it| it == "off") {
        return Err(Refusal::Off { variable: CHOICE, value: "off" });
    }
    if can(CapabilitySet::BPF | CapabilitySet::PERFMON)? || can(CapabilitySet::SYS_ADMIN)? {
        return Ok(());
    }
    Err(Refusal::Forbidden)
}

/// Loads and attaches what accounts CPU time, and takes it away again.
///
/// # Errors
///
/// As a daemon would be refused.
pub fn rehearse() -> Result<(), Refusal> {
    load::cpu().map(drop)
}

/// Whether we have all of `rights`.
fn can(rights: CapabilitySet) -> Result<bool, Refusal> {
    let have = capabilities(None).map_err(|error| Refusal::kernel("ask for rights", error))?;
    Ok(have.effective.contains(rights))
}

impl Refusal {
    /// What the kernel said to `what`.
    fn kernel(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::Forbidden;
        }
        Self::Kernel { what: what.into(), source }
    }
}

/// Says why a test of programs in the kernel does not run here; where it must, it fails.
#[cfg(test)]
fn skip(why: &str) {
    use std::io::Write as _;

    let strict = env::var_os("BUNPILOT_REQUIRE").is_some_and(|it| it == "all");
    assert!(!strict, "may not be skipped: {why}");
    writeln!(io::stderr(), "skipped: {why}").unwrap();
}
