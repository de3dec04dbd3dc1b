// Run by bun or node with a configuration file as its last argument (src/config/runtime.rs).
import { pathToFileURL } from 'node:url';

// Standard output is ours.
console.log = console.info = console.debug = console.error;

const file = process.argv.at(-1);
const { default: exported } = await import(pathToFileURL(file).href);
let value = await exported;
if (typeof value === 'function') {
  value = await value({ mode: process.env.NODE_ENV ?? 'production', command: 'start' });
}
if (value === undefined) throw new Error(`${file} exports no configuration`);
process.stdout.write(`\nbunpilot:config:${JSON.stringify(value)}\n`);
