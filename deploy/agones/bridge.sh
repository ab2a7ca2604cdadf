#!/bin/sh
# Runs beside a node, and tells Agones what the node's admin server says. A node with players is Allocated, so
# that neither a smaller fleet nor an update takes it away from them; one without is Ready.
node=${NODE:-http://127.0.0.1:9470}
agones=${AGONES:-http://127.0.0.1:${AGONES_SDK_HTTP_PORT:-9358}}

ask() { curl -fs -m 2 "$node/$1"; }
tell() { curl -fs -m 2 -o /dev/null -H 'Content-Type: application/json' -d '{}' "$agones/$1"; }

# Ready: it has joined and listens. It is not, while it drains.
until ask readyz >/dev/null; do sleep 1; done
state=none
missed=0
while [ "$missed" -lt 3 ]; do
  if ask healthz >/dev/null; then
    missed=0
    tell health
    wanted=ready
    if ask metrics | grep -q '^nano_sessions{.*} [1-9]' || ! ask readyz >/dev/null; then
      wanted=allocate
    fi
    if [ "$wanted" != "$state" ] && tell "$wanted"; then
      state=$wanted
    fi
  else
    missed=$((missed + 1))
  fi
  sleep "${INTERVAL:-2}"
done
# The node has ended: so does its pod.
tell shutdown
