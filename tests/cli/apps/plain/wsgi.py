"""A WSGI app that has never heard of bunpilot."""

import os


def app(environ, start_response):
    body = str(os.getppid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
