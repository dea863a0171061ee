#!/usr/bin/env bash
# The temperature of the KL term, 0.5, 1, 2 and 4, which the paper never names.
# About 20 minutes for the first seed and 17 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
