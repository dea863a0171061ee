#!/usr/bin/env bash
# From a RoBERTa of Hugging Face to a larger student and back to pipeline("fill-mask").
#
#   bash examples/huggingface/run.sh             a small RoBERTa is made on the spot (transformers)
#   MODEL=DIR bash examples/huggingface/run.sh   yours: a directory with config.json and safetensors
#   TRAIN=FILE VALID=FILE                        your text; else documentation installed with Python
#   ARCH=roberta_large ...                       the student (roberta_micro_4x192)
#   SHORTEN=40                                   40 times fewer updates, to see that all works
#   OUT=DIR                                      where everything goes (runs/huggingface)
#
# About 12 minutes on two cores. Run it again to resume; it repeats nothing finished.
set -euo pipefail
if [ $# -gt 0 ] || [ -n "${DRY_RUN:-}" ]; then
    echo "expected no arguments and no DRY_RUN, found${DRY_RUN:+ DRY_RUN=$DRY_RUN}${*:+ $*};" \
        "the variables are at the top of $0" >&2
    exit 2
fi
cd "$(dirname "$0")/../.."
SHORTEN="${SHORTEN:-1}"
case "$SHORTEN" in
    [1-9] | [1-7][0-9] | 80) ;; # leaves a warm-up of at least one update
    *) echo "expected SHORTEN to be a whole number from 1 to 80, found $SHORTEN" >&2 && exit 2 ;;
esac
if [ -n "${TRAIN:-}${VALID:-}" ]; then
    for file in "${TRAIN:-}" "${VALID:-}"; do
        if [ ! -r "$file" ]; then
            echo "expected files of text in TRAIN and VALID, both or none," \
                "found TRAIN=${TRAIN:-} VALID=${VALID:-}" >&2
            exit 2
        fi
    done
fi
if [ -n "${MODEL:-}" ] && [ ! -e "$MODEL/config.json" ]; then
    echo "expected MODEL to be a directory with config.json and model.safetensors, found $MODEL" >&2
    exit 2
fi
[ -n "${PY:-}" ] || source examples/venv.sh
source examples/corpus.sh

OUT="${OUT:-runs/huggingface}"
ARCH="${ARCH:-roberta_micro_4x192}"
KI=("$PY" -m fairseq_ki.cli.main)
updates=$((800 / SHORTEN))
mkdir -p "$OUT"

if [ -z "${TRAIN:-}" ]; then
    step "text: English documentation installed with Python and its packages" \
        "$OUT/corpus/corpus.json" \
        "$PY" preprocess/docs_corpus.py --out-dir "$OUT/corpus" --valid-every 100
    TRAIN="$OUT/corpus/train.txt"
    VALID="$OUT/corpus/valid.txt"
fi
if [ -z "${MODEL:-}" ]; then
    MODEL="$OUT/small-roberta"
    step "a small RoBERTa, with transformers alone" "$MODEL/config.json" \
        "$PY" examples/huggingface/small_roberta.py "$TRAIN" "$MODEL" --updates "$updates"
fi

step "the model as a fairseq checkpoint" "$OUT/teacher/model.pt" \
    "${KI[@]}" convert from-hf "$MODEL" --out "$OUT/teacher/model.pt"
step "encode the training text with its tokenizer" "$OUT/train.symbols" \
    "${KI[@]}" convert encode "$MODEL" "$TRAIN" --out "$OUT/train.symbols"
step "encode the validation text" "$OUT/valid.symbols" \
    "${KI[@]}" convert encode "$MODEL" "$VALID" --out "$OUT/valid.symbols"
step "binarise with its dictionary" "$OUT/data-bin/valid.idx" \
    "$PY" -m fairseq_cli.preprocess --only-source --srcdict "$OUT/teacher/dict.txt" \
    --trainpref "$OUT/train.symbols" --validpref "$OUT/valid.symbols" \
    --destdir "$OUT/data-bin" --workers 2
step "the student inherits ($ARCH)" "$OUT/student/finished" \
    "$PY" -m fairseq_cli.train "$OUT/data-bin" --user-dir fairseq_ki --task ki_mlm --criterion ki \
    --arch "$ARCH" --ki-teacher "$OUT/teacher/model.pt" --ki-steps "$((updates / 2))" \
    --ki-temperature 1 --tokens-per-sample 128 --batch-size 16 --skip-invalid-size-inputs-valid-test \
    --optimizer adam --adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 1.0 --lr 1e-3 \
    --lr-scheduler polynomial_decay --warmup-updates "$((updates / 10))" \
    --total-num-update "$updates" --max-update "$updates" --dropout 0.1 --attention-dropout 0.1 \
    --validate-interval-updates "$updates" --no-epoch-checkpoints --log-interval 50 \
    --save-dir "$OUT/student"
touch "$OUT/student/finished"
step "back to transformers" "$OUT/student-hf/config.json" \
    "${KI[@]}" convert to-hf "$OUT/student/checkpoint_best.pt" --tokenizer "$MODEL" \
    --out "$OUT/student-hf"

echo '== pipeline("fill-mask")'
HF_HUB_OFFLINE=1 "$PY" - "$OUT/student-hf" <<'PYTHON'
import sys

from transformers import pipeline

fill = pipeline("fill-mask", model=sys.argv[1])
for guess in fill(f"Return the {fill.tokenizer.mask_token} of items in the list.", top_k=3):
    print(f"{guess['score']:.3f}  {guess['sequence']}")
PYTHON
echo "the student as transformers loads it: $OUT/student-hf"
