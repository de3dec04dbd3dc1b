"""Writes numbered lines, EVERY seconds apart, as `<pid> <number>`.

SIGTERM ends it with a last line `<pid> end <count>`; SIGUSR1 with another 500 lines, that last
one, and the exit code 42.
"""

import os
import signal
import time

pid = os.getpid()
every = float(os.environ.get("EVERY", "0.01"))
asked = None
count = 0


def hear(number, _frame):
    global asked
    asked = number


def write():
    global count
    os.write(1, b"%d %d\n" % (pid, count))
    count += 1


signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGUSR1, hear)
while asked is None:
    write()
    time.sleep(every)
if asked == signal.SIGUSR1:
    for _ in range(500):
        write()
os.write(1, b"%d end %d\n" % (pid, count))
os._exit(42 if asked == signal.SIGUSR1 else 0)
