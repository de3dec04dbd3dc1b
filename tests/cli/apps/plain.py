"""A server on asyncio that knows nothing of bunpilot: `plain.py PORT [reuse]`. No signal handler."""

import asyncio
import os
import sys

BODY = f"{os.getpid()} {'0123456789abcdef' * 16}"
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()


async def serve(reader, writer):
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
            if b"connection: close" in request.lower():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client left
    writer.close()


async def main():
    reuse = sys.argv[2:] == ["reuse"] or None
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), reuse_port=reuse)
    await server.serve_forever()


asyncio.run(main())
