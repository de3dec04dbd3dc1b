//! What becomes of output: its keys, PM2's words for them, and what is said about both.

use std::path::PathBuf;

use expect_test::expect;

use super::{good, load_in, machine};
use crate::{
    config::{Problem, paper::base},
    domain::{LogFiles, LogMode},
};

#[test]
fn pm2s_logs_become_ours() {
    let logs = |keys: &str| {
        let text = format!("module.exports = {{ apps: [{{ script: 'a.ts', {keys} }}] }}");
        let name = "ecosystem.config.js";
        let loaded = load_in(machine(name, &text), name, &base()).unwrap();
        let warnings = loaded.warnings.iter().map(Problem::line).collect::<Vec<_>>().join("\n");
        (loaded.apps[0].logs.clone(), warnings)
    };
    let nowhere = Some(PathBuf::from("/dev/null"));
    let (merged, warnings) = logs("merge_logs: true, error_file: 'NULL', time: true");
    assert_eq!((merged.files, merged.mode), (LogFiles::Merged, LogMode::Timestamps));
    assert_eq!((merged.out_file, merged.err_file), (None, nowhere));
    assert_eq!(warnings, "");
    let (each, warnings) = logs("combine_logs: false, time: false, log_date_format: ''");
    assert_eq!((each.files, each.mode, warnings.as_str()), (LogFiles::Each, LogMode::Raw, ""));
    let (dated, warnings) = logs("log_date_format: 'YYYY-MM-DD HH:mm Z'");
    assert_eq!(dated.mode, LogMode::Timestamps);
    assert!(warnings.contains("`log_date_format` of PM2 becomes `logs.mode: 'timestamps'`"));
    let (json, warnings) = logs("log_type: 'json', time: true");
    assert_eq!(json.mode, LogMode::Json);
    assert!(warnings.contains("`log_type` of PM2 becomes `logs.mode: 'json'`"), "{warnings}");
}

#[test]
fn what_of_the_logs_does_nothing_is_said() {
    let warnings = |logs: &str| {
        let text = format!(r#"{{ "name": "a", "script": "a.ts", "logs": {logs} }}"#);
        let loaded = good("bunpilot.json", &text);
        loaded.warnings.iter().map(|it| it.message().to_owned()).collect::<Vec<_>>()
    };
    let vain = "`a` writes no logs, so the other keys of `logs` do nothing";
    assert_eq!(warnings(r#"{ "mode": "off", "maxFiles": 3 }"#), [vain]);
    let none =
        "no rotated file of `a` will be kept: each has 10 MiB and all together may have 1 MiB";
    assert_eq!(warnings(r#"{ "maxTotalSize": "1MB" }"#), [none]);
    for fine in [
        r#"{ "mode": "off" }"#,
        r#"{ "outFile": "/var/log/a.log", "errFile": "/var/log/a.log", "merge": true }"#,
        r#"{ "maxTotalSize": "1MB", "compress": "zstd" }"#,
        r#"{ "maxTotalSize": "1MB", "rotateEvery": "daily" }"#,
    ] {
        assert_eq!(warnings(fine), [""; 0], "{fine}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "eight pictures")]
fn wrong_words_and_numbers() {
    super::faults::bad(
        "bunpilot.json",
        r#"{ "name": "a", "script": "a.ts", "logs": {
  "mode": "timestamp",
  "rotateEvery": "dayly",
  "maxAge": "500ms",
  "maxTotalSize": "100",
  "compress": true,
  "onFull": "discard",
  "fsync": "rotate",
  "merged": true
} }
"#,
        expect![[r#"
            8 found
              x `logs.mode` cannot be `timestamp`
               ,-[/srv/bunpilot.json:2:11]
             1 | { "name": "a", "script": "a.ts", "logs": {
             2 |   "mode": "timestamp",
               :           ^^^^^^^^^^^
             3 |   "rotateEvery": "dayly",
               `----
              help: did you mean `timestamps`?

              x `logs.rotateEvery` must be `hourly`, `daily`, or a duration like `12h`, not the text "dayly"
               ,-[/srv/bunpilot.json:3:18]
             2 |   "mode": "timestamp",
             3 |   "rotateEvery": "dayly",
               :                  ^^^^^^^
             4 |   "maxAge": "500ms",
               `----

              x `logs.maxAge` must be from 1 s to 3660 d, not 500 ms
               ,-[/srv/bunpilot.json:4:13]
             3 |   "rotateEvery": "dayly",
             4 |   "maxAge": "500ms",
               :             ^^^^^^^
             5 |   "maxTotalSize": "100",
               `----

              x `logs.maxTotalSize` must be a size: bytes, or a text like `512KB`, `10MB` or `1GiB`, not the
              | text "100"
               ,-[/srv/bunpilot.json:5:19]
             4 |   "maxAge": "500ms",
             5 |   "maxTotalSize": "100",
               :                   ^^^^^
             6 |   "compress": true,
               `----

              x `logs.compress` must be a word, not `true`
               ,-[/srv/bunpilot.json:6:15]
             5 |   "maxTotalSize": "100",
             6 |   "compress": true,
               :               ^^^^
             7 |   "onFull": "discard",
               `----
              help: `bunpilot config schema` lists the words

              x `logs.onFull` cannot be `discard`
               ,-[/srv/bunpilot.json:7:13]
             6 |   "compress": true,
             7 |   "onFull": "discard",
               :             ^^^^^^^^^
             8 |   "fsync": "rotate",
               `----
              help: there is `block`, `evict`, `drop`

              x `logs.fsync` cannot be `rotate`
               ,-[/srv/bunpilot.json:8:12]
             7 |   "onFull": "discard",
             8 |   "fsync": "rotate",
               :            ^^^^^^^^
             9 |   "merged": true
               `----
              help: did you mean `rotated`?

              x unknown key `merged`
                ,-[/srv/bunpilot.json:9:3]
              8 |   "fsync": "rotate",
              9 |   "merged": true
                :   ^^^^^^^^
             10 | } }
                `----
              help: did you mean `merge`?
        "#]],
    );
}
