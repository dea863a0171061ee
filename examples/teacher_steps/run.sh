#!/usr/bin/env bash
# Teachers trained a quarter, half, once and twice as long (the paper: 62.5k to 500k updates).
# About 28 minutes for the first seed and 17 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
