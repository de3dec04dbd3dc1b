#!/bin/sh
# Writes a numbered line to stdout every EVERY seconds, and one to stderr first.
echo "ticker ${BUNPILOT_WORKER_ID:-?} begins" >&2
number=0
while :; do
    echo "tick ${BUNPILOT_WORKER_ID:-?} $number"
    number=$((number + 1))
    sleep "${EVERY:-0.1}"
done
