// A program that has never heard of bunpilot, for node. No handler for signals.
import { createServer } from 'node:http';

createServer((_request, response) => response.end(String(process.pid))).listen(Number(process.env.PORT));
