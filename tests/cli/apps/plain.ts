// A server for Bun that knows nothing of bunpilot: `plain.ts PORT [reuse]`. No signal handler.
const [port, reuse] = process.argv.slice(2);
const body = `${process.pid} ${'0123456789abcdef'.repeat(16)}`;
Bun.serve({
  hostname: '127.0.0.1',
  port: Number(port),
  reusePort: reuse === 'reuse',
  fetch: () => new Response(body),
});
