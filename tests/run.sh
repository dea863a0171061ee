#!/usr/bin/env bash
# Makes .venv if it is missing and passes the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/venv.sh
# one process per core of the two that are promised; torch gets one thread in each
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PY" -m pytest -n 2 --dist worksteal "$@"
