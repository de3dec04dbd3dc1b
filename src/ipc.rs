//! Daemon ⇄ worker: channel, sd_notify, environment.
