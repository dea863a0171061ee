# Makes a data-bin out of the English documentation that is installed with Python and its
# packages, with a SentencePiece vocabulary of 8,000; nothing is downloaded. Sourced, after
# venv.sh, by the scripts that a person runs.
#
#   docs_data_bin DIR     corpus/, spm/, encoded/ and data-bin/ in DIR; repeats nothing finished

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

docs_data_bin() {
    local dir="$1" corpus="$1/corpus" split
    mkdir -p "$dir"
    step "corpus: English documentation installed with Python and its packages" \
        "$corpus/corpus.json" \
        "$PY" preprocess/docs_corpus.py --out-dir "$corpus" --valid-every 100
    step "SentencePiece model, vocabulary 8,000" "$dir/spm/dict.txt" \
        "$PY" preprocess/train_sentencepiece.py "$corpus/train.txt" --out-dir "$dir/spm" \
        --vocab-size 8000 --threads 2
    for split in train valid; do
        step "encode $split.txt" "$dir/encoded/$split.txt" \
            "$PY" preprocess/encode.py "$corpus/$split.txt" --model "$dir/spm/spm.model" \
            --out "$dir/encoded/$split.txt" --workers 2
    done
    step "binarise with fairseq-preprocess" "$dir/data-bin/train.idx" \
        "$PY" preprocess/binarize.py --train "$dir/encoded/train.txt" \
        --valid "$dir/encoded/valid.txt" --model "$dir/spm/spm.model" \
        --corpus "$corpus/corpus.json" --out-dir "$dir/data-bin" --workers 2
}
