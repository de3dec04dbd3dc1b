//! Plans made in a folder of the test's own.

use std::fs;

use super::*;
use crate::cli::{failure::Verdict, scratch::Scratch};

fn folder() -> Scratch {
    let folder = Scratch::new().unwrap();
    for (name, text) in [
        ("server.sh", "#!/bin/sh\n"),
        (
            "bunpilot.json",
            r#"{"apps": [
            {"name": "a", "script": "server.sh", "port": 4000, "envs": {"prod": {"MODE": "p"}}},
            {"name": "b", "script": "server.sh"}
        ]}"#,
        ),
        ("wrong.json", r#"{"apps": [{"name": "a", "script": "server.sh", "instances": 0}]}"#),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn base(folder: &Scratch, profile: Option<&str>) -> Base {
    let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    Base { cwd: folder.path().to_owned(), env, profile: profile.map(str::to_owned) }
}

fn start(what: &str) -> Start {
    Start { what: Some(what.to_owned()), ..Start::default() }
}

#[test]
fn what_is_started_depends_on_what_is_there() {
    let folder = folder();
    let file = |name: &str| Source::File(name.into());
    let script = |name: &str| Source::Script(name.into());
    for (what, expected) in [
        ("server.sh", script("server.sh")),
        ("./server.sh", script("./server.sh")),
        ("missing.ts", script("missing.ts")),
        ("./api", script("./api")),
        ("bunpilot.json", file("bunpilot.json")),
        ("api", Source::Known("api".into())),
    ] {
        assert_eq!(source(&start(what), folder.path()).unwrap(), expected, "{what}");
    }
    let discovered = source(&Start::default(), folder.path()).unwrap();
    assert_eq!(discovered, Source::File(folder.path().join("bunpilot.json")));
    let empty = Scratch::new().unwrap();
    let failure = source(&Start::default(), empty.path()).unwrap_err();
    assert_eq!(failure.verdict(), Some(Verdict::Usage));
}

#[test]
fn a_script_is_resolved_where_the_caller_is() {
    let folder = folder();
    let args = Start {
        args: vec!["--x".into()],
        env: vec![Env::Set("A".into(), "1".into())],
        instances: NonZeroU16::new(3).map(Instances::Count),
        port: NonZeroU16::new(8080),
        merge_logs: true,
        time: true,
        ..start("server.sh")
    };
    let planned = script_alone(&args, "server.sh".into(), &base(&folder, None)).unwrap();
    assert_eq!((planned.name.as_str(), planned.instances), ("server", Some(3)));
    let config = planned.config.unwrap();
    let at = |pointer: &str| config.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/script"), folder.path().join("server.sh").to_str().unwrap());
    assert_eq!(at("/cwd"), folder.path().to_str().unwrap());
    assert_eq!(at("/args"), serde_json::json!(["--x"]));
    assert_eq!(at("/env"), serde_json::json!({"A": "1", "PATH": "/usr/bin:/bin"}));
    assert_eq!(at("/clustering/enabled"), true);
    assert_eq!((at("/logs/merge"), at("/logs/mode")), (true.into(), "timestamps".into()));
}

#[test]
fn a_script_that_is_missing_is_a_wrong_configuration() {
    let folder = folder();
    let failure = script_alone(&start("no.ts"), "no.ts".into(), &base(&folder, None)).unwrap_err();
    assert_eq!(failure.verdict(), Some(Verdict::Config));
    assert!(failure.to_string().contains("no.ts"), "{failure}");
}

#[test]
fn names_come_from_scripts() {
    for (script, name) in
        [("./src/server.ts", "server"), ("a b.py", "a_b"), ("/x/.hidden", "hidden"), ("run", "run")]
    {
        assert_eq!(name_of(script), name, "{script}");
    }
}

#[track_caller]
fn from(
    folder: &Scratch,
    file: &str,
    args: &Start,
    profile: Option<&str>,
) -> Result<Plan, Failure> {
    from_file(args, Path::new(file), &base(folder, profile))
}

#[test]
fn the_command_line_overrides_a_file() {
    let folder = folder();
    let plan = from(&folder, "bunpilot.json", &Start::default(), Some("prod")).unwrap();
    assert_eq!(plan.apps.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let env = |app: &Planned| app.config.clone().unwrap().pointer("/env/MODE").cloned();
    assert_eq!(env(&plan.apps[0]), Some("p".into()));
    let args = Start {
        name: Some("a".into()),
        instances: NonZeroU16::new(2).map(Instances::Count),
        env: vec![Env::Set("MODE".into(), "q".into())],
        merge_logs: true,
        ..Start::default()
    };
    let plan = from(&folder, "bunpilot.json", &args, Some("prod")).unwrap();
    assert_eq!(plan.apps.len(), 1);
    assert_eq!(plan.apps[0].instances, Some(2));
    assert_eq!(env(&plan.apps[0]), Some("q".into()));
    let logs = plan.apps[0].config.clone().unwrap()["logs"].clone();
    assert_eq!((&logs["merge"], &logs["mode"]), (&true.into(), &"raw".into()));
}

#[test]
fn faults_of_files_and_of_flags_are_told_apart() {
    let folder = folder();
    let verdict = |file: &str, args: &Start| {
        from(&folder, file, args, None).map(|_| ()).unwrap_err().verdict()
    };
    assert_eq!(verdict("wrong.json", &Start::default()), Some(Verdict::Config));
    let nobody = Start { name: Some("c".into()), ..Start::default() };
    assert_eq!(verdict("bunpilot.json", &nobody), Some(Verdict::Config));
    let which = Start { port: NonZeroU16::new(1), ..Start::default() };
    assert_eq!(verdict("bunpilot.json", &which), Some(Verdict::Usage));
    let misplaced = Start { cwd: Some("/".into()), ..Start::default() };
    assert_eq!(verdict("bunpilot.json", &misplaced), Some(Verdict::Usage));
}

#[test]
fn a_known_app_takes_no_flags() {
    assert_eq!(known(&start("api"), "api".into()).unwrap().config, None);
    let failure = known(&Start { port: NonZeroU16::new(1), ..start("api") }, "api".into());
    assert_eq!(failure.unwrap_err().verdict(), Some(Verdict::Usage));
    let profiles = [Env::Profile("a".into()), Env::Profile("b".into())];
    assert_eq!(profile(&profiles).unwrap_err().verdict(), Some(Verdict::Usage));
}
