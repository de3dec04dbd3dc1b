#!/bin/sh
# Does not go when asked.
trap '' TERM INT HUP
echo "here to stay"
while :; do sleep 1; done
