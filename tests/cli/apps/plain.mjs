// A server for node that knows nothing of bunpilot: `plain.mjs PORT`. No signal handler.
import { createServer } from 'node:http';

const body = `${process.pid} ${'0123456789abcdef'.repeat(16)}`;
createServer((_request, response) => response.end(body)).listen(Number(process.argv[2]), '127.0.0.1');
