#!/usr/bin/env bash
# Build the image with buildah (no engine, no daemon), from this work tree.
# Usage: build.sh [TAG]      environment: BASE (an image), ISOLATION (chroot where namespaces are not to be had)
set -euo pipefail
cd "$(dirname "$0")/../.."

tag=${1:-localhost/cascadewatch:latest}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The time of the last commit, for every file and for the label: the same tree gives the same image.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)

options=(--format docker --layers=false --timestamp "$epoch" --file deploy/image/Dockerfile --tag "$tag")
[ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE" --pull-never)
[ -z "${ISOLATION:-}" ] || options+=(--isolation "$ISOLATION")
# Where this machine reaches packages by settings and authorities of its own, they hold for the build, and are in no layer.
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -f "$file" ] || options+=(--volume "$file:$file:ro")
done

buildah build "${options[@]}" \
    --build-arg "SOURCE_DATE_EPOCH=$epoch" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "CREATED=$created" .
