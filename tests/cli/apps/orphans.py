"""Burns CPU time in children nobody waits for: with each one's end the kernel forgets what it used."""

import os
import signal
import sys
import time

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
BURST = 0.02
while True:
    if os.fork() == 0:
        while time.process_time() < BURST:
            pass
        os._exit(0)
    try:
        os.wait()
    except ChildProcessError:
        pass
    time.sleep(BURST)
