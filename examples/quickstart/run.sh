#!/usr/bin/env bash
# From a bare Python to a table and a page of curves: a small teacher, then a larger student
# that learns alone and one that inherits. Run it again to resume; it repeats nothing finished.
#
#   bash examples/quickstart/run.sh             one seed
#   SEEDS='1 2 3' bash examples/quickstart/run.sh    the table of the README
#   SHORTEN=40 bash examples/quickstart/run.sh  40 times fewer updates, to see that all works
#   OUT=DIR                                     where everything goes (runs/quickstart)
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/venv.sh
source examples/corpus.sh

OUT="${OUT:-runs/quickstart}"
SEEDS="${SEEDS:-1}"
SHORTEN="${SHORTEN:-1}"
docs_data_bin "$OUT"

echo "== train, evaluate and report (seeds: $SEEDS)"
# shellcheck disable=SC2086  # one word per seed
"$PY" -m fairseq_ki.cli.main experiment examples/quickstart/recipe.yaml --out "$OUT" \
    --seeds $SEEDS --shorten "$SHORTEN"
