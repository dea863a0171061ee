#!/usr/bin/env bash
# The other Python that setup.py allows, with the locked versions: all files compile, every package
# has a wheel for it, and the tests pass. Where the index has no PyTorch for it but one of gigabytes
# for CUDA, these are the tests of what needs no PyTorch.
#
#   bash tests/other_python.sh [python3.12]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/venv.sh
other="$repo/.venv/other"
[ -x "$other/bin/python" ] || "${1:-python3.12}" -m venv "$other"
PYTHONPYCACHEPREFIX="$other/compiled" "$other/bin/python" -W error -m compileall -q -f \
    setup.py fairseq_ki preprocess examples benchmarks requirements tests
locked=("$other/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps)
"${locked[@]}" -r requirements/build.lock
# antlr4-python3-runtime, which fairseq needs, comes as source for every Python
"${locked[@]}" --only-binary :all: --no-binary antlr4-python3-runtime --no-build-isolation \
    -r requirements/all.lock
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
if "${locked[@]}" --no-index -r requirements/torch.lock 2>/dev/null; then
    PYTHONPATH=. exec "$other/bin/python" -m pytest -n 2 --dist worksteal -q
fi
echo "== no PyTorch for $("$other/bin/python" --version) here: the tests that need none"
export PYTHONPATH=tests/without_torch
tests=("$other/bin/python" -m pytest -q -p bare_package)
"${tests[@]}" --confcutdir=tests/store tests/store
"${tests[@]}" --confcutdir=tests/preprocess --deselect tests/preprocess/test_steps.py::test_help \
    tests/preprocess/test_{cleaning,files,prose,text_corpus,steps}.py
"${tests[@]}" --confcutdir=tests/evaluation \
    tests/evaluation/test_{cells,claims,logs,metrics,results,savings,summary}.py
"${tests[@]}" --noconftest \
    --deselect tests/experiments/test_process.py::test_the_lock_outlives_a_killed_driver \
    tests/experiments/test_{process,recipe,repetition}.py \
    tests/objective/test_{schedules,surpassed}.py tests/downstream/test_reading.py \
    tests/test_{layers,requirements}.py
