//! What was written: log lines on disk, ends of workers in the database.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::test::{Home, wait_for};

/// `maxFiles` of the apps.
pub(super) const FILES_MAX: u32 = 100;

/// What one `scribe.py` wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) numbers: Vec<u64>,
    /// How many lines it claims to have written, if it was asked to end.
    pub(super) ended: Option<u64>,
}

impl Written {
    /// Each line is there exactly once and in order, up to where it ends.
    #[track_caller]
    pub(super) fn is_unbroken(&self, pid: u32) {
        let broken = (0..).zip(&self.numbers).find(|(index, number)| index != *number);
        assert_eq!(broken, None, "the lines of {pid} are lost, doubled or swapped");
        let count = u64::try_from(self.numbers.len()).unwrap();
        assert!(self.ended.is_none_or(|it| it == count), "of {pid}: {:?} of {count}", self.ended);
    }

    /// And its last line is there too.
    #[track_caller]
    pub(super) fn is_whole(&self, pid: u32) {
        self.is_unbroken(pid);
        assert!(self.ended.is_some(), "the last line of {pid} is lost");
    }
}

/// Everything the workers of an app wrote, by pid.
pub(super) fn lines(home: &Home, app: &str) -> BTreeMap<u32, Written> {
    let mut all = BTreeMap::<u32, Written>::new();
    for file in files(home, app) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let words: Vec<u64> = line.split(' ').filter_map(|it| it.parse().ok()).collect();
            let [pid, number] = words[..] else {
                panic!("{}: a torn line: {line}", file.display())
            };
            let written = all.entry(pid.try_into().unwrap()).or_default();
            if line.contains("end") {
                assert_eq!(written.ended.replace(number), None, "{pid} ended twice");
            } else {
                written.numbers.push(number);
            }
        }
    }
    all
}

/// The app's output files, oldest first.
fn files(home: &Home, app: &str) -> Vec<PathBuf> {
    let current = (0..16).map(|worker| home.log(app, &format!("{app}-{worker}-out.log")));
    let rotated = |it: PathBuf| {
        let with = move |number: u32| PathBuf::from(format!("{}.{number}", it.display()));
        (1..=FILES_MAX).rev().map(with).filter(|it| it.exists())
    };
    current.filter(|it| it.exists()).flat_map(|it| rotated(it.clone()).chain([it])).collect()
}

/// How each worker of an app ended, by pid: its exit code, none after a signal.
pub(super) fn exits(home: &Home, app: &str) -> BTreeMap<u32, Option<i64>> {
    let file = home.root().join("bunpilot.db");
    wait_for("the database", || {
        let database = rusqlite::Connection::open(&file).ok()?;
        let mut rows = database
            .prepare("SELECT pid, exit_code FROM restart_history WHERE app_name = ?1")
            .ok()?;
        let ends = rows.query_map([app], |row| Ok((row.get(0)?, row.get(1)?))).ok()?;
        ends.collect::<Result<_, _>>().ok()
    })
}
