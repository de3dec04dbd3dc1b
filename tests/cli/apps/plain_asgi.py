"""An app for uvicorn and gunicorn that knows nothing of bunpilot."""

import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = f"{os.getpid()} {'0123456789abcdef' * 16}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
