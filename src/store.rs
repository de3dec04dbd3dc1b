//! `SQLite`.
