"""Writes LINES numbered lines to stdout, of many lengths and in writes of many kinds.

Writes no further than the file `allowed` in the folder YARD says, so that the lines are spread over
all that is done meanwhile; makes `<worker>.done` there after the last one, then lives on. Line
`number` of `worker` is the same in every run: whoever reads it knows every byte.
"""

import os
import random
import sys
import time

worker = int(os.environ["BUNPILOT_WORKER_ID"])
lines = int(os.environ["LINES"])
yard = os.environ["YARD"]
chance = random.Random(f"{os.environ['SEED']} {worker}")
filler = b"abcdefghijklmnopqrstuvwxyz" * 200


def line(number):
    mixed = (number * 2654435761 + worker * 40503) % 2**32 >> 8
    kind = mixed % 1024
    length = 5000 if kind == 0 else 700 if kind < 16 else mixed // 1024 % 120
    return b"%d %d %s\n" % (worker, number, filler[:length])


def allowed():
    try:
        with open(f"{yard}/allowed") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def write(data):
    while data:
        data = data[os.write(1, data) :]


number = 0
limit = 0
while number < lines:
    while number >= limit:
        limit = min(allowed(), lines)
        if number >= limit:
            time.sleep(0.002)
    kind = chance.randrange(8)
    count = min(limit - number, 1 if kind < 4 else chance.randrange(1, 40) if kind < 7 else 300)
    data = b"".join(line(number + i) for i in range(count))
    if kind in (1, 5):
        # a line cut over two writes, and sometimes a moment between them
        cut = chance.randrange(len(data))
        write(data[:cut])
        if chance.randrange(4) == 0:
            time.sleep(chance.random() * 0.003)
        data = data[cut:]
    write(data)
    number += count
    if kind == 7:
        time.sleep(0.001)
with open(f"{yard}/{worker}.done", "w"):
    pass
while True:
    time.sleep(3600)
