#!/usr/bin/env bash
# Run GPU benchmarks on a machine that may have no network: bash benchmarks/gpu/run.sh PART... --seconds N
#
# `--help` lists the parts and options. Each part has its own time limit and writes one result file after every case.
# A rehearsal without a GPU, with tiny sizes: add `--device cpu --tiny`. PYTHON is the Python to use, by default python3.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m fbnetv3.benchmarks.gpu.run "$@"
