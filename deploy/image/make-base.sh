#!/usr/bin/env bash
# Make a base image from Debian's own packages, for machines that reach no registry of images: localhost/cascadewatch-base,
# with Python, its venv module, certificates and the C++ library, without a package manager. Needs root, mmdebstrap and buildah; takes minutes.
# Usage: make-base.sh [SUITE]
set -euo pipefail

suite=${1:-bookworm}
name=localhost/cascadewatch-base
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A fixed time makes the tar file, and so the image, the same for the same packages.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}

mmdebstrap --quiet --variant=essential --include=python3,python3-venv,ca-certificates,libstdc++6 \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/base.tar"

container=$(buildah from --quiet scratch)
buildah add --quiet "$container" "$work/base.tar" / >/dev/null
buildah config --env PATH=/usr/local/bin:/usr/bin:/bin "$container"
buildah commit --quiet --rm --timestamp "$SOURCE_DATE_EPOCH" "$container" "$name" >/dev/null
echo "$name"
