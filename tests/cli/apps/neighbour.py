"""Serves PORT, and lets a child open OTHER, which only one can: `neighbour.py PORT [reuse]`.

Notes in the file NOTES how that went, and whether the child's socket shares its port.
"""

import asyncio
import errno
import os
import socket
import sys

PORT, OTHER = int(sys.argv[1]), int(os.environ["OTHER"])
BODY = f"{os.getpid()} {'0123456789abcdef' * 16}".encode()


def shared(listener):
    return listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def open_other():
    listener = socket.socket()
    try:
        listener.bind(("127.0.0.1", OTHER))
        listener.listen()
        went = "bound"
    except OSError as error:
        went = errno.errorcode[error.errno]
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{shared(listener)} {went}\n")
    return listener


async def serve(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + BODY)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client left
    writer.close()


async def main():
    reuse = sys.argv[2:] == ["reuse"] or None
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, reuse_port=reuse)
    await server.serve_forever()


if os.fork() == 0:
    kept = open_other()
    os.read(os.pipe()[0], 1)  # until it is killed
asyncio.run(main())
