//! Linux: rings, cgroups and splices.

pub mod logs;
