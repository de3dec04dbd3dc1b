"""Keeps one core busy for a while, then lives on."""

import time

until = time.monotonic() + 20
while time.monotonic() < until:
    pass
time.sleep(3600)
