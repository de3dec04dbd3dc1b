"""The smallest ASGI app: for `uvicorn --fd 3 asgi:app` and `uvicorn --port … asgi:app`."""

import json
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    told = {"pid": os.getpid(), "worker": os.environ.get("BUNPILOT_WORKER_ID", "")}
    body = json.dumps(told).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
