#!/bin/sh
# Starts scaled, and the scenario where the workspace was started with "begin".
# The exit code is the run's: 0 passed, 99 the deployment or a threshold failed, 6 this host was the limit.
set -eu

log=/var/lib/scaled/scaled.log
scenario=/etc/scaled/scenario.toml

if ! scalectl status >/dev/null 2>&1; then
  nohup scaled --config /etc/scaled/scaled.toml >>"$log" 2>&1 </dev/null &
  daemon=$!
  tries=0
  until scalectl status >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ] || ! kill -0 "$daemon" 2>/dev/null; then
      echo "scaled did not start; the end of $log:" >&2
      tail -n 5 "$log" >&2
      exit 1
    fi
    sleep 0.2
  done
fi
scalectl doctor || true # what it warns of decides the result; it stops nothing

case ${SCALED_BEGIN:-false} in
true) exec scalectl scenario -f "$scenario" --yes ;;
*) echo "scaled runs; start the workspace with \"begin\", or: scalectl scenario -f $scenario" ;;
esac
