//! How faults are shown, in every format.

use expect_test::{Expect, expect};

use super::{load_in, machine, shown};
use crate::config::{Base, paper::base};

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the calls read better without `&`")]
pub(super) fn bad(name: &str, text: &str, expected: Expect) {
    let rejected = load_in(machine(name, text), name, &base()).unwrap_err();
    expected.assert_eq(&shown(&rejected));
}

#[track_caller]
fn bad_ts(text: &str, expected: Expect) {
    bad("bunpilot.config.ts", text, expected);
}

#[test]
fn typescript_shows_all_at_once() {
    bad_ts(
        "const common = { readyTimeout: 10, shutdownSignal: 'SIGTREM' };

const config: Missing = {
  apps: [
    {
      ...common,
      name: 'api',
      script: './gone.ts',
      healthCheck: { intervall: 10_000 },
      port: 'http',
    },
    { name: 'worker', script: './a.ts', instances: 0, clustering: { strategy: 'reuseport' } },
  ],
};

export default config satisfies Missing;
",
        expect![[r#"
            7 found
              x `readyTimeout` must be from 1 s to 5 min, not 10 ms
               ,-[/srv/bunpilot.config.ts:1:32]
             1 | const common = { readyTimeout: 10, shutdownSignal: 'SIGTREM' };
               :                                ^^
             2 | 
               `----

              x `SIGTREM` is no signal; write a name as in `SIGUSR1` or `HUP`, or a number from 1 to 64
               ,-[/srv/bunpilot.config.ts:1:52]
             1 | const common = { readyTimeout: 10, shutdownSignal: 'SIGTREM' };
               :                                                    ^^^^^^^^^
             2 | 
               `----

              x `script` does not exist: `/srv/gone.ts`
               ,-[/srv/bunpilot.config.ts:8:15]
             7 |       name: 'api',
             8 |       script: './gone.ts',
               :               ^^^^^^^^^^^
             9 |       healthCheck: { intervall: 10_000 },
               `----
              help: `./gone.ts` was looked for in `cwd`, which is `/srv`

              x unknown key `intervall`
                ,-[/srv/bunpilot.config.ts:9:22]
              8 |       script: './gone.ts',
              9 |       healthCheck: { intervall: 10_000 },
                :                      ^^^^^^^^^
             10 |       port: 'http',
                `----
              help: did you mean `interval`?

              x `port` must be a whole number, not the text "http"
                ,-[/srv/bunpilot.config.ts:10:13]
              9 |       healthCheck: { intervall: 10_000 },
             10 |       port: 'http',
                :             ^^^^^^
             11 |     },
                `----

              x `instances` must be from 1 to 65535, not 0
                ,-[/srv/bunpilot.config.ts:12:52]
             11 |     },
             12 |     { name: 'worker', script: './a.ts', instances: 0, clustering: { strategy: 'reuseport' } },
                :                                                    ^
             13 |   ],
                `----

              x `clustering.strategy` cannot be `reuseport`
                ,-[/srv/bunpilot.config.ts:12:79]
             11 |     },
             12 |     { name: 'worker', script: './a.ts', instances: 0, clustering: { strategy: 'reuseport' } },
                :                                                                               ^^^^^^^^^^^
             13 |   ],
                `----
              help: did you mean `reusePort`?
        "#]],
    );
}

#[test]
fn typescript_is_seen_through() {
    bad_ts(
        "import { defineConfig } from 'bunpilot';
export default defineConfig(async () => {
  const local = 1;
  return { apps: [{ name: 'a', script: 'a.ts', env: { PORT: 3000 } }] };
});
",
        expect![[r#"
            1 found
              x `env.PORT` must be a string, not the number `3000`
               ,-[/srv/bunpilot.config.ts:4:61]
             3 |   const local = 1;
             4 |   return { apps: [{ name: 'a', script: 'a.ts', env: { PORT: 3000 } }] };
               :                                                             ^^^^
             5 | });
               `----
              help: put it in quotes
        "#]],
    );
    bad_ts(
        "export default function () {
  return { name: 'a', script: 'a.ts', cwd: process.env.NOWHERE ?? '/nowhere' } as any;
}
",
        expect![[r#"
            2 found
              x `script` does not exist: `/nowhere/a.ts`
               ,-[/srv/bunpilot.config.ts:2:31]
             1 | export default function () {
             2 |   return { name: 'a', script: 'a.ts', cwd: process.env.NOWHERE ?? '/nowhere' } as any;
               :                               ^^^^^^
             3 | }
               `----
              help: `a.ts` was looked for in `cwd`, which is `/nowhere`

              x `cwd` is no folder: `/nowhere`
               ,-[/srv/bunpilot.config.ts:2:44]
             1 | export default function () {
             2 |   return { name: 'a', script: 'a.ts', cwd: process.env.NOWHERE ?? '/nowhere' } as any;
               :                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
             3 | }
               `----
        "#]],
    );
}

