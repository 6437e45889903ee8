#!/usr/bin/env bash
# Build the image and run it, without an engine: base by mmdebstrap, build by buildah, runs by podman and runc. Needs root.
# Usage: test.sh PYTHON     environment: BASE (an image that is here already, instead of one made anew)
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=(buildah podman runc mmdebstrap)
if ! command -v "${tools[@]}" >/dev/null || [ "$(command -v "${tools[@]}" | wc -l)" -lt ${#tools[@]} ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "image-test needs ${tools[*]} and root; as root on Debian it installs them itself." >&2
        exit 1
    fi
    echo "installing ${tools[*]} ..."
    deploy/apt-install.sh "${tools[@]}" uidmap conmon netavark
fi

# What buildah and podman say of networks that are not used here is no news.
if [ -z "${BASE:-}" ]; then
    export BASE=localhost/cascadewatch-base
    buildah inspect --type image "$BASE" >/dev/null 2>&1 || deploy/image/make-base.sh
fi
export ISOLATION=${ISOLATION:-chroot}
deploy/image/build.sh localhost/cascadewatch:latest
"$1" -m pytest -m image tests/deploy/image --durations 3
