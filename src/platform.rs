//! One cfg chooses how the outside is reached.

pub mod host;
