//! How faults are shown, in every format.

use expect_test::{Expect, expect};

use super::{load_in, machine, shown};
use crate::config::{Base, paper::base};

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the calls read better without `&`")]
fn bad(name: &str, text: &str, expected: Expect) {
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
    bad(
        "bunpilot.yaml",
        "apps:\n  - name: a\n   script: b\n",
        expect![[r#"
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

#[test]
fn syntax() {
    bad_ts(
        "export default {\n  apps: [\n    { name: 'a', script: 'b.ts' \n  ],\n};\n",
        expect![[r#"
              x cannot parse this: expected `,` or `}` but found `]`
               ,-[/srv/bunpilot.config.ts:4:3]
             3 |     { name: 'a', script: 'b.ts' 
             4 |   ],
               :   ^
             5 | };
               `----
        "#]],
    );
}

#[test]
fn throws_at_the_original_line() {
    bad_ts(
        "interface Removed { a: string; b: string }

type AlsoRemoved = string;

function port(name: string): number {
  throw new Error(`no port for ${name}`);
}

export default { apps: [{ name: 'a', script: 'a.ts', port: port('a') }] };
",
        expect![[r#"
              x no port for a
               ,-[/srv/bunpilot.config.ts:6:3]
             5 | function port(name: string): number {
             6 |   throw new Error(`no port for ${name}`);
               :   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
             7 | }
               `----
        "#]],
    );
    bad_ts(
        "export default { name: undefinedName }\n",
        expect![[r#"
              x ReferenceError: undefinedName is not defined
               ,-[/srv/bunpilot.config.ts:1:24]
             1 | export default { name: undefinedName }
               :                        ^^^^^^^^^^^^^
               `----
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "throw 'just text';\nexport default {}\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` threw `just text`
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "export default async () => { await 1; process.exit(1) }\n",
        expect![[r#"
              x a configuration must not call `process.exit`
               ,-[/srv/bunpilot.config.ts:1:47]
             1 | export default async () => { await 1; process.exit(1) }
               :                                               ^^^^
               `----
        "#]],
    );
}

#[test]
fn endless() {
    bad_ts(
        "type A = 1;\nlet n: number = 0;\nwhile (true) {\n  n += 1;\n}\nexport default {}\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` did not finish within 2 s
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "setInterval(() => {}, 1);\nexport default new Promise(() => {});\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` did not finish within 2 s
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "export default new Promise(() => {});\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` waits for something that never happens
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "const f = async () => { await 1; for (;;); };\nexport default f();\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` did not finish within 2 s
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
}

#[test]
fn too_much_memory() {
    bad_ts(
        "const a = [];\nfor (;;) a.push(new Array(100_000).fill(1));\nexport default a\n",
        expect![[r#"
              x the configuration needs more than 64 MiB of memory
               ,-[/srv/bunpilot.config.ts:2:36]
             1 | const a = [];
             2 | for (;;) a.push(new Array(100_000).fill(1));
               :                                    ^^^^
             3 | export default a
               `----
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "const f = (n) => f(n + 1) + 1;\nexport default f(0)\n",
        expect![[r#"
              x RangeError: Maximum call stack size exceeded
               ,-[/srv/bunpilot.config.ts:1:24]
             1 | const f = (n) => f(n + 1) + 1;
               :                        ^
             2 | export default f(0)
               `----
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
}

#[test]
fn imports() {
    bad_ts(
        "import chalk from 'chalk';\nexport default { name: chalk, script: 'a.ts' };\n",
        expect![[r#"
              x `chalk` is an npm package, which the built-in engine cannot load
               ,-[/srv/bunpilot.config.ts:1:19]
             1 | import chalk from 'chalk';
               :                   ^^^^^^^
             2 | export default { name: chalk, script: 'a.ts' };
               `----
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "import { createServer } from 'node:http';\nexport default createServer;\n",
        expect![[r#"
              x `node:http` is not built in
               ,-[/srv/bunpilot.config.ts:1:30]
             1 | import { createServer } from 'node:http';
               :                              ^^^^^^^^^^^
             2 | export default createServer;
               `----
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "import { x } from './gone';\nexport default x;\n",
        expect![[r#"
              x cannot find `./gone`
               ,-[/srv/bunpilot.config.ts:1:19]
             1 | import { x } from './gone';
               :                   ^^^^^^^^
             2 | export default x;
               `----
              help: looked for `/srv/gone`
        "#]],
    );
    bad_ts(
        "const { x } = require('./gone');\nmodule.exports = x;\n",
        expect![[r#"
              x cannot find `./gone`
               ,-[/srv/bunpilot.config.ts:1:23]
             1 | const { x } = require('./gone');
               :                       ^^^^^^^^
             2 | module.exports = x;
               `----
              help: looked for `/srv/gone`
        "#]],
    );
    let machine = machine("bunpilot.config.ts", "import x from './other';\nexport default x;\n")
        .with("/srv/other.ts", "export default {{\n");
    expect![[r#"
          x cannot parse this: unexpected token
           ,-[/srv/other.ts:1:17]
         1 | export default {{
           :                 ^
           `----
    "#]]
    .assert_eq(&shown(&load_in(machine, "bunpilot.config.ts", &base()).unwrap_err()));
}

#[test]
fn nothing_to_read() {
    bad_ts(
        "export const apps = [];\n",
        expect![[r#"
              x `/srv/bunpilot.config.ts` exports no configuration
              help: end it with `export default { apps: [ … ] }`
        "#]],
    );
    bad_ts(
        "export default 5;\n",
        expect![[r#"
              x the configuration must be an object, not the number `5`
               ,-[/srv/bunpilot.config.ts:1:16]
             1 | export default 5;
               :                ^
               `----
        "#]],
    );
    bad(
        "bunpilot.json",
        "{}",
        expect![[r#"
              x a configuration needs `apps`, the list of apps to run
               ,-[/srv/bunpilot.json:1:1]
             1 | {}
               : ^^
               `----
              help: e.g. `apps: [{ name: 'api', script: './src/server.ts' }]`
        "#]],
    );
    bad(
        "bunpilot.ini",
        "",
        expect![[r#"
              x `/srv/bunpilot.ini` is no configuration by its name
              help: bunpilot reads .ts, .mts, .js, .mjs, .cjs, .json, .yaml, .yml and .toml
        "#]],
    );
    let rejected = load_in(machine("x", ""), "bunpilot.toml", &base()).unwrap_err();
    expect![[r#"
          x cannot read the configuration `/srv/bunpilot.toml`: entity not found
          help: `bunpilot init` writes one
    "#]]
    .assert_eq(&shown(&rejected));
}
