#!/usr/bin/env bash
# Install packages by apt-get, as root, without starting the services that they bring.
# Usage: apt-install.sh PACKAGE...
set -euo pipefail

# Debian starts what it installs, on the usual ports. Its own switch against that is a program which says "not allowed" (101).
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null
apt-get install -qq -y --no-install-recommends "$@" >/dev/null
