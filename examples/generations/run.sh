#!/usr/bin/env bash
# The paper's Fig. 2b: G1 teaches G2, which teaches G3, against every shorter way.
# About 39 minutes for the first seed and 36 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
