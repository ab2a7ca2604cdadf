#!/bin/sh
# Runs beside a node, and tells Agones what the node's admin server says. A node with players is Allocated, so
# that neither a smaller fleet nor an update takes it away from them; one without is Ready. What cannot be read
# changes nothing. While the node does not answer, Agones gets no /health, and replaces it once that has lasted
# as long as `health` of the fleet allows.
node=${NODE:-http://127.0.0.1:9470}
agones=${AGONES:-http://127.0.0.1:${AGONES_SDK_HTTP_PORT:-9358}}
interval=${INTERVAL:-2}
timeout=${TIMEOUT:-2}

tell() { curl -fs -m "$timeout" -o /dev/null -H 'Content-Type: application/json' -d '{}' "$agones/$1"; }

# The status of an answer, 000 where none came, or `refused`: nothing listens at the port.
status() {
  code=$(curl -s -m "$timeout" -o /dev/null -w '%{http_code}' "$node/$1")
  [ $? -eq 7 ] && code=refused
  echo "$code"
}

# Whether there are sessions: yes, no, or unknown.
players() {
  # An answer that ends too early counts as none.
  metrics=$(curl -fs -m "$timeout" "$node/metrics") || metrics=
  case $(printf '%s\n' "$metrics" | grep '^nano_sessions{') in
    *'} '[1-9]*) echo yes ;;
    *'} 0'*) echo no ;;
    *) echo unknown ;;
  esac
}

# The state for the players and readiness of now. A node that drains is not ready, and takes no more players.
wanted() {
  case $(players),$(status readyz) in
    yes,*) echo allocate ;;
    no,200) echo ready ;;
    *,503) [ "$state" = starting ] || echo allocate ;;
  esac
}

until [ "$(status healthz)" = 200 ]; do sleep 1; done
state=starting
refused=0
while [ "$refused" -lt 3 ]; do
  answer=$(status healthz)
  case $answer in
    refused) refused=$((refused + 1)) ;;
    *) refused=0 ;;
  esac
  if [ "$answer" = 200 ]; then
    tell health
    next=$(wanted)
    if [ "${next:-$state}" != "$state" ] && tell "$next"; then
      state=$next
    fi
  fi
  sleep "$interval"
done
# The process has ended, and so have its sessions: the pod ends, too.
until tell shutdown; do sleep 1; done
