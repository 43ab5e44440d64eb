#!/usr/bin/env bash
# The whole check for one GPU, at most 8 minutes; writes benchmarks/gpu.md, or --out FILE.
# `benchmarks/gpu.sh --dry` runs a tiny form on the CPU. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"
exec timeout 480 "$python" -m benchmarks.gpu "$@"
