// The README's server for Bun, by the environment contract alone: no SDK.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env.BUNPILOT_PORT ?? 0),
  reusePort: process.env.BUNPILOT_REUSE_PORT === '1',
  fetch: () => Response.json({ pid: process.pid, worker: process.env.BUNPILOT_WORKER_ID ?? '' }),
});

process.on('SIGTERM', async () => {
  await server.stop();
  process.exit(0);
});
process.send?.({ type: 'ready' });
