#!/usr/bin/env bash
# Makes .venv if it is missing and passes the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/venv.sh
exec "$PY" -m pytest "$@"
