"""A program that has never heard of bunpilot: Python's own HTTP server. No handler for signals."""

import http.server
import os


def sick():
    try:
        with open(os.environ["SICK"]) as file:
            return file.read() == str(os.getpid())
    except (KeyError, OSError):
        return False


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        if self.path == "/health":
            print("asked", flush=True)
        self.send_response(500 if self.path == "/health" and sick() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Answer).serve_forever()
