//! How much of everything there may be.

use super::{
    facts::Facts,
    finding::{Finding, Level},
    house::bytes,
    remedy,
};

/// Descriptors a worker costs daemon or guard at most.
const FILES_A_WORKER: u64 = 5;
/// Descriptors below which not even some hundred workers fit.
const FILES_MIN: u64 = 4096;
/// What we recommend.
const FILES_GOOD: u64 = 65_536;
/// Descriptors a busy server may need.
const FILES_SERVER: u64 = 4096;
/// Processes that should still fit: a few workers with their threads.
const TASKS_MIN: u64 = 256;
/// Memory for pipes below which they are not widened for many workers.
const PIPES_MIN: u64 = 16 << 20;
/// The kernel's own default, in pages.
const PIPE_PAGES: u64 = 16_384;
/// Watchers a user should have.
const WATCHERS: u64 = 512;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![files(facts), tasks(facts), pipes(facts), inotify(facts)]
}

fn files(facts: &Facts) -> Finding {
    let (id, system) = ("nofile", &facts.system);
    let told = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |it| it.to_string());
    let (soft, hard) = (facts.limits.files_soft, facts.limits.files_hard);
    let found = format!("{} for a worker, {} for bunpilot", told(soft), told(hard));
    if let Some(hard) = hard.filter(|it| *it < FILES_MIN) {
        let workers = hard.saturating_sub(64) / FILES_A_WORKER;
        let follows = format!("no more than some {workers} workers in all");
        return Finding::at(Level::Warn, id, found, follows).fix(remedy::limit(
            system,
            id,
            "LimitNOFILE",
            FILES_GOOD,
        ));
    }
    if let Some(soft) = soft.filter(|it| *it < FILES_SERVER) {
        let follows = format!("a worker that has {soft} files and connections open gets no more");
        return Finding::at(Level::Note, id, found, follows)
            .fix([format!("for an app: `limits: {{ nofile: {FILES_GOOD} }}`")]);
    }
    Finding::ok(id, found)
}

fn tasks(facts: &Facts) -> Finding {
    let (id, system, limits) = ("nproc", &facts.system, &facts.limits);
    let own = limits.processes.map(|it| it.saturating_sub(limits.threads));
    let follows = "starting a worker, or a thread in one, fails once they are used up";
    if let Some(left) = own.filter(|it| *it < TASKS_MIN) {
        let found = format!("{left} more processes and threads for this user");
        return Finding::at(Level::Warn, id, found, follows).fix(remedy::limit(
            system,
            id,
            "LimitNPROC",
            FILES_GOOD,
        ));
    }
    if let Some(left) = limits.pids_left.filter(|it| *it < TASKS_MIN) {
        let found = format!("{left} more processes and threads in our cgroup");
        let fix = match system.container.as_deref() {
            Some("kubernetes") => "raise the node's `podPidsLimit`".to_owned(),
            Some(kind) => format!("`{} run --pids-limit 4096 …`", remedy::runner(kind)),
            None => "in a systemd unit: `TasksMax=4096`".to_owned(),
        };
        return Finding::at(Level::Warn, id, found, follows).fix([fix]);
    }
    let left = own.into_iter().chain(limits.pids_left).min();
    let found =
        left.map_or("unlimited".to_owned(), |it| format!("{it} more processes and threads"));
    Finding::ok(id, found)
}

fn pipes(facts: &Facts) -> Finding {
    let id = "pipes";
    match facts.limits.pipes {
        None => Finding::ok(id, "as wide as we like"),
        Some(room) if room >= PIPES_MIN => Finding::ok(id, format!("{} for all", bytes(room))),
        Some(room) => {
            let found = format!("{} for all pipes of this user", bytes(room));
            let follows = "workers that print much wait more often for their logs to be read";
            Finding::at(Level::Note, id, found, follows).fix(remedy::sysctl(
                &facts.system,
                "fs.pipe-user-pages-soft",
                PIPE_PAGES,
            ))
        }
    }
}

fn inotify(facts: &Facts) -> Finding {
    let id = "inotify";
    match &facts.inotify {
        Ok(()) => Finding::ok(id, "files can be watched"),
        Err(refusal) => {
            let follows = "`bunpilot logs -f` does not work";
            Finding::at(Level::Warn, id, &refusal.said, follows).fix(remedy::sysctl(
                &facts.system,
                "fs.inotify.max_user_instances",
                WATCHERS,
            ))
        }
    }
}
