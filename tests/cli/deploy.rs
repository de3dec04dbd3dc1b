//! Bad deploys: the old version goes on as if nobody had tried.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::test::{
    Clients, Home, Load, Row, Stopwatch, Tool, app, free_port, inherited, kill, merge, need,
    wait_for,
};

/// Enough to notice; more would starve the new version, which is to fail for reasons of its own.
const CLIENTS: usize = 2;

/// `readyTimeout`: the good version makes it within that on a busy machine.
const READY: Duration = Duration::from_secs(4);

/// A version that should never have left its author's desk.
#[derive(Clone, Copy, Debug)]
enum Bad {
    NeverReady,
    CrashesAtBoot,
    AnswersItsProbeWith500,
    Missing,
}

const ALL: [Bad; 4] =
    [Bad::NeverReady, Bad::CrashesAtBoot, Bad::AnswersItsProbeWith500, Bad::Missing];

impl Bad {
    fn text(self) -> Option<String> {
        match self {
            Self::NeverReady => Some("import time\ntime.sleep(3600)\n".to_owned()),
            Self::CrashesAtBoot => Some("raise SystemExit(3)\n".to_owned()),
            Self::AnswersItsProbeWith500 => Some(good().replace("setting(\"HEALTH\", 200)", "500")),
            Self::Missing => None,
        }
    }

    /// A word of the reason.
    fn reason(self) -> &'static str {
        match self {
            Self::NeverReady => "did not become ready within 4s",
            Self::CrashesAtBoot => "exited with code 3",
            Self::AnswersItsProbeWith500 => "500",
            Self::Missing => "v2.py",
        }
    }
}

/// How the bad version reaches the app.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `reload web --config new.json`, which names another script.
    NewConfig,
    /// `reload web`, after the script was replaced.
    SameConfig,
}

fn good() -> String {
    fs::read_to_string(app("server.py")).unwrap()
}

/// A home that serves the good version, from a script of its own.
struct Site {
    home: Home,
    port: u16,
    instances: u16,
    script: PathBuf,
}

impl Site {
    #[track_caller]
    fn new(instances: u16) -> Self {
        let (home, port) = (Home::new(), free_port());
        let script = home.write("v1.py", &good());
        let site = Self { home, port, instances, script };
        site.home.start([site.config(json!({}))]).succeeded();
        site
    }

    fn config(&self, more: Value) -> Value {
        let mut config = inherited(
            "server.py",
            self.port,
            self.instances,
            json!({
                "script": self.script,
                "readyTimeout": READY.as_millis(),
                "healthCheck": { "interval": 2000, "timeout": 1000, "unhealthyThreshold": 3 },
            }),
        );
        merge(&mut config, more);
        config
    }

    #[track_caller]
    fn online(&self) -> Vec<Row> {
        self.home.online("web", self.instances.into())
    }

    /// What the daemon holds the app's configuration to be.
    #[track_caller]
    fn spec(&self) -> Value {
        let spec =
            self.home.control().ask("status", &json!({ "name": "web" }))["data"]["config"].clone();
        assert!(spec.is_object(), "{spec}");
        spec
    }

    /// The command that deploys `bad`.
    fn deploy(&self, bad: Bad, way: Way) -> std::process::Command {
        let target = match way {
            Way::NewConfig => self.home.path("v2.py"),
            Way::SameConfig => self.script.clone(),
        };
        match bad.text() {
            Some(text) => fs::write(&target, text).unwrap(),
            None => drop(fs::remove_file(&target)),
        }
        match way {
            Way::SameConfig => self.home.command(["reload", "web"]),
            Way::NewConfig => {
                let new = json!({ "apps": [self.config(json!({ "script": target }))] });
                self.home.write("new.json", &new.to_string());
                self.home.command(["reload", "web", "--config", "new.json"])
            }
        }
    }

