#!/usr/bin/env bash
# The BigQuery emulator of the tests, in the folder given: a virtual environment on Python 3.13 or newer, from a hashed lock, with
# the DuckDB extensions that it would otherwise download. Does nothing when it is there already.
#
# EMULATOR_PYTHON=/path/to/python3.13 chooses the Python.
set -euo pipefail
folder="${1:?usage: scripts/install_bigquery_emulator.sh FOLDER}"
here="$(cd "$(dirname "$0")" && pwd)"
lock="$here/../requirements-emulator.txt"
stamp="$folder/installed.sha256"
sum="$(cat "$lock" "$here/install_bigquery_emulator.sh" | sha256sum)"
[ "$(cat "$stamp" 2>/dev/null || true)" != "$sum" ] || exit 0

fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 13) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1
}
find_python() {
    local candidate
    # Each is run, because a name on PATH may be a stand-in that fails (pyenv's are).
    for candidate in ${EMULATOR_PYTHON:+"$EMULATOR_PYTHON"} python3.13 python3.14 python3 /usr/bin/python3.13 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[34].*/bin/python3 "$HOME"/.local/share/uv/python/cpython-3.1[34].*/bin/python3; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}
if ! find_python >/dev/null && [ "$(id -u)" = 0 ] && apt-cache show python3.13-venv >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends python3.13-venv </dev/null >&2
fi
python="$(find_python)" || {
    echo "The tests need Python 3.13 or 3.14 for the BigQuery emulator, and none was found. Install one (pyenv install 3.13," >&2
    echo "uv python install 3.13, or your system's package) or say where it is: EMULATOR_PYTHON=/path/to/python3.13 make test" >&2
    exit 1
}

echo "installing the BigQuery emulator on $("$python" --version) (once, half a minute)"
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps -r "$lock"
home="$folder/home"
for extension in "$folder"/lib/python3.*/site-packages/duckdb_extension_*/extensions/v*/*.duckdb_extension; do
    version="$(basename "$(dirname "$extension")")"
    platform="$("$folder/bin/python" -c 'import duckdb; print(duckdb.sql("PRAGMA platform").fetchone()[0])')"
    mkdir -p "$home/.duckdb/extensions/$version/$platform"
    # The wheel's file is moved, not copied: together they are 140 MB.
    mv "$extension" "$home/.duckdb/extensions/$version/$platform/"
done
echo "$sum" >"$stamp"
