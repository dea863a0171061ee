#!/usr/bin/env bash
# The paper's A.3: smaller batches, for as many more updates.
# About 28 minutes for the first seed and 25 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
