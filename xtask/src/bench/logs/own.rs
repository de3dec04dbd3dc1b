//! What only bunpilot is asked: what followers cost, and memory under a storm of output.

use std::process::{Child, Stdio};

use super::{
    super::clock,
    SETTLE, between, check, gigabytes,
    load::{Effort, Load},
    logger::{APP, KEEP, Logger},
    rig,
    rig::Rig,
    sheet::{Figure, Sheet},
};
use crate::shell::Failure;

/// How many follow at a time.
const FOLLOWERS: [u16; 4] = [0, 1, 10, 50];

/// Processes that follow the writer until this is dropped.
struct Followers(Vec<Child>);

impl Followers {
    fn new(rig: &Rig, count: u16) -> Result<Self, Failure> {
        let mut all = Self(Vec::new());
        for _ in 0..count {
            let Some(mut follow) = rig.command(&["logs", APP, "-f"]) else { break };
            let child = follow.stderr(Stdio::null()).spawn();
            let program = "bunpilot logs".to_owned();
            all.0.push(child.map_err(|source| Failure::Start { program, source })?);
        }
        Ok(all)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Lets nobody, one and many follow a steady writer: it must not notice.
pub(super) fn followed(logger: &Logger, effort: Effort, sheet: &mut Sheet) -> Result<(), Failure> {
    for count in FOLLOWERS {
        let mut rig = rig(logger, Load::F, effort, KEEP)?;
        let followers = Followers::new(&rig, count)?;
        clock::sleep(SETTLE);
        rig.go()?;
        let (start, before) = (clock::now(), rig.work());
        let reports = rig.written()?;
        let (took, after) = (start.elapsed(), rig.work());
        drop(followers);
        rig.still()?;
        check(logger, &rig, Load::F, effort, 0)?;
        rig.end()?;
        let name = format!("{}, {count} followers", logger.name);
        let mut note = |figure, value| sheet.note(Load::F, &name, figure, value);
        let share = between(before, after).as_secs_f64() / took.as_secs_f64();
        note(Figure::Share, share * 100.0);
        for report in reports {
            let written = gigabytes(Load::F.lines(effort), Load::F.line_bytes());
            note(Figure::Rate, written * 1e3 / report.took.as_secs_f64());
            note(Figure::Longest, report.longest.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

/// Watches the daemon's memory while many write as fast as they can.
pub(super) fn memory(logger: &Logger, effort: Effort, sheet: &mut Sheet) -> Result<(), Failure> {
    let mut rig = rig(logger, Load::M, effort, KEEP)?;
    clock::sleep(SETTLE);
    let before = rig.rss_kib();
    rig.go()?;
    let mut most = before;
    rig.written_while(|| most = most.max(rig.rss_kib()))?;
    rig.still()?;
    most = most.max(rig.rss_kib());
    check(logger, &rig, Load::M, effort, 0)?;
    rig.end()?;
    let growth = f64::from(most.saturating_sub(before)) / 1024.0;
    sheet.note(Load::M, &logger.name, Figure::Growth, growth);
    Ok(())
}
