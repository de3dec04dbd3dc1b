//! The command line.

pub mod sdk;
