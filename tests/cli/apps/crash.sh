#!/bin/sh
# Notes its start in STARTS, lives AFTER seconds, says why, and dies.
[ -n "${STARTS:-}" ] && echo "${BUNPILOT_APP_NAME:-?}" >>"$STARTS"
[ -n "${AFTER:-}" ] && sleep "$AFTER"
echo "crashing as told" >&2
exit "${CODE:-7}"
