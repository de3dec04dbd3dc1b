//! The command line.

pub mod logs;
