#!/bin/sh
# wsec echoes, wsra sends random bytes without end, wsdi discards: each a websocket listener on loopback,
# with something of its own for every connection.
set -eu

listen() {
  nohup websocat --binary --exit-on-eof "ws-l:127.0.0.1:$1" "$2" >>"/tmp/listener-$1.log" 2>&1 </dev/null &
}

listen 1234 mirror:
listen 1235 sh-c:'exec cat /dev/urandom'
listen 1236 sh-c:'exec cat >/dev/null'