    /// Deploys `bad` under load and asserts that nothing came of it.
    #[track_caller]
    fn shrugs_off(&self, bad: Bad, way: Way) {
        let (rows, spec) = (self.online(), self.spec());
        let load = Load::start(self.port, Clients::Fresh, CLIENTS);
        load.flows(50);
        let command = self.deploy(bad, way);
        let clock = Stopwatch::start();
        let output = self.home.finish(command);
        let took = clock.elapsed();
        load.flows(50);
        let tally = load.finish();
        let told = format!("{bad:?} by {way:?}, {} instances, after {took:?}", self.instances);
        assert!(tally.failed.is_empty(), "{told}: {tally:?}");
        assert!(took <= READY + Duration::from_secs(1), "{told}: {output:?}");
        let word = if matches!(way, Way::SameConfig) && matches!(bad, Bad::Missing) {
            "v1.py"
        } else {
            bad.reason()
        };
        let all = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code > 0 && all.contains(word), "{told}: {output:?}");
        fs::write(&self.script, good()).unwrap();
        assert_eq!(self.online(), rows, "{told}");
        assert_eq!(self.spec(), spec, "{told}");
    }

    /// Kills the daemon and asserts that the next one knows the old version, and starts it.
    #[track_caller]
    fn goes_on_with_the_old_version(&self) {
        let (rows, spec) = (self.online(), self.spec());
        kill(self.home.daemon());
        assert_eq!(self.online(), rows);
        assert_eq!(self.spec(), spec);
        kill(rows[0].pid);
        wait_for("another worker of the old version", || {
            let pids = self.home.pids("v1.py");
            (pids.len() == rows.len() && !pids.contains(&rows[0].pid)).then_some(())
        });
        self.online();
        assert!(self.home.pids("v2.py").is_empty());
    }
}

#[track_caller]
fn bad_versions_change_nothing(instances: u16, way: Way) {
    let site = Site::new(instances);
    for bad in ALL {
        site.shrugs_off(bad, way);
    }
    site.goes_on_with_the_old_version();
    site.shrugs_off(Bad::CrashesAtBoot, way); // under another daemon, which took all this over
}

#[test]
fn a_bad_config_changes_nothing_for_one_worker() {
    need!(Tool::Python);
    bad_versions_change_nothing(1, Way::NewConfig);
}

#[test]
fn a_bad_config_changes_nothing_for_four() {
    need!(Tool::Python);
    bad_versions_change_nothing(4, Way::NewConfig);
}

#[test]
fn a_bad_script_changes_nothing_for_one_worker() {
    need!(Tool::Python);
    bad_versions_change_nothing(1, Way::SameConfig);
}

#[test]
fn a_bad_script_changes_nothing_for_four() {
    need!(Tool::Python);
    bad_versions_change_nothing(4, Way::SameConfig);
}

/// The daemon dies over a deploy whose version is not ready: it is taken back all the same.
#[test]
fn a_deploy_whose_daemon_dies_changes_nothing() {
    need!(Tool::Python);
    let site = Site::new(2);
    let (rows, spec) = (site.online(), site.spec());
    let load = Load::start(site.port, Clients::Fresh, CLIENTS);
    load.flows(50);
    let mut deploy = site.home.spawn(site.deploy(Bad::NeverReady, Way::NewConfig));
    wait_for("a worker of the new version", || site.home.pids("v2.py").pop());
    kill(site.home.daemon());
    let status = wait_for("the deploy to end", || deploy.child.try_wait().unwrap());
    assert!(!status.success(), "{:?}", deploy.so_far());
    wait_for("the new version to be gone", || site.home.pids("v2.py").is_empty().then_some(()));
    load.flows(50);
    load.lost_nothing();
    assert_eq!(site.online(), rows);
    assert_eq!(site.spec(), spec);
    site.goes_on_with_the_old_version();
}

/// The third worker of the new version is the first to fail: those before it are replaced again.
#[test]
fn a_version_that_fails_halfway_is_taken_back() {
    need!(Tool::Python);
    let site = Site::new(4);
    let spec = site.spec();
    let load = Load::start(site.port, Clients::Fresh, CLIENTS);
    load.flows(50);
    let sometimes = "import os\nif os.environ['BUNPILOT_WORKER_ID'] == '2': raise SystemExit(3)\n";
    let script = site.home.write("v2.py", &format!("{sometimes}{}", good()));
    let new = json!({ "apps": [site.config(json!({ "script": script }))] });
    site.home.write("new.json", &new.to_string());
    site.home.run(["reload", "web", "--config", "new.json"]).refused("exited with code 3");
    wait_for("four workers of the old version", || {
        let (old, new) = (site.home.pids("v1.py"), site.home.pids("v2.py"));
        (old.len() == 4 && new.is_empty()).then_some(())
    });
    load.flows(50);
    load.lost_nothing();
    assert_eq!(site.spec(), spec);
    site.goes_on_with_the_old_version();
}
