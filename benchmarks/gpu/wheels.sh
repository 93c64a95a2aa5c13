#!/usr/bin/env bash
# Fill benchmarks/gpu/carried/, which git ignores, with the wheels of packages that a GPU machine may lack.
#
# The machine has torch, torchvision, timm, numpy, scipy and the like, but not these, or in an older version than this project
# needs. `run.sh` installs what is missing or too old there.
# PYTHON is the Python that builds and downloads, by default python3; VERSION that of the GPU machine, by default 3.12.
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/carried
python=${PYTHON:-python3}
mkdir -p "$folder"
rm -f "$folder"/*.whl

# fvcore and iopath are published as source alone. They have no compiled parts, so a wheel built here fits everywhere.
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" fvcore iopath

# pydantic asks for one version of pydantic-core, which is compiled for each Python.
fetch() {
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${VERSION:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" "$@"
}
fetch pydantic yacs termcolor annotated-types typing-inspection portalocker typer pytest pytest-xdist
core=$(unzip -p "$folder"/pydantic-*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([0-9.]*\).*/\1/p')
fetch "pydantic-core==$core"

du -h --apparent-size "$folder"/*.whl
du -sh --apparent-size "$folder"
