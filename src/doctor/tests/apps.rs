//! Apps of a configuration.

use expect_test::{Expect, expect};

use super::{check, fine, refused};
use crate::doctor::facts::{App, Daemon, Facts, Running, Why};

fn app(name: &str) -> App {
    App { name: name.to_owned(), ..App::default() }
}

fn running(port: u16) -> Daemon {
    Daemon::Running(Running {
        pid: 17,
        version: "0.3.0".into(),
        our_version: "0.3.0",
        same_program: None,
        ports: [("web".to_owned(), port)].into(),
        engines: [].into(),
        warnings: Vec::new(),
    })
}

fn nobody() -> Facts {
    let mut facts = fine();
    facts.system.uid = 1000;
    facts.system.capabilities = vec!["BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE"];
    facts.network.unprivileged_from = Some(80);
    facts
}

#[test]
fn a_port_is_held_by_others_or_by_the_app_itself() {
    let mut facts = fine();
    let holder = Some("`python3` (pid 4)".to_owned());
    facts.apps = vec![App { port: Some(3000), holder, ..app("web") }];
    check(
        &facts,
        &expect![[r#"
        bad app: `web`: port 3000 is held by `python3` (pid 4)
            it does not start while that runs
            > stop that, or choose another `port`
    "#]],
    );
    facts.daemon = running(3001);
    let other = super::judge(&facts);
    assert!(other.iter().any(|it| it.id == "app" && it.level == super::Level::Bad));
    facts.daemon = running(3000);
    check(&facts, &expect![[""]]);
}

#[test]
fn rights_and_limits() {
    #[track_caller]
    fn of(change: impl Fn(&mut App), expected: &Expect) {
        let mut facts = nobody();
        let mut app = app("web");
        change(&mut app);
        facts.apps = vec![app];
        check(&facts, expected);
        facts.system.capabilities.extend(["SETUID", "SETGID", "NET_BIND_SERVICE", "SYS_RESOURCE"]);
        check(&facts, &expect![[""]]);
    }
    of(
        |it| it.port = Some(79),
        &expect![[r#"
        bad app: `web`: port 79 may not be opened
            it does not start
            > `sudo sysctl -w net.ipv4.ip_unprivileged_port_start=79`
            > to keep it: `net.ipv4.ip_unprivileged_port_start = 79` in `/etc/sysctl.d/90-bunpilot.conf`
    "#]],
    );
    of(
        |it| it.user = Some(33),
        &expect![[r#"
            bad app: `web`: `user` is uid 33; that takes CAP_SETUID and CAP_SETGID
                it does not start
                > start the daemon as root, or leave `user` out
        "#]],
    );
    of(
        |it| it.files = Some(1 << 20),
        &expect![[r#"
        bad app: `web`: `limits.nofile` is 1048576, and nobody here may have more than 524288
            it does not start
            > in a systemd unit: `LimitNOFILE=1048576`
            > for logins: `* - nofile 1048576` in `/etc/security/limits.conf`
    "#]],
    );
}

#[test]
fn logs_that_cannot_be_written() {
    let mut facts = nobody();
    facts.apps = vec![
        App { port: Some(80), files: Some(4096), ..app("fine") },
        App {
            logs: vec![
                ("/srv/a.log".into(), Ok(())),
                ("/srv/b.log".into(), refused(Why::Forbidden, "Permission denied")),
                ("/srv/c.log".into(), refused(Why::Other, "Read-only file system")),
            ],
            ..app("c")
        },
    ];
    check(
        &facts,
        &expect![[r#"
            bad app: `c`: its log `/srv/b.log` cannot be written: Permission denied
                its workers stand still as soon as the pipe is full
                > let the daemon's user write there, or choose another file
            bad app: `c`: its log `/srv/c.log` cannot be written: Read-only file system
                its workers stand still as soon as the pipe is full
                > choose another file
        "#]],
    );
}
