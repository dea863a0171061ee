#!/usr/bin/env bash
# The tests and ruff with the lowest versions that setup.py allows (PyTorch: the locked one). Not
# mypy, which reads the types of the packages: older ones have fewer. Arguments go to pytest.
#
#   bash tests/lowest_versions.sh [tests/convert ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/venv.sh
lowest="$repo/.venv/lowest"
[ -x "$lowest/bin/python" ] || "$PY" -m venv "$lowest"
UNLOCKED= install_packages "$lowest/bin/python" lowest.lock >"$lowest/install.log" 2>&1 || {
    tail -n 20 "$lowest/install.log" >&2
    exit 1
}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$lowest/bin/python" -m ruff check .
"$lowest/bin/python" -m ruff format --check .
exec "$lowest/bin/python" -m pytest -n 2 --dist worksteal "$@"
