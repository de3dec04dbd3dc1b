//! Real programs under the real binary, each test in a home of its own.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking"
)]

mod cpu;
mod crowd;
mod defects;
mod deploy;
mod doctor;
mod fallbacks;
mod keeping;
mod log_storm;
mod log_writers;
mod operator;
mod output;
mod quick_start;
mod reader;
mod reload;
mod sharing;
mod survival;
mod test;
mod trees;
