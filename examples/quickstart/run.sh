#!/usr/bin/env bash
# From a bare Python to a table and a page of curves: a small teacher, then a larger student
# that learns alone and one that inherits. Run it again to resume; it repeats nothing finished.
#
#   bash examples/quickstart/run.sh             one seed
#   SEEDS='1 2 3' bash examples/quickstart/run.sh    the table of the README
#   SHORTEN=40 bash examples/quickstart/run.sh  40 times fewer updates, to see that all works
#   DRY_RUN=1                                   print every command and run nothing
#   OUT=DIR                                     where everything goes (runs/quickstart, with SHORTEN
#                                               in it where it is set)
# Arguments go to `fairseq-ki experiment`.
set -euo pipefail
if [ -n "${SCALE:-}${DATA:-}${DOMAINS:-}" ]; then
    echo "expected no SCALE, DATA or DOMAINS, found" \
        "${SCALE:+SCALE=$SCALE }${DATA:+DATA=$DATA }${DOMAINS:+DOMAINS=$DOMAINS};" \
        "examples/base_to_large/run.sh is the same experiment and takes them" >&2
    exit 2
fi
cd "$(dirname "$0")/../.."
source examples/venv.sh
source examples/corpus.sh

SEEDS="${SEEDS:-1}"
SHORTEN="${SHORTEN:-1}"
if [ "$SHORTEN" = 1 ]; then OUT="${OUT:-runs/quickstart}"; fi
OUT="${OUT:-runs/quickstart_short$SHORTEN}"
command=("$PY" -m fairseq_ki.cli.main experiment examples/quickstart/recipe.yaml)
# shellcheck disable=SC2206  # one word per seed
command+=(--seeds $SEEDS --out "$OUT" --shorten "$SHORTEN" "$@")
case " $* " in *" --dry-run "* | *" --help "* | *" -h "*) DRY_RUN=1 ;; esac
if [ -n "${DRY_RUN:-}" ]; then
    command+=(--dry-run)
else
    # what is wrong with the options is said before minutes go into data
    "${command[@]}" --dry-run >/dev/null
    docs_data_bin "$OUT"
fi

echo "== train, evaluate and report (seeds: $SEEDS)"
"${command[@]}"
