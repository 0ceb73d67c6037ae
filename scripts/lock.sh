#!/usr/bin/env bash
# Turn requirements.in, requirements-dev.in and requirements-milvus.in into fully pinned, fully hashed files. Pass --upgrade to move to newer versions.
#
# Runs on Python 3.11, the lowest version we support, and with no pip configuration: hashes then come from PyPI for the wheels
# of every platform and Python, not from a file that happens to lie on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_INDEX_URL PIP_CONSTRAINT

python="${1:?usage: scripts/lock.sh PYTHON [pip-compile option ...]}"
shift
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "lock: use Python 3.11, the lowest version we support: make lock PYTHON=python3.11" >&2
    exit 1
}

compile() {
    "$python" -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options "${@:2}" \
        --output-file "$1.txt" "$1.in"
}
compile requirements "$@"
compile requirements-dev "$@"
compile requirements-milvus "$@"

if grep -nE '^(--|-f|-i)|file://|https?://' requirements.txt requirements-dev.txt requirements-milvus.txt; then
    echo "lock: a host or an option leaked into the locks (see above)" >&2
    exit 1
fi
