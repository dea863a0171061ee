#!/usr/bin/env bash
# The paper's Fig. 1b: linear, constant and Heviside schedules of the inheritance rate; also cosine
# and warm-up-stable-decay.
# About 23 minutes for the first seed and 21 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
