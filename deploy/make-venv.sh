#!/usr/bin/env bash
# Make the virtual environment and install what a lock file names, then the project itself, editable.
# Usage: make-venv.sh VENV LOCKFILE
set -euo pipefail

venv=$1 lock=$2

supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
find_python() {
    for candidate in python3.12 python3.11 python3.10 python3 python; do
        if "$candidate" -c "$supported" >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "cascadewatch needs Python 3.12, 3.11 or 3.10 (Bytewax has no build for others) and found none on PATH: install one, for example with 'apt-get install python3 python3-venv'." >&2
    exit 1
}

if ! "$venv/bin/python" -c "$supported" >/dev/null 2>&1; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        # Debian keeps these in a package of its own.
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "installing $package ..."
            apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package" >/dev/null
        else
            echo "$python has no venv module: install the package $package (as root: apt-get install $package)." >&2
            exit 1
        fi
    fi
    echo "making $venv with $("$python" --version) ..."
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

echo "installing $(grep -c '==' "$lock") packages from $lock ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement "$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --editable .
