"""Writes LINES numbered lines to stdout as fast as they are taken, then lives on."""

import os
import sys
import time

for number in range(int(os.environ["LINES"])):
    sys.stdout.write(f"line {number:08d} {'x' * 40}\n")
sys.stdout.flush()
time.sleep(3600)
