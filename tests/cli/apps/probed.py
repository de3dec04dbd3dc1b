"""Notes in the file NOTES who asks for /health, and which worker this is: `probed.py PORT [reuse]`.

/health is 500 while there is a file `NOTES.sick-WORKER`.
"""

import asyncio
import os
import sys

NOTES = os.environ["NOTES"]
WORKER = os.environ["BUNPILOT_WORKER_ID"]


def note(line):
    with open(NOTES, "a") as notes:
        notes.write(line)


async def serve(reader, writer):
    try:
        request = await reader.readuntil(b"\r\n\r\n")
        status = "200 OK"
        if b" /health " in request:
            note(f"{writer.get_extra_info('peername')[0]} {WORKER}\n")
            status = "500 Sick" if os.path.exists(f"{NOTES}.sick-{WORKER}") else status
        body = WORKER.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client left
    writer.close()


async def main():
    reuse = sys.argv[2:] == ["reuse"] or None
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), reuse_port=reuse)
    await server.serve_forever()


asyncio.run(main())
