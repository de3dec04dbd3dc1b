"""Says everything a worker must not say on its channel, then that it is ready, and lives on."""

import os
import time

channel = int(os.environ["NODE_CHANNEL_FD"])
for line in [
    b'{"type":"metrics"}',
    b'{"type":"metrics","payload":null}',
    b'{"type":"metrics","payload":{"memory":"much","cpu":[]}}',
    b'{"type":"no such type"}',
    b'{"type":{}}',
    b"[]",
    b"null",
    b"not json at all",
    b"\xff\xfe\x00\x01",
    b"[" * 10_000,
    b"x" * 2_000_000,
    b'{"type":"ready"}',
]:
    data = line + b"\n"
    while data:
        data = data[os.write(channel, data) :]
print("said it all", flush=True)
time.sleep(3600)
