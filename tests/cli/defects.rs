//! The original's 34 defects, D01 to D34: what it did, and what must hold here.
//!
//! Each is one test named after its number, so that none can come back unseen. The inventory of
//! the original describes most by number and some only in words; D05, D10, D21, D22, D24, D26,
//! D27, D29, D31 and D33 carry one of the latter each. D13 (a second proxied app cannot have port
//! 40001) and D14 (the proxy loses bytes) hold because there is no proxy yet, and none is promised.
//! Tests without a number hold the rest of the inventory's complaints.

mod channel;
mod control;
mod health;
mod lifecycle;
mod logs;
mod names;
mod reload;

use crate::test::{declared, merge};
