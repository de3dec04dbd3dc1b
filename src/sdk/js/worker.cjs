'use strict';

// What a worker says to bunpilot. Works in Node 18 and later and in Bun; says nothing, and does
// nothing, in a process that bunpilot did not start.

/** Sent along with `ready`: this SDK says when it handles `shutdown`, the original's did not. */
const VERSION = '0.3.0';

const managed = process.env.BUNPILOT_WORKER_ID !== undefined;

function send(message) {
  if (!managed || typeof process.send !== 'function' || process.connected === false) return;
  try {
    process.send(message, undefined, undefined, () => {}); // a lost manager is no reason to fail
  } catch {
    // The channel closed in this very moment.
  }
}

/** Tells the manager that this worker serves. */
function bunpilotReady() {
  send({ type: 'ready', sdk: VERSION });
}

/** Sends `data` on a channel of your own; the names beginning with `bunpilot` are taken. */
function bunpilotSend(channel, data) {
  send({ type: 'custom', channel, data });
}

// --- what the manager says -------------------------------------------------

let listening = false;

/** Listens from now on, which keeps the process alive: nobody calls this who only has to speak. */
function listen() {
  if (listening || !managed || typeof process.send !== 'function') return;
  listening = true;
  process.on('message', (message) => {
    if (message === null || typeof message !== 'object') return;
    if (message.type === 'shutdown') shutDown();
    else if (message.type === 'collect-metrics') report();
    else if (message.type === 'ping') beat();
    else if (message.type === 'config-update') for (const handler of configHandlers) handler(message.config);
  });
}

const configHandlers = new Set();

/** Calls `handler` with the app's new configuration whenever it changes. */
function bunpilotOnConfigUpdate(handler) {
  configHandlers.add(handler);
  listen();
}

// --- shutdown --------------------------------------------------------------

const shutdownHandlers = new Set();
let stopping = false;

/**
 * Runs `handler` when the manager, SIGTERM or SIGINT ends this worker, then exits with 0.
 *
 * Several handlers run side by side. If one fails the exit status is 1. A second signal does not
 * wait for them.
 */
function bunpilotOnShutdown(handler) {
  const first = shutdownHandlers.size === 0;
  shutdownHandlers.add(handler);
  if (!managed || !first) return;
  listen();
  process.on('SIGTERM', () => signalled(143));
  process.on('SIGINT', () => signalled(130));
  bunpilotSend('bunpilot', { handlesShutdown: true });
}

let signals = 0;

function signalled(status) {
  // bunpilot sends one signal after its message; Ctrl-C twice means now.
  signals += 1;
  if (signals > 1) process.exit(status);
  shutDown();
}

async function shutDown() {
  if (stopping || shutdownHandlers.size === 0) return;
  stopping = true;
  bunpilotSend('bunpilot', { stopping: true });
  const run = async (handler) => handler();
  const results = await Promise.allSettled([...shutdownHandlers].map(run));
  const failed = results.filter((result) => result.status === 'rejected');
  for (const { reason } of failed) console.error('bunpilot: a shutdown handler failed:', reason);
  process.exit(failed.length > 0 ? 1 : 0);
}

// --- measurements ----------------------------------------------------------

/** How often the event loop is asked whether it is late, in milliseconds. */
const LAG_INTERVAL = 500;

let metricsTimer;
let lagTimer;
let lag = 0;

/** Reports memory, CPU time and event-loop lag every `interval` milliseconds; a second call changes the interval. */
function bunpilotStartMetrics(interval = 5_000) {
  if (!managed) return;
  listen();
  clearInterval(metricsTimer);
  metricsTimer = setInterval(report, interval);
  metricsTimer.unref();
  if (lagTimer === undefined) watchLag();
}

/** Keeps the longest time a timer was late since the last report. */
function watchLag() {
  let due = performance.now() + LAG_INTERVAL;
  lagTimer = setInterval(() => {
    const now = performance.now();
    lag = Math.max(lag, now - due);
    due = now + LAG_INTERVAL;
  }, LAG_INTERVAL);
  lagTimer.unref();
}

function report() {
  const { rss, heapTotal, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const payload = { memory: { rss, heapTotal, heapUsed, external }, cpu: { user, system } };
  if (lagTimer !== undefined) payload.eventLoopLag = lag;
  lag = 0;
  send({ type: 'metrics', payload });
}

// --- heartbeat -------------------------------------------------------------

let heartbeatTimer;

/**
 * Says every `interval` milliseconds that the event loop turns. From the first one on a worker
 * that stops saying so is taken for hung. A second call changes the interval.
 */
function bunpilotHeartbeat(interval = 10_000) {
  if (!managed) return;
  clearInterval(heartbeatTimer);
  heartbeatTimer = setInterval(beat, interval);
  heartbeatTimer.unref();
  beat();
}

function beat() {
  send({ type: 'heartbeat', uptime: process.uptime() });
}

module.exports = {
  bunpilotReady,
  bunpilotOnShutdown,
  bunpilotOnConfigUpdate,
  bunpilotStartMetrics,
  bunpilotHeartbeat,
  bunpilotSend,
};
