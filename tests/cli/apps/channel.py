"""Speaks the worker channel by hand: says what the SDK says, then notes in HEARD what it hears.

A `shutdown` message is answered by the note `cleaned` and a clean exit. SIGTERM
ends it at once, as it ends a program without a handler.
"""

import json
import os
import socket
import time

heard = os.environ.get("HEARD", os.devnull)


def note(text):
    with open(heard, "a") as file:
        file.write(text + "\n")


channel = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))
for line in [
    b'{"type":"custom","channel":"bunpilot","data":{"handlesShutdown":true}}',
    b'{"type":"ready"}',
]:
    channel.sendall(line + b"\n")
note("spoke")
for line in channel.makefile("r"):
    message = json.loads(line)
    note(message.get("type", "?"))
    if message.get("type") == "shutdown":
        note("cleaned")
        os._exit(0)
time.sleep(3600)
