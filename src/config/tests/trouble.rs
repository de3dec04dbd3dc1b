//! How it is shown that a file cannot be evaluated at all.

use expect_test::{Expect, expect};

use super::{load_in, machine, shown};
use crate::config::paper::base;

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
fn syntax() {
    bad_ts(
        "export default {\n  apps: [\n    { name: 'a', script: 'b.ts' \n  ],\n};\n",
        expect![[r#"
            1 found
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
            1 found
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
            1 found
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
            1 found
              x `/srv/bunpilot.config.ts` threw `just text`
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "export default async () => { await 1; process.exit(1) }\n",
        expect![[r#"
            1 found
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
            1 found
              x `/srv/bunpilot.config.ts` did not finish within 2 s
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "setInterval(() => {}, 1);\nexport default new Promise(() => {});\n",
        expect![[r#"
            1 found
              x `/srv/bunpilot.config.ts` did not finish within 2 s
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "export default new Promise(() => {});\n",
        expect![[r#"
            1 found
              x `/srv/bunpilot.config.ts` waits for something that never happens
              help: `--config-runtime bun` (or `node`) evaluates the file with that program instead
        "#]],
    );
    bad_ts(
        "const f = async () => { await 1; for (;;); };\nexport default f();\n",
        expect![[r#"
            1 found
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
            1 found
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
            1 found
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
            1 found
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
            1 found
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
            1 found
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
            1 found
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
        1 found
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
            1 found
              x `/srv/bunpilot.config.ts` exports no configuration
              help: end it with `export default { apps: [ … ] }`
        "#]],
    );
    bad_ts(
        "export default 5;\n",
        expect![[r#"
            1 found
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
            1 found
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
            1 found
              x `/srv/bunpilot.ini` is no configuration by its name
              help: bunpilot reads .ts, .mts, .js, .mjs, .cjs, .json, .yaml, .yml and .toml
        "#]],
    );
    let rejected = load_in(machine("x", ""), "bunpilot.toml", &base()).unwrap_err();
    expect![[r#"
        1 found
          x cannot read the configuration `/srv/bunpilot.toml`: entity not found
          help: `bunpilot init` writes one
    "#]]
    .assert_eq(&shown(&rejected));
}
