// A tiny server to begin with. It shares its port with the other workers where the runtime can.
import http from 'node:http';

const worker = process.env.BUNPILOT_WORKER_ID ?? '-';

const server = http.createServer((request, response) => {
  response.end(`hello from worker ${worker}\n`);
});

server.listen({
  port: Number(process.env.BUNPILOT_PORT ?? 3000),
  reusePort: process.env.BUNPILOT_REUSE_PORT === '1',
});
server.on('listening', () => process.send?.({ type: 'ready' }));

// Let open requests finish before leaving.
process.on('SIGTERM', () => server.close(() => process.exit(0)));
