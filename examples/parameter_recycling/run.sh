#!/usr/bin/env bash
# The paper's App. E, measured: growing the small model's weights, inheriting from it, and both.
# About 24 minutes for the first seed and 21 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
