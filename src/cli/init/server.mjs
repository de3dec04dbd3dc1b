// A tiny server to begin with. It shares its port with the other workers where the runtime can.
import http from 'node:http';

const hello = `hello from worker ${process.env.BUNPILOT_WORKER_ID ?? '-'}\n`;
const port = Number(process.env.BUNPILOT_PORT ?? 3000);
const reusePort = process.env.BUNPILOT_REUSE_PORT === '1';

// Tells bunpilot that requests may come.
const ready = () => process.send?.({ type: 'ready' });

if (globalThis.Bun) {
  const server = Bun.serve({ port, reusePort, fetch: () => new Response(hello) });
  ready();
  process.on('SIGTERM', () => server.stop().then(() => process.exit(0)));
} else {
  const server = http.createServer((request, response) => response.end(hello));
  server.listen({ port, reusePort }, ready);
  // Open requests are finished first.
  process.on('SIGTERM', () => server.close(() => process.exit(0)));
}
