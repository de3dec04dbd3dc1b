"""Burns CPU time in bursts, in one process with one thread."""

import time

BURST = 0.02
while True:
    end = time.process_time() + BURST
    while time.process_time() < end:
        pass
    time.sleep(BURST)
