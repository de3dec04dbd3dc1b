#!/bin/sh
# Has a child, and a grandchild in a session of its own.
(
    setsid sleep 4321 &
    sleep 4322
) &
echo "family of $$"
wait
