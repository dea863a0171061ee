#!/usr/bin/env bash
# The paper's Fig. 1c: how many of the teacher's ids have to be stored? Students that inherit from
# stores of the top 10, 50, 100 and 1000, from a store of 50 draws, and from the live teacher.
# Run it again to resume; it repeats nothing finished.
#
#   bash examples/topk/run.sh              micro sizes on two CPU cores, about an hour
#   SHORTEN=40 TEXT_LINES=4000 bash examples/topk/run.sh    to see that all works, some minutes
#   SCALE=paper DATA=DIR bash examples/topk/run.sh     the paper's sizes, for 8 GPUs
#   DRY_RUN=1                              print every command and run nothing
#   OUT=DIR                                where everything goes (runs/topk)
#   TEXT_LINES=N                           lines of the quickstart's text that are used (45000)
#   SEEDS='1 2 3'                          other seeds than the recipe's
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/venv.sh
source examples/corpus.sh

SCALE="${SCALE:-micro}"
SHORTEN="${SHORTEN:-1}"
[ "$SCALE" = micro ] && folder=runs/topk || folder="runs/topk_$SCALE"
OUT="${OUT:-$folder}"
TEXT_LINES="${TEXT_LINES:-45000}"
quickstart=runs/quickstart
options=(--out "$OUT" --shorten "$SHORTEN")
# shellcheck disable=SC2206  # one word per seed
[ -z "${SEEDS:-}" ] || options+=(--seeds $SEEDS)
[ -z "${DRY_RUN:-}" ] || options+=(--dry-run)

if [ "$SCALE" != micro ]; then
    : "${DATA:?SCALE=$SCALE needs DATA, a data-bin of your own text}"
    options+=(--scale "$SCALE")
fi
if [ -z "${DRY_RUN:-}" ]; then
    mkdir -p "$OUT"
    if [ "$SCALE" = micro ]; then
        docs_data_bin "$quickstart"
        # a store holds every sample of its data: here, a part that the students see twice
        [ -e "$OUT/part.txt" ] || head -n "$TEXT_LINES" "$quickstart/encoded/train.txt" >"$OUT/part.txt"
        step "binarise $TEXT_LINES lines" "$OUT/data-bin/train.idx" \
            "$PY" preprocess/binarize.py --train "$OUT/part.txt" \
            --valid "$quickstart/encoded/valid.txt" --model "$quickstart/spm/spm.model" \
            --out-dir "$OUT/data-bin" --workers 2
        DATA="$quickstart/data-bin"
        # the quickstart's teacher is this one: same options, same data
        if [ "$SHORTEN" = 1 ] && [ -e "$quickstart/teacher/seed1/done.json" ] && [ ! -e "$OUT/teacher" ]; then
            cp -R "$quickstart/teacher" "$OUT/teacher"
        fi
    else
        [ -e "$OUT/data-bin" ] || ln -s "$(realpath "$DATA")" "$OUT/data-bin"
    fi
    [ -e "$OUT/teacher-data-bin" ] || ln -s "$(realpath "$DATA")" "$OUT/teacher-data-bin"
fi
"$PY" -m fairseq_ki.cli.main experiment examples/topk/recipe.yaml "${options[@]}"
