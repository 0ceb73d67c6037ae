#!/usr/bin/env bash
# Make a virtual environment in the folder given. Debian keeps a part of `venv` in a package of its own: root installs it, others
# are told the line.
set -euo pipefail

folder="${1:?usage: scripts/make_venv.sh FOLDER}"
here="$(dirname "$0")"

install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -yq --no-install-recommends "$@"; } </dev/null >&2
    else
        echo "Something is missing here. Run as root: apt-get install -y $*" >&2
        exit 1
    fi
}

if [ -z "${PYTHON:-}" ] && ! "$here/find_python.sh" >/dev/null 2>&1; then
    install python3 python3-venv
fi
python="$("$here/find_python.sh")"
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi
rm -rf "$folder"
"$python" -m venv "$folder"
