#!/usr/bin/env bash
# The servers that the tests use and never skip. Root gets what is missing from Debian; others are told the one line.
set -euo pipefail

missing=()
has_postgresql() {
    [ -n "${TEST_POSTGRES_URL:-}" ] || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null
}
has_postgresql || missing+=(postgresql)
PATH="$PATH:/usr/sbin"
command -v memcached >/dev/null || missing+=(memcached)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v saslpasswd2 >/dev/null || missing+=(sasl2-bin)
compgen -G '/usr/lib/*/sasl2/libplain.so*' >/dev/null || missing+=(libsasl2-modules)
# Only root can use it for failing system calls everywhere; without it those tests say so and others stand for them.
[ "$(id -u)" != 0 ] || command -v strace >/dev/null || missing+=(strace)
# And cut the power of a file system: XFS beside ext4.
[ "$(id -u)" != 0 ] || command -v mkfs.xfs >/dev/null || missing+=(xfsprogs)
[ ${#missing[@]} -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # A package may start its server when it is installed; ours are private ones, started by the tests.
    { apt-get update -q && $install -q; } </dev/null
else
    echo "The tests need servers that are not installed. Run as root: $install" >&2
    exit 1
fi
