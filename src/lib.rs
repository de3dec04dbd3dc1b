//! bunpilot's house, from the ground up: each room may use only those above it.

pub mod domain;
pub mod world;

pub mod config;
pub mod control;
pub mod ipc;
pub mod logs;
pub mod metrics;
pub mod supervisor;

pub mod daemon;

pub mod api;
pub mod guard;
pub mod platform;
pub mod store;

pub mod cli;
pub mod sdk;
