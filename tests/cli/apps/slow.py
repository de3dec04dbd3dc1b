"""Serves one connection at a time: `slow.py PORT [reuse]`. An answer takes 2 ms, from worker 0 40."""

import os
import socket
import sys
import time

SLOW = os.environ.get("BUNPILOT_WORKER_ID", "0") == "0"
BODY = f"{os.getpid()} {'0123456789abcdef' * 16}"
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n{BODY}".encode()

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if sys.argv[2:] == ["reuse"]:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(128)
while True:
    stream, _ = listener.accept()
    with stream:
        try:
            if stream.recv(4096):
                time.sleep(0.040 if SLOW else 0.002)
                stream.sendall(ANSWER)
        except ConnectionError:
            pass  # the client left
