//! One version of an app's spec, recognisable across the lives of several daemons.

use std::{
    fmt::{self, Write as _},
    num::NonZeroU16,
    sync::Arc,
};

use crate::domain::AppSpec;

/// A spec and its fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) spec: Arc<AppSpec>,
    /// Two versions with the same print differ at most in the number of instances. Only compared
    /// with prints made by the same build; a stranger's matches nothing.
    pub(super) print: u64,
}

impl Version {
    pub(super) fn new(spec: Arc<AppSpec>) -> Self {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        let scaled = AppSpec { instances: NonZeroU16::MIN, ..(*spec).clone() };
        let print = if write!(hash, "{scaled:?}").is_ok() { hash.0 } else { 0 };
        Self { spec, print }
    }

    /// The same version with another number of instances.
    pub(super) fn scaled(&self, instances: NonZeroU16) -> Self {
        let spec = Arc::new(AppSpec { instances, ..(*self.spec).clone() });
        Self { spec, print: self.print }
    }
}

/// FNV-1a: unlike the standard library's hasher it is the same in every build.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
