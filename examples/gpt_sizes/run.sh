#!/usr/bin/env bash
# The paper's Fig. 2a: GPT models of growing size, each alone and inheriting from the next
# smaller one. Run it again to resume; it repeats nothing finished.
#
#   bash examples/gpt_sizes/run.sh              micro sizes on two CPU cores, two seeds
#   SHORTEN=40 bash examples/gpt_sizes/run.sh   40 times fewer updates, to see that all works
#   SCALE=paper DATA=DIR bash examples/gpt_sizes/run.sh    the paper's sizes, for 8 GPUs
#   DRY_RUN=1                                   print every command and run nothing
#   OUT=DIR                                     where everything goes (runs/gpt_sizes)
#   DATA=DIR                                    a data-bin (that of the quickstart)
#   SEEDS='1 2 3'                               other seeds than the recipe's
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/venv.sh
source examples/corpus.sh

SCALE="${SCALE:-}"
OUT="${OUT:-runs/gpt_sizes${SCALE:+_$SCALE}}"
options=(--out "$OUT" --shorten "${SHORTEN:-1}")
# shellcheck disable=SC2206  # one word per seed
[ -z "${SEEDS:-}" ] || options+=(--seeds $SEEDS)
[ -z "${DRY_RUN:-}" ] || options+=(--dry-run)
if [ -n "$SCALE" ]; then
    : "${DATA:?SCALE=$SCALE needs DATA, a data-bin of your own text}"
    options+=(--scale "$SCALE" --data "$DATA")
elif [ -n "${DATA:-}" ]; then
    options+=(--data "$DATA")
elif [ -z "${DRY_RUN:-}" ]; then
    docs_data_bin runs/quickstart
fi
"$PY" -m fairseq_ki.cli.main experiment examples/gpt_sizes/recipe.yaml "${options[@]}"
