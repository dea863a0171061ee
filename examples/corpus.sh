# Makes the data-bins that the examples train on, with a SentencePiece vocabulary of 8,000; nothing
# is downloaded. Sourced, after venv.sh, by the scripts that a person runs. Repeats nothing finished.
#
#   docs_data_bin DIR        corpus/, spm/, encoded/ and data-bin/ in DIR, out of the English
#                            documentation that is installed with Python and its packages
#   check_domains            refuses a DOMAINS that has no text
#   corpora_folder NAME...   prints the folder in which data_bins makes the data-bins named NAME
#   data_bins NAME...        makes them: a domain (wb, bio, cs, ...), K of N parts of one
#                            (wb-1of16: every 16th document, from the first), or all (every domain)
#
# With DOMAINS=DIR the domains are DIR/pretrain/NAME.train.txt.xz and NAME.valid.txt.xz. Without, wb
# is the quickstart's documentation; for examples that need several domains, wb, bio and cs are that
# of different packages.

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

check_domains() { # refuses what DOMAINS names, if it has no text
    if [ -n "${DOMAINS:-}" ] && ! compgen -G "$DOMAINS/pretrain/*.train.txt.xz" >/dev/null; then
        echo "expected DOMAINS to be a folder with pretrain/NAME.train.txt.xz and" \
            "pretrain/NAME.valid.txt.xz, found $DOMAINS without" >&2
        exit 2
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

corpora_folder() {
    local name
    if [ -n "${DOMAINS:-}" ]; then
        # a folder for each source
        echo "runs/corpora/domains-$(realpath "$DOMAINS" | cksum | cut -d' ' -f1)"
        return
    fi
    for name in "$@"; do
        case "${name%-*of*}" in wb) ;; *) echo runs/corpora/packages && return ;; esac
    done
    echo runs/corpora/docs
}

data_bins() {
    local folder name whole part quickstart=runs/quickstart
    folder="$(corpora_folder "$@")"
    mkdir -p "$folder"
    if [ -n "${DOMAINS:-}" ]; then
        # one vocabulary for all domains, whichever an example needs
        step "SentencePiece model of all domains, vocabulary 8,000" "$folder/spm/dict.txt" \
            "$PY" preprocess/train_sentencepiece.py "$DOMAINS"/pretrain/*.train.txt.xz \
            --out-dir "$folder/spm" --vocab-size 8000 --sample-lines 60000 --threads 2
    else
        docs_data_bin "$quickstart"
        [ -e "$folder/spm" ] || ln -s "$(realpath "$quickstart/spm")" "$folder/spm"
    fi
    # tasks to fine-tune on, if there are any
    if [ ! -e "$folder/downstream" ]; then
        if [ -d "${DOMAINS:-}/downstream" ]; then
            ln -s "$(realpath "$DOMAINS/downstream")" "$folder/downstream"
        else
            mkdir "$folder/downstream"
        fi
    fi
    for name in "$@"; do
        whole="${name%-*of*}"
        text_of "$folder" "$whole"
        if [ "$whole" != "$name" ]; then
            part="${name##*-}"
            step "text of $name" "$folder/text/$name/corpus.json" \
                "$PY" preprocess/part.py --train "$folder/text/$whole/train.txt" \
                --valid "$folder/text/$whole/valid.txt" --out-dir "$folder/text/$name" \
                --piece-lines 40 --every "${part#*of}" --start "${part%of*}"
        fi
        step "binarise $name" "$folder/$name/train.idx" \
            "$PY" preprocess/binarize.py --fast --train "$folder/text/$name/train.txt" \
            --valid "$folder/text/$name/valid.txt" --model "$folder/spm/spm.model" \
            --out-dir "$folder/$name" --workers 2
    done
}

text_of() { # text_of FOLDER NAME: train.txt, valid.txt and corpus.json of a whole domain
    local folder="$1" name="$2" out="$1/text/$2" files
    if [ -n "${DOMAINS:-}" ]; then
        files="$name"
        [ "$name" != all ] || files="*"
        # shellcheck disable=SC2086,SC2231  # a pattern, for all domains
        step "text of $name" "$out/corpus.json" \
            "$PY" preprocess/part.py --train "$DOMAINS"/pretrain/$files.train.txt.xz \
            --valid "$DOMAINS"/pretrain/$files.valid.txt.xz --out-dir "$out"
    elif [ "$folder" = runs/corpora/docs ]; then
        mkdir -p "$folder/text"
        [ -e "$out" ] || ln -s "$(realpath runs/quickstart/corpus)" "$out"
    else
        local packages
        case "$name" in
            wb) packages="python setuptools pip numpy scikit-learn hypothesis pytest" ;;
            bio) packages="torch" ;;
            cs) packages="sympy mpmath networkx scipy" ;;
            *) echo "expected wb, bio or cs, or DOMAINS=DIR; found $name" >&2 && return 1 ;;
        esac
        # shellcheck disable=SC2086  # one word per package
        step "text of $name: documentation of $packages" "$out/corpus.json" \
            "$PY" preprocess/docs_corpus.py --packages $packages --out-dir "$out" --valid-every 100
    fi
}
