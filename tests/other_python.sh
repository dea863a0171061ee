#!/usr/bin/env bash
# What needs no PyTorch (stores, the cleaning of text), on the other Python that setup.py allows,
# with the locked versions. For an index that has no PyTorch for it but one of gigabytes for CUDA.
#
#   bash tests/other_python.sh [python3.12]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/venv.sh
other="$repo/.venv/other"
[ -x "$other/bin/python" ] || "${1:-python3.12}" -m venv "$other"
"$PY" - >"$other/wanted.txt" <<'PY'
import sys

sys.path.insert(0, "requirements")
from lock import HERE, parse

WANTED = """numpy scipy sentencepiece pytest pytest-timeout hypothesis
iniconfig packaging pluggy pygments sortedcontainers""".split()
for pin in parse((HERE / "all.lock").read_text()):
    if pin.name in WANTED:
        print(pin)
PY
"$other/bin/python" -m pip install -q --require-hashes --no-deps -r "$other/wanted.txt"
export PYTHONPATH=tests/without_torch
tests=("$other/bin/python" -m pytest -q -p bare_package)
"${tests[@]}" --confcutdir=tests/store tests/store
"${tests[@]}" --confcutdir=tests/preprocess --deselect tests/preprocess/test_steps.py::test_help \
    tests/preprocess/test_{cleaning,files,prose,text_corpus,steps}.py
