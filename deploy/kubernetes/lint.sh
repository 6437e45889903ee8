#!/usr/bin/env bash
# Hold the rendered overlays and the Dockerfile against checkov's rules. It has a virtual environment of its own, since it wants
# other versions than the program does, and exemptions with reasons in checkov.yaml.
# Usage: lint.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

lock=deploy/kubernetes/lint-requirements.lock venv=.venv-lint
if ! cmp --quiet "$lock" "$venv/installed"; then
    echo "installing what lints into $venv ..."
    .venv/bin/python -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement "$lock"
    cp "$lock" "$venv/installed"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:$PWD/.venv/bin
for overlay in deploy/kubernetes/overlays/*/; do
    kubectl kustomize "$overlay" >"$work/$(basename "$overlay").yaml"
done
cp deploy/image/Dockerfile "$work/Dockerfile"
"$venv/bin/checkov" --directory "$work" --framework kubernetes dockerfile --config-file deploy/kubernetes/checkov.yaml "$@"
