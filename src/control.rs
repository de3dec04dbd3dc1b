//! CLI ⇄ daemon: one JSON value per line over a unix socket.
//!
//! Decides what a line means and how a reply is written; never what is done about it. The
//! original's messages are kept to the letter; what is new is optional: `args.progress` asks for
//! [`wire::Reply::Chunk`]s while a long operation runs, errors carry a `code`.
//!
//! Quiet: bytes in, values out.

pub mod session;
pub mod status;
pub mod wire;
