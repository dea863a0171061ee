#!/usr/bin/env bash
# The paper's Table 10: inheriting is more than label smoothing.
# About 20 minutes for the first seed and 17 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
