#!/usr/bin/env bash
# The load generator of `make bench`. Root gets it from Debian; others are told the one line.
set -euo pipefail

command -v wrk >/dev/null && exit 0

install="apt-get install -y --no-install-recommends wrk"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && $install -q; } </dev/null
else
    echo "The benchmark needs wrk, which is not installed. Run as root: $install" >&2
    exit 1
fi
