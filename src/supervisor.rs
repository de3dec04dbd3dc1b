//! The judgement: when to spawn, signal, restart, reload.
