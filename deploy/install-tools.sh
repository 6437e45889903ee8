#!/usr/bin/env bash
# Install the servers that the slow tests start on loopback, from the distribution's own packages.
# Does nothing where all are there; installs when root; otherwise says what to install and lets the tests skip.
# Usage: install-tools.sh [--list]
set -euo pipefail

# program on PATH | Debian package | why
tools='
prometheus              prometheus               evaluates the shipped rules, answers the queries of dashboards
promtool                prometheus               unit tests of the rules
prometheus-alertmanager prometheus-alertmanager  takes pushed alerts, routes them, renders the templates
amtool                  prometheus-alertmanager  checks the configuration and its routes
shellcheck              shellcheck               reads the scripts in deploy
'

if [ "${1:-}" = --list ]; then
    echo "$tools" | awk 'NF { print $2 }' | sort -u
    exit
fi

missing=$(while read -r program package _why; do
    [ -z "$program" ] || command -v "$program" >/dev/null || echo "$package"
done <<<"$tools" | sort -u | tr '\n' ' ')

if [ -z "$missing" ]; then
    exit
fi
if ! command -v apt-get >/dev/null; then
    echo "not on PATH: programs of the Debian packages ${missing}(install them by your system's own means); tests that need them are skipped, or fail where CI is set." >&2
    exit
fi
if [ "$(id -u)" != 0 ]; then
    echo "not on PATH: programs of ${missing}(as root: apt-get install --no-install-recommends ${missing% }); tests that need them are skipped, or fail where CI is set." >&2
    exit
fi

echo "installing ${missing}..."
# shellcheck disable=SC2086 # a list of packages
if ! "${0%/*}/apt-install.sh" $missing; then
    echo "apt-get could not install ${missing}: see above. Tests that need them are skipped, or fail where CI is set." >&2
fi
