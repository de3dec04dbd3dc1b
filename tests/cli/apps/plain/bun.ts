// A program that has never heard of bunpilot, for Bun. No handler for signals.
Bun.serve({
  port: Number(process.env.PORT),
  fetch: () => new Response(String(process.pid)),
});
