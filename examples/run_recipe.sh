# The options that every example has, and the call of the driver. Sourced by examples/*/run.sh:
#
#   source "$(dirname "$0")/../run_recipe.sh"
#   run_recipe NAME...    the data-bins of the example, its own first (examples/corpus.sh)
#
#   SCALE=micro     two CPU cores (the default)
#   SCALE=full      micro sizes, with every arm of the paper's (where a recipe has it)
#   SCALE=paper     the paper's sizes, for torchrun on 8 GPUs; needs DATA
#   SCALE=gpu       real widths for a limited time on one GPU (where a recipe has it)
#   SEEDS='1 2 3'   other seeds than the recipe's
#   DRY_RUN=1       print every command and run nothing
#   SHORTEN=40      40 times fewer updates, to see that all works
#   DOMAINS=DIR     real text: DIR/pretrain/NAME.train.txt.xz, and tasks in DIR/downstream; else
#                   the documentation installed with Python and its packages
#   DATA=DIR        a data-bin of your own text; data-bins of other domains and parts beside it
#   OUT=DIR         where everything goes (runs/NAME, with SCALE and SHORTEN in it where they are set)
#   SHARED=DIR      where teachers and baselines are that several examples use (runs/shared)
#
# Arguments go to `fairseq-ki experiment` (--redo-changed). A second call goes on where the first was
# interrupted.

set -euo pipefail
arguments=("$@")
case " $* " in *" --dry-run "* | *" --help "* | *" -h "*) DRY_RUN=1 ;; esac
if [ -n "${FULL:-}" ]; then echo "expected SCALE=full, found FULL=$FULL" >&2 && exit 2; fi
example="$(basename "$(cd "$(dirname "$0")" && pwd)")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run_recipe() {
    local name="$example" scale="${SCALE:-micro}" data making="" options command
    if [ "$scale" != micro ]; then name="${example}_$scale"; fi
    if [ "${SHORTEN:-1}" != 1 ]; then name="${name}_short$SHORTEN"; fi
    source examples/venv.sh
    source examples/corpus.sh
    if [ -n "${DATA:-}" ]; then
        data="$DATA"
    elif [ "$scale" = paper ]; then
        echo "SCALE=paper needs DATA, a data-bin of your own text" >&2
        exit 2
    else
        if [ "$scale" = gpu ] && [ -n "${DOMAINS:-}" ]; then set -- all; fi
        check_domains
        data="$(corpora_folder "$@")/$1"
        if [ -z "${DRY_RUN:-}" ]; then making=1; fi
    fi
    options=(--out "${OUT:-runs/$name}" --shared "${SHARED:-runs/shared}" --data "$data")
    options+=(--shorten "${SHORTEN:-1}")
    if [ "$scale" != micro ]; then options+=(--scale "$scale"); fi
    # shellcheck disable=SC2206  # one word per seed
    if [ -n "${SEEDS:-}" ]; then options+=(--seeds $SEEDS); fi
    if [ -n "${DRY_RUN:-}" ]; then options+=(--dry-run); fi
    export DOMAINS="${DOMAINS:-}"
    command=("$PY" -m fairseq_ki.cli.main experiment "examples/$example/recipe.yaml")
    command+=("${options[@]}" "${arguments[@]}")
    if [ -n "$making" ]; then
        # what is wrong with the options is said before minutes go into data
        "${command[@]}" --dry-run >/dev/null
        data_bins "$@"
    fi
    "${command[@]}"
}
