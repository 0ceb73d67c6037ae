#!/usr/bin/env bash
# Print the command of a Python of at least 3.11. PYTHON=/path/to/python chooses one.
#
# Each candidate is run, because a name on PATH may be a stand-in that fails (pyenv's are).
set -euo pipefail

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}
if [ -n "${PYTHON:-}" ]; then
    new_enough "$PYTHON" || { echo "PYTHON=$PYTHON is not a working Python of at least 3.11" >&2; exit 1; }
    echo "$PYTHON"
    exit
fi
# 3.11 first: the version that the locks are made on.
for candidate in python3.11 python3.12 python3.13 python3 /usr/bin/python3; do
    if new_enough "$candidate"; then
        echo "$candidate"
        exit
    fi
done
echo "AgentHub needs Python 3.11 or newer. On Debian: apt-get install -y python3 python3-venv" >&2
exit 1
