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

OUT="${OUT:-runs/quickstart}"
SEEDS="${SEEDS:-1}"
SHORTEN="${SHORTEN:-1}"
mkdir -p "$OUT"

step() { # step NAME FILE COMMAND...: run COMMAND unless FILE, its last product, is there
    local name="$1" product="$2"
    shift 2
    if [ -e "$product" ]; then
        echo "== $name: done before ($product)"
    else
        echo "== $name"
        "$@"
    fi
}

corpus="$OUT/corpus"
step "corpus: English documentation installed with Python and its packages" "$corpus/corpus.json" \
    "$PY" preprocess/docs_corpus.py --out-dir "$corpus" --valid-every 100
step "SentencePiece model, vocabulary 8,000" "$OUT/spm/dict.txt" \
    "$PY" preprocess/train_sentencepiece.py "$corpus/train.txt" --out-dir "$OUT/spm" \
    --vocab-size 8000 --threads 2
for split in train valid; do
    step "encode $split.txt" "$OUT/encoded/$split.txt" \
        "$PY" preprocess/encode.py "$corpus/$split.txt" --model "$OUT/spm/spm.model" \
        --out "$OUT/encoded/$split.txt" --workers 2
done
step "binarise with fairseq-preprocess" "$OUT/data-bin/train.idx" \
    "$PY" preprocess/binarize.py --train "$OUT/encoded/train.txt" \
    --valid "$OUT/encoded/valid.txt" --model "$OUT/spm/spm.model" \
    --corpus "$corpus/corpus.json" --out-dir "$OUT/data-bin" --workers 2

echo "== train, evaluate and report (seeds: $SEEDS)"
# shellcheck disable=SC2086  # one word per seed
"$PY" -m fairseq_ki.cli.main experiment examples/quickstart/recipe.yaml --out "$OUT" \
    --seeds $SEEDS --shorten "$SHORTEN"
