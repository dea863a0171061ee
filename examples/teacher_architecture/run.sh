#!/usr/bin/env bash
# The paper's Figs. 2c, 5 (left) and 7: teachers of other depths and widths.
# About 38 minutes for the first seed and 24 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