#[test]
fn json() {
    bad(
        "bunpilot.json",
        r#"{
  "apps": [
    { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
    { "name": "a", "script": 5, "args": ["x", 1] },
    "b"
  ],
  "deamon": {}
}
"#,
        expect![[r#"
            7 found
              x unknown key `killTimout`
               ,-[/srv/bunpilot.json:3:38]
             2 |   "apps": [
             3 |     { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
               :                                      ^^^^^^^^^^^^
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
               `----
              help: did you mean `killTimeout`?

              x `port` must be from 1 to 65535, not 70000
               ,-[/srv/bunpilot.json:3:66]
             2 |   "apps": [
             3 |     { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
               :                                                                  ^^^^^
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
               `----

              x another app is called `a`, too
               ,-[/srv/bunpilot.json:4:15]
             3 |     { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
               :               ^^^
             5 |     "b"
               `----

              x `script` must be a string, not the number `5`
               ,-[/srv/bunpilot.json:4:30]
             3 |     { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
               :                              ^
             5 |     "b"
               `----
              help: put it in quotes

              x `args[1]` must be a string, not the number `1`
               ,-[/srv/bunpilot.json:4:47]
             3 |     { "name": "a", "script": "a.ts", "killTimout": 5000, "port": 70000 },
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
               :                                               ^
             5 |     "b"
               `----
              help: put it in quotes

              x an app must be an object, not the text "b"
               ,-[/srv/bunpilot.json:5:5]
             4 |     { "name": "a", "script": 5, "args": ["x", 1] },
             5 |     "b"
               :     ^^^
             6 |   ],
               `----

              x unknown key `deamon`
               ,-[/srv/bunpilot.json:7:3]
             6 |   ],
             7 |   "deamon": {}
               :   ^^^^^^^^
             8 | }
               `----
              help: did you mean `daemon`?
        "#]],
    );
}

#[test]
fn json_syntax() {
    bad(
        "bunpilot.json",
        "{\n  \"apps\": [\n    { \"name\": \"a\" \"script\": \"x\" }\n  ]\n}\n",
        expect![[r#"
            1 found
              x cannot parse this: expected `,` or `}`
               ,-[/srv/bunpilot.json:3:19]
             2 |   "apps": [
             3 |     { "name": "a" "script": "x" }
               :                   ^
             4 |   ]
               `----
        "#]],
    );
}

#[test]
fn yaml() {
    bad(
        "bunpilot.yaml",
        "apps:
  - name: 5
    script: a.ts
    healthCheck:
      intervall: 10s
    killTimeout: 1h
    env:
      DEBUG: yes
      PORT: 3000
",
        expect![[r#"
            4 found
              x `name` must be a string, not the number `5`
               ,-[/srv/bunpilot.yaml:2:11]
             1 | apps:
             2 |   - name: 5
               :           ^
             3 |     script: a.ts
               `----
              help: put it in quotes

              x unknown key `intervall`
               ,-[/srv/bunpilot.yaml:5:7]
             4 |     healthCheck:
             5 |       intervall: 10s
               :       ^^^^^^^^^
             6 |     killTimeout: 1h
               `----
              help: did you mean `interval`?

              x `killTimeout` must be from 1 s to 2 min, not 1 h
               ,-[/srv/bunpilot.yaml:6:18]
             5 |       intervall: 10s
             6 |     killTimeout: 1h
               :                  ^^
             7 |     env:
               `----

              x `env.PORT` must be a string, not the number `3000`
               ,-[/srv/bunpilot.yaml:9:13]
             8 |       DEBUG: yes
             9 |       PORT: 3000
               :             ^^^^
               `----
              help: put it in quotes
        "#]],
    );
}

#[test]
fn yaml_syntax() {
    bad(
        "bunpilot.yaml",
        "apps:\n  - name: a\n   script: b\n",
        expect![[r#"
            1 found
              x cannot parse this: while parsing a block collection, did not find expected '-' indicator
               ,-[/srv/bunpilot.yaml:3:4]
             2 |   - name: a
             3 |    script: b
               :    ^^^^^^
               `----
        "#]],
    );
    bad(
        "bunpilot.yaml",
        "apps: []\n",
        expect![[r#"
            1 found
              x `apps` is empty
               ,-[/srv/bunpilot.yaml:1:7]
             1 | apps: []
               :       ^
               `----
              help: e.g. `apps: [{ name: 'api', script: './src/server.ts' }]`
        "#]],
    );
}

#[test]
fn toml() {
    bad(
        "bunpilot.toml",
        "[[apps]]
name = 'a'
script = 'a.ts'
prot = 80
metrics.collectInterval = '1ms'
logs = { maxSize = '10 parsecs' }
",
        expect![[r#"
            3 found
              x unknown key `prot`
               ,-[/srv/bunpilot.toml:4:1]
             3 | script = 'a.ts'
             4 | prot = 80
               : ^^^^
             5 | metrics.collectInterval = '1ms'
               `----
              help: did you mean `port`?

              x `metrics.collectInterval` must be from 1 s to 5 min, not 1 ms
               ,-[/srv/bunpilot.toml:5:27]
             4 | prot = 80
             5 | metrics.collectInterval = '1ms'
               :                           ^^^^^
             6 | logs = { maxSize = '10 parsecs' }
               `----

              x `logs.maxSize` must be a size: bytes, or a text like `512KB`, `10MB` or `1GiB`, not the text
              | "10 parsecs"
               ,-[/srv/bunpilot.toml:6:20]
             5 | metrics.collectInterval = '1ms'
             6 | logs = { maxSize = '10 parsecs' }
               :                    ^^^^^^^^^^^^
               `----
        "#]],
    );
    bad(
        "bunpilot.toml",
        "[[apps]]\nname = 'a\n",
        expect![[r#"
            1 found
              x cannot parse this: invalid literal string, expected `'`
               ,-[/srv/bunpilot.toml:2:10]
             1 | [[apps]]
             2 | name = 'a
               :          ^
               `----
        "#]],
    );
}

#[test]
fn keys_from_elsewhere_are_shown_where_they_stand() {
    bad(
        "ecosystem.config.js",
        "module.exports = {
  apps: [{
    script: './a.ts',
    kill_timeout: 5,
    env_production: { A: [] },
    watchh: true,
  }],
};
",
        expect![[r#"
            3 found
              x `killTimeout` must be from 1 s to 2 min, not 5 ms
               ,-[/srv/ecosystem.config.js:4:19]
             3 |     script: './a.ts',
             4 |     kill_timeout: 5,
               :                   ^
             5 |     env_production: { A: [] },
               `----

              x `envs.production.A` must be a string, not a list
               ,-[/srv/ecosystem.config.js:5:26]
             4 |     kill_timeout: 5,
             5 |     env_production: { A: [] },
               :                          ^^
             6 |     watchh: true,
               `----

              x unknown key `watchh`
               ,-[/srv/ecosystem.config.js:6:5]
             5 |     env_production: { A: [] },
             6 |     watchh: true,
               :     ^^^^^^
             7 |   }],
               `----
              help: there is `name`, `script`, `args`, `interpreter`, `cwd`, `instances`, `port`, `env`,
                    `envs`, `inheritEnv`, `user`, `limits`, `maxRestarts`, `maxRestartWindow`, `minUptime`,
                    `backoff`, `shutdownSignal`, `killTimeout`, `readyTimeout`, `healthCheck`, `logs`,
                    `metrics`, `clustering`
        "#]],
    );
}

#[test]
fn a_profile_nobody_has() {
    let text = "name: a\nscript: a.ts\nenvs:\n  staging: { A: '1' }\n";
    let base = Base { profile: Some("stage".to_owned()), ..base() };
    let rejected = load_in(machine("bunpilot.yml", text), "bunpilot.yml", &base).unwrap_err();
    expect![[r#"
        1 found
          x no app has a profile `stage`
           ,-[/srv/bunpilot.yml:1:1]
         1 | name: a
           : ^^^^
         2 | script: a.ts
           `----
          help: there is `staging`
    "#]]
    .assert_eq(&shown(&rejected));
}
