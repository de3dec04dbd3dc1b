//! The loop that joins the quiet rooms, and the core that is turned by it.
//!
//! Quiet itself: [`Core`] takes events and time, gives actions. The same lines run in production,
//! on every platform, and in the simulator.

mod answers;
mod apps;
mod blockages;
mod commands;
mod core;
mod jobs;
mod report;
mod restore;
mod scrape;
mod strangers;
mod tidy;
mod voices;

pub use self::{
    core::Core,
    restore::{fate, http_port},
};

use std::io;

use crate::world::{Event, World};

/// Most events taken from the world before timers get their turn.
const EVENTS_PER_TURN: usize = 256;

/// What the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Turn again.
    GoOn,
    /// Everything is stopped and the guard is told: leave.
    Over,
}

/// Turns the wheel once.
///
/// # Errors
///
/// Only when the world itself is broken.
pub fn turn(core: &mut Core, world: &mut impl World, events: &mut Vec<Event>) -> io::Result<Turn> {
    while let Some(action) = core.next_action() {
        world.submit(action);
    }
    if core.is_over() {
        return Ok(Turn::Over);
    }
    events.clear();
    events.reserve(EVENTS_PER_TURN);
    let now = world.wait(core.deadline(), events)?;
    for event in events.drain(..) {
        core.observe(now, &event);
    }
    core.tick(now);
    // A deadline that stays due would spin this loop at full speed.
    debug_assert!(core.deadline().is_none_or(|deadline| now < deadline), "a due deadline spins");
    Ok(Turn::GoOn)
}
