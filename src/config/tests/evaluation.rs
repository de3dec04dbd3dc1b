//! What configuration files may do while they are evaluated.

use std::{path::Path, rc::Rc};

use super::{good, load_in, machine};
use crate::config::{
    Engine, Host, load,
    paper::{Paper, base},
};

/// The name of the first app, which every test here computes in its own way.
#[track_caller]
fn named(name: &str, text: &str, expected: &str) {
    assert_eq!(good(name, text).apps[0].name.as_str(), expected);
}

#[track_caller]
fn ts(text: &str, expected: &str) {
    named("bunpilot.config.ts", text, expected);
}

#[test]
fn types_are_ignored() {
    ts(
        "import type { T } from './nowhere'; import { U } from './nowhere-either';
         enum Name { A = 'by-enum' }
         interface I { name: string }
         const make = <X extends I>(it: X): U => it as unknown as U;
         export default { apps: [make({ name: Name.A, script: 'a.ts' })] } satisfies T;",
        "by-enum",
    );
}

#[test]
fn the_default_may_be_a_function_or_a_promise() {
    ts("export default async () => ({ name: 'fn', script: 'a.ts' })", "fn");
    ts(
        "export default function ({ mode }) { return { name: mode, script: 'a.ts' } }",
        "production",
    );
    ts("export default Promise.resolve({ name: 'promised', script: 'a.ts' })", "promised");
    ts(
        "await new Promise((r) => setTimeout(r, 3_600_000));
         export default { name: 'late', script: 'a.ts' }",
        "late",
    );
}

#[test]
fn the_helper_is_built_in() {
    ts(
        "import { defineConfig } from 'bunpilot';
         export default defineConfig({ apps: [{ name: 'helped', script: 'a.ts' }] });",
        "helped",
    );
}

#[test]
fn nodes_modules_are_there() {
    ts(
        "import path, { join } from 'node:path'; import os from 'os'; import * as fs from 'node:fs';
         import { fileURLToPath } from 'url';
         const __dirname = path.dirname(fileURLToPath(import.meta.url));
         if (!fs.existsSync(join(__dirname, 'a.ts')) || fs.existsSync('/nope')) throw new Error('fs');
         const here = fileURLToPath(new URL('./a.ts', import.meta.url));
         export default { name: [__dirname, import.meta.dirname, here, os.cpus().length, process.cwd(),
           process.env.HOME, Bun.env.HOME, path.relative('/a/b', '/a/c')].join('-').replaceAll('/', '_'),
           script: here }",
        "_srv-_srv-_srv_a.ts-6-_srv-_home_me-_home_me-.._c",
    );
}

#[test]
fn a_missing_file_fails_as_in_node() {
    ts(
        "import { readFileSync } from 'node:fs';
         let name = 'none'; try { readFileSync('./nope') } catch (e) { name = e.code }
         export default { name, script: 'a.ts' }",
        "ENOENT",
    );
}

#[test]
fn other_files_are_imported() {
    let text = "import { name } from './shared/names'; import pkg from './package.json' with { type: 'json' };
        import old, { tail } from './old.cjs'; const { late } = await import('./late.js');
        export default { name: [name, pkg.version, old.head, tail, late, __dirname.length].join('-'), script: 'a.ts' }";
    let machine = machine("bunpilot.config.ts", text)
        .with("/srv/shared/names.ts", "export const name: string = 'ts'")
        .with("/srv/package.json", r#"{ "version": "1.2" }"#)
        .with("/srv/old.cjs", "const { p } = require('./p'); module.exports = { head: p, tail: require('./package.json').version }")
        .with("/srv/p.js", "exports.p = require('path').basename(__filename)")
        .with("/srv/late.ts", "export const late = 'late' as const");
    let loaded = load_in(machine, "bunpilot.config.ts", &base()).unwrap();
    assert_eq!(loaded.apps[0].name.as_str(), "ts-1.2-p.js-1.2-late-4");
}

#[test]
fn commonjs_may_be_required_anywhere() {
    named(
        "bunpilot.config.js",
        "const os = require('node:os'); module.exports = { name: 'cjs-' + os.availableParallelism(), script: 'a.ts' }",
        "cjs-6",
    );
    named(
        "bunpilot.config.mjs",
        "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);
         export default { name: require('path').extname('x.y'), script: 'a.ts' }.name === '.y' && { name: 'ok', script: 'a.ts' }",
        "ok",
    );
}

#[test]
fn another_program_may_evaluate() {
    let loaded = |printed| {
        let machine = machine("bunpilot.config.ts", "import 'chalk'; export default {}");
        let host: Rc<dyn Host> = Rc::new(machine.printing(printed));
        load(Path::new("bunpilot.config.ts"), Engine::Bun, &base(), &host)
    };
    let said = "noise\nbunpilot:config:{\"name\":\"npm\",\"script\":\"a.ts\"}\n";
    assert_eq!(loaded(said).unwrap().apps[0].name.as_str(), "npm");
    for (printed, why) in [("", "`bun` could not evaluate"), ("bunpilot:config:nope", "no JSON")] {
        let problem = loaded(printed).unwrap_err().to_string();
        assert!(problem.contains(why), "{problem}");
    }
}

#[test]
fn what_is_printed_is_shown() {
    let paper = Rc::new(machine(
        "bunpilot.config.ts",
        "console.log('hello', { a: 1 }); export default { name: 'x', script: 'a.ts' }",
    ));
    let host: Rc<dyn Host> = Rc::<Paper>::clone(&paper);
    let file = Path::new("bunpilot.config.ts");
    load(file, Engine::BuiltIn, &base(), &host).unwrap();
    assert_eq!(*paper.said.borrow(), [r#"hello {"a":1}"#]);
}
