//! Whether the apps of a configuration can start here: what the configuration room, which checks
//! scripts, interpreters and folders, cannot know.

use super::{
    facts::{App, Daemon, Facts, Why},
    finding::{Finding, Level},
    remedy,
};

const ID: &str = "app";

/// The first port nobody needs a right for, unless somebody changed it.
const UNPRIVILEGED: u64 = 1024;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.apps.iter().flat_map(|app| of(app, facts)).collect()
}

fn of(app: &App, facts: &Facts) -> Vec<Finding> {
    let found = [holder(app, facts), low_port(app, facts), user(app, facts), files(app, facts)];
    let mut found: Vec<_> = found.into_iter().flatten().chain(logs(app)).collect();
    if found.is_empty() {
        found.push(Finding::ok(ID, format!("`{}` can start", app.name)));
    }
    found
}

fn bad(app: &App, what: &str, follows: &str) -> Finding {
    Finding::at(Level::Bad, ID, format!("`{}`: {what}", app.name), follows)
}

fn holder(app: &App, facts: &Facts) -> Option<Finding> {
    let (port, holder) = (app.port?, app.holder.as_ref()?);
    // Its own workers, or sockets that wait for them.
    let is_ours =
        matches!(&facts.daemon, Daemon::Running(it) if it.ports.get(&app.name) == Some(&port));
    if is_ours {
        return None;
    }
    let follows = "it does not start while that runs";
    let finding = bad(app, &format!("port {port} is held by {holder}"), follows);
    Some(finding.fix(["stop that, or choose another `port`"]))
}

fn low_port(app: &App, facts: &Facts) -> Option<Finding> {
    let from = facts.network.unprivileged_from.unwrap_or(UNPRIVILEGED);
    let port = app.port.filter(|port| u64::from(*port) < from)?;
    let system = &facts.system;
    if system.can("NET_BIND_SERVICE") {
        return None;
    }
    let finding = bad(app, &format!("port {port} may not be opened"), "it does not start");
    let name = "net.ipv4.ip_unprivileged_port_start";
    Some(finding.fix(remedy::net_sysctl(system, name, port.into())))
}

fn user(app: &App, facts: &Facts) -> Option<Finding> {
    let (uid, system) = (app.user?, &facts.system);
    if system.can("SETUID") && system.can("SETGID") {
        return None;
    }
    let what = format!("`user` is uid {uid}; that takes CAP_SETUID and CAP_SETGID");
    let fix = "start the daemon as root, or leave `user` out";
    Some(bad(app, &what, "it does not start").fix([fix]))
}

fn files(app: &App, facts: &Facts) -> Option<Finding> {
    let (wanted, hard) = (app.files?, facts.limits.files_hard?);
    if wanted <= hard || facts.system.can("SYS_RESOURCE") {
        return None;
    }
    let what = format!("`limits.nofile` is {wanted}, and nobody here may have more than {hard}");
    let fix = remedy::limit(&facts.system, "nofile", "LimitNOFILE", wanted);
    Some(bad(app, &what, "it does not start").fix(fix))
}

fn logs(app: &App) -> impl Iterator<Item = Finding> {
    app.logs.iter().filter_map(move |(path, trial)| {
        let refusal = trial.as_ref().err()?;
        let what = format!("its log `{}` cannot be written: {}", path.display(), refusal.said);
        let follows = "its workers stand still as soon as the pipe is full";
        let fix = match refusal.why {
            Why::Forbidden => "let the daemon's user write there, or choose another file",
            Why::Unknown | Why::Off | Why::Other => "choose another file",
        };
        Some(bad(app, &what, follows).fix([fix]))
    })
}
