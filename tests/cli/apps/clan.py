"""A leader with every kind of descendant; each notes its pid in CLAN. Lives on once all have.

A life that finds somebody of the life before it alive notes that in SURVIVORS first. With
UNMARKED=1 one descendant has nothing left of its environment but BUNPILOT_HOME.
"""

import os
import signal
import time

clan = os.environ["CLAN"]


def note(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\n")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def members():
    return [int(line) for line in open(clan)] if os.path.exists(clan) else []


for pid in members():
    if alive(pid):
        note(os.environ["SURVIVORS"], pid)
open(clan, "w").close()


def live(*, session=False, orphan=False, deaf=False, bare=False):
    """A child; `orphan`: its parent is gone."""
    if os.fork() > 0:
        return
    if session:
        os.setsid()
    if orphan and os.fork() > 0:
        os._exit(0)
    if deaf:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    note(clan, os.getpid())
    if bare:
        kept = {"BUNPILOT_HOME": os.environ["BUNPILOT_HOME"]}
        os.execve("/bin/sleep", ["sleep", "3600"], kept)
    time.sleep(3600)


kinds = [
    {},
    {"session": True},
    {"orphan": True},
    {"session": True, "orphan": True},
    {"deaf": True},
    {"deaf": True, "session": True, "orphan": True},
]
if os.environ.get("UNMARKED") == "1":
    kinds.append({"session": True, "orphan": True, "bare": True})
for kind in kinds:
    live(**kind)
while len(members()) < len(kinds):
    time.sleep(0.01)
print("all here", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(3600)
