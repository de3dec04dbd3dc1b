// An HTTP server for node: on an inherited socket (LISTEN_FDS) or its own port. It says it is
// ready, and closes gracefully when asked by message or by signal.
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

const server = createServer((_request, response) => {
  const told = { pid: process.pid, worker: process.env.BUNPILOT_WORKER_ID ?? '' };
  setTimeout(() => response.end(JSON.stringify(told)), Number(process.env.ANSWER_MS ?? 0));
});
const inherited = process.env.LISTEN_PID === String(process.pid);
const own = { host: '127.0.0.1', port: Number(process.env.BUNPILOT_PORT ?? 0) };
const note = (text) => process.env.HEARD && appendFileSync(process.env.HEARD, `${text}\n`);
const close = (why) => {
  note(why);
  server.close(() => process.exit(0));
  server.closeIdleConnections();
};
process.on('SIGTERM', () => close('SIGTERM'));
process.on('message', (message) => message.type === 'shutdown' && close('shutdown'));
server.listen(inherited ? { fd: 3 } : own, () => {
  process.send?.({ type: 'custom', channel: 'bunpilot', data: { handlesShutdown: true } });
  process.send?.({ type: 'ready' }, () => note('spoke'));
});
