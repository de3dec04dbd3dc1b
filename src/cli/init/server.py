"""A tiny server to begin with. It shares its port with the other workers."""

import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"hello from worker {os.environ.get('BUNPILOT_WORKER_ID', '-')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    def server_bind(self):
        if os.environ.get("BUNPILOT_REUSE_PORT") == "1":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server(("0.0.0.0", int(os.environ.get("BUNPILOT_PORT", "3000"))), Hello).serve_forever()
