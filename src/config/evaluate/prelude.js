// The world a configuration file sees: the parts of node's that configurations use, and no more.
//
// Runs before the file, as one function: `native` is what Rust offers (src/config/evaluate.rs),
// the result is what Rust calls. Nothing here touches the machine except through `native`.
(native) => {
  'use strict';

  const { env, cwd, cpus, platform } = native;

  // --- node:path -----------------------------------------------------------------------------

  const normalize = (path) => {
    const absolute = path.startsWith('/');
    const parts = [];
    for (const part of path.split('/')) {
      if (part === '' || part === '.') continue;
      if (part !== '..') parts.push(part);
      else if (parts.length > 0 && parts.at(-1) !== '..') parts.pop();
      else if (!absolute) parts.push('..');
    }
    return (absolute ? '/' : '') + parts.join('/') || (absolute ? '/' : '.');
  };

  const bare = (path) => path.replace(/(.)\/+$/, '$1');

  const path = {
    sep: '/',
    delimiter: ':',
    normalize,
    isAbsolute: (path) => path.startsWith('/'),
    join: (...parts) => normalize(parts.filter((part) => part !== '').join('/')),
    resolve: (...parts) => {
      let resolved = '';
      for (const part of [cwd, ...parts].reverse()) {
        if (part === '') continue;
        resolved = resolved === '' ? part : `${part}/${resolved}`;
        if (part.startsWith('/')) break;
      }
      return normalize(resolved);
    },
    dirname: (path) => {
      const at = bare(path).lastIndexOf('/');
      if (at < 0) return '.';
      return at === 0 ? '/' : bare(path).slice(0, at);
    },
    basename: (path, suffix = '') => {
      const base = bare(path).split('/').at(-1);
      return suffix !== '' && base !== suffix && base.endsWith(suffix)
        ? base.slice(0, -suffix.length)
        : base;
    },
    extname: (path) => {
      const base = path.split('/').at(-1);
      const at = base.lastIndexOf('.');
      return at > 0 ? base.slice(at) : '';
    },
    relative: (from, to) => {
      const a = path.resolve(from).split('/').filter(Boolean);
      const b = path.resolve(to).split('/').filter(Boolean);
      while (a.length > 0 && b.length > 0 && a[0] === b[0]) {
        a.shift();
        b.shift();
      }
      return [...a.map(() => '..'), ...b].join('/');
    },
    parse: (file) => {
      const ext = path.extname(file);
      return {
        root: file.startsWith('/') ? '/' : '',
        dir: path.dirname(file),
        base: path.basename(file),
        ext,
        name: path.basename(file, ext),
      };
    },
  };
  path.posix = path;

  // --- node:url ------------------------------------------------------------------------------

  class URL {
    constructor(text, base) {
      const whole = /^([a-z][a-z0-9+.-]*:)(?:\/\/([^/?#:]*)(?::(\d+))?)?([^?#]*)(\?[^#]*)?(#.*)?$/i;
      let match = whole.exec(String(text));
      if (match === null && base !== undefined) {
        const { protocol, host, pathname } = new URL(base);
        const folder = String(text).startsWith('/') ? '' : pathname.replace(/[^/]*$/, '');
        match = whole.exec(`${protocol}//${host}${folder}${text}`);
      }
      if (match === null) throw new TypeError(`Invalid URL: ${text}`);
      const [, protocol, hostname = '', port = '', pathname, search = '', hash = ''] = match;
      const trailing = /\/\.{0,2}$/.test(pathname) && pathname !== '/' ? '/' : '';
      Object.assign(this, { protocol, hostname, port, search, hash });
      this.host = port === '' ? hostname : `${hostname}:${port}`;
      this.origin = `${protocol}//${this.host}`;
      this.pathname = bare(normalize(pathname || '/')) + (normalize(pathname) === '/' ? '' : trailing);
      this.href = this.origin + this.pathname + search + hash;
    }
    toString() {
      return this.href;
    }
    toJSON() {
      return this.href;
    }
  }

  const url = {
    URL,
    fileURLToPath: (url) => decodeURIComponent(new URL(url).pathname),
    pathToFileURL: (file) => new URL(`file://${encodeURI(path.resolve(file))}`),
  };

  // --- node:fs -------------------------------------------------------------------------------

  const existing = (file, call) => {
    const name = String(file.href === undefined ? file : url.fileURLToPath(file));
    const full = path.resolve(name);
    const kind = native.kind(full);
    if (kind === 'missing' && call !== undefined) {
      const message = `ENOENT: no such file or directory, ${call} '${name}'`;
      throw Object.assign(new Error(message), { code: 'ENOENT', path: name });
    }
    return { full, kind };
  };

  const readFileSync = (file) => native.read(existing(file, 'open').full);
  const statSync = (file) => {
    const { kind } = existing(file, 'stat');
    return { isFile: () => kind === 'file', isDirectory: () => kind === 'folder' };
  };
  const fs = {
    readFileSync,
    statSync,
    existsSync: (file) => existing(file).kind !== 'missing',
    promises: {
      readFile: async (file) => readFileSync(file),
      stat: async (file) => statSync(file),
      access: async (file) => void existing(file, 'access'),
    },
  };

  // --- node:os, node:process -------------------------------------------------------------------

  const meminfo = (key) => {
    if (native.kind('/proc/meminfo') === 'missing') return 0;
    const match = new RegExp(`${key}:\\s+(\\d+)`).exec(native.read('/proc/meminfo'));
    return match === null ? 0 : Number(match[1]) * 1024;
  };

  const os = {
    EOL: '\n',
    cpus: () => Array.from({ length: cpus }, () => ({ model: '', speed: 0, times: {} })),
    availableParallelism: () => cpus,
    platform: () => platform,
    type: () => (platform === 'darwin' ? 'Darwin' : 'Linux'),
    arch: () => native.arch,
    homedir: () => env.HOME ?? '/',
    tmpdir: () => env.TMPDIR ?? '/tmp',
    hostname: () => {
      const file = '/proc/sys/kernel/hostname';
      return native.kind(file) === 'missing' ? (env.HOSTNAME ?? 'localhost') : native.read(file).trim();
    },
    totalmem: () => meminfo('MemTotal'),
    freemem: () => meminfo('MemAvailable'),
    userInfo: () => ({ username: env.USER ?? '', homedir: env.HOME ?? '/' }),
  };

  const process = {
    env,
    platform,
    arch: native.arch,
    argv: ['bunpilot', native.file],
    version: '',
    versions: {},
    cwd: () => cwd,
    exit: () => {
      throw new Error('a configuration must not call `process.exit`');
    },
  };

  // --- modules -------------------------------------------------------------------------------

  const createRequire = (base) => {
    const file = String(base).startsWith('file://') ? url.fileURLToPath(base) : String(base);
    return requireFrom(file);
  };

  const builtin = { path, os, fs, url, process, module: { createRequire } };
  builtin['fs/promises'] = fs.promises;
  builtin['path/posix'] = path;
  builtin.bunpilot = { defineConfig: (config) => config };

  const loaded = new Map();

  // CommonJS: `native.commonjs` compiles a file to a function, or returns the value of a JSON file.
  const load = (file) => {
    if (loaded.has(file)) return loaded.get(file).exports;
    const module = { exports: {}, filename: file, id: file };
    loaded.set(file, module);
    const code = native.commonjs(file);
    if (typeof code !== 'function') module.exports = JSON.parse(code);
    else code.call(module.exports, module, module.exports, requireFrom(file), file, path.dirname(file));
    return module.exports;
  };

  const requireFrom = (base) => {
    const require = (name) => {
      const id = native.resolve(base, name);
      return id.startsWith('/') ? load(id) : builtin[id];
    };
    require.resolve = (name) => native.resolve(base, name);
    return require;
  };

  // --- timers: time stands still, so what is due first runs first, at once -----------------------

  const timers = [];
  let now = 0;
  let count = 0;

  const setTimer = (period) => (callback, delay = 0, ...args) => {
    const id = ++count;
    const due = now + Math.max(Number(delay) || 0, 0);
    timers.push({ id, due, period: period ? Math.max(delay, 1) : null, callback, args });
    return id;
  };

  const clearTimer = (id) => {
    const at = timers.findIndex((timer) => timer.id === id);
    if (at >= 0) timers.splice(at, 1);
  };

  const tick = () => {
    if (timers.length === 0) return false;
    const next = timers.reduce((a, b) => (b.due < a.due ? b : a));
    now = next.due;
    if (next.period === null) clearTimer(next.id);
    else next.due += next.period;
    next.callback(...next.args);
    return true;
  };

  // --- globals -------------------------------------------------------------------------------

  const show = (value) => {
    if (typeof value === 'string') return value;
    if (value instanceof Error) return value.stack ? `${value}\n${value.stack}` : String(value);
    return JSON.stringify(value) ?? String(value);
  };
  const say = (...values) => native.say(values.map(show).join(' '));
  const console = { log: say, info: say, warn: say, error: say, debug: say, trace: say };

  Object.assign(globalThis, {
    process,
    console,
    URL,
    Bun: { env },
    setTimeout: setTimer(false),
    setInterval: setTimer(true),
    setImmediate: (callback, ...args) => setTimer(false)(callback, 0, ...args),
    clearTimeout: clearTimer,
    clearInterval: clearTimer,
    clearImmediate: clearTimer,
    queueMicrotask: (callback) => void Promise.resolve().then(callback),
  });

  // --- what Rust calls -------------------------------------------------------------------------

  // The JSON text of what a file exports, a promise; `undefined` if that is nothing.
  const finish = async (exported) => {
    let value = await exported;
    if (typeof value === 'function') {
      value = await value({ mode: env.NODE_ENV ?? 'production', command: 'start' });
    }
    return JSON.stringify(value);
  };

  return { load, finish, tick, requireFrom, builtin };
};
