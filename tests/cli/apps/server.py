"""An HTTP server on the standard library: on an inherited socket (LISTEN_FDS) or its own.

BOOT_MS delays listening, ANSWER_MS each answer, HEALTH is the status of /health. With ABRUPT=1
SIGTERM kills it in the middle of an answer. READY=1 goes to NOTIFY_SOCKET if there is one.
"""

import http.server
import json
import os
import signal
import socket
import threading
import time


def setting(name, default):
    return int(os.environ.get(name, default))


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = setting("HEALTH", 200) if self.path == "/health" else 200
        time.sleep(setting("ANSWER_MS", 0) / 1000)
        told = {"pid": os.getpid(), "worker": os.environ.get("BUNPILOT_WORKER_ID", "")}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for answers in flight
    request_queue_size = 128

    def __init__(self):
        inherited = os.environ.get("LISTEN_PID") == str(os.getpid())
        super().__init__(("127.0.0.1", setting("BUNPILOT_PORT", 0)), Answer, bind_and_activate=False)
        if inherited:
            self.socket.close()
            self.socket = socket.socket(fileno=3)
        else:
            if os.environ.get("BUNPILOT_REUSE_PORT") == "1":
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.server_bind()
            self.server_activate()


def notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.connect("\0" + path[1:] if path.startswith("@") else path)
            door.send(text.encode())


time.sleep(setting("BOOT_MS", 0) / 1000)
server = Server()
if not setting("ABRUPT", 0):
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
notify("READY=1")
server.serve_forever(poll_interval=0.02)
server.server_close()
