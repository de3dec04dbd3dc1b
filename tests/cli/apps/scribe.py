"""Writes numbered lines, EVERY seconds apart, as `<pid> <number>`.

SIGTERM ends it with a last line `<pid> end <count>`, SIGUSR1 with the exit code 42.
"""

import os
import signal
import time

pid = os.getpid()
over = False


def end(*_):
    global over
    over = True


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(42))
count = 0
while not over:
    os.write(1, b"%d %d\n" % (pid, count))
    count += 1
    time.sleep(float(os.environ.get("EVERY", "0.01")))
os.write(1, b"%d end %d\n" % (pid, count))
