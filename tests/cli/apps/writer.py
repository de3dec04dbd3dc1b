"""Writes to stdout in the way HOW says, then makes the file DONE and lives on.

If HOW is `killed`, it lives until there is a file DONE.go: then it writes, and kills itself.
"""

import os
import signal
import sys
import threading
import time

how = os.environ["HOW"]
alphabet = bytes(range(ord("a"), ord("z") + 1))


def text(length):
    return (alphabet * (length // 26 + 1))[:length]


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def many(thread):
    for number in range(2000):
        os.write(1, b"%d %d a line\n" % (thread, number))


if how == "eight":
    write(text(8 << 20))
elif how == "long":
    for _ in range(3):
        write(text(1 << 20) + b"\n")
elif how == "nul":
    write(b"a\0b\0\0\nc\0\n" * 1000)
elif how == "tail":
    write(b"one\ntwo\nno newline")
elif how == "threads":
    threads = [threading.Thread(target=many, args=(it,)) for it in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
elif how == "closed":
    write(b"before\n")
    os.close(1)
    os.write(2, b"still here\n")
with open(os.environ["DONE"], "w"):
    pass
go = os.environ["DONE"] + ".go"
while not (how == "killed" and os.path.exists(go)):
    time.sleep(0.01)
os.unlink(go)
write(b"last words\n" * 3000 + b"and no")
os.kill(os.getpid(), signal.SIGKILL)
