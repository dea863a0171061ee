#!/usr/bin/env bash
# The paper's Fig. 2a: GPT models of growing size, each alone and inheriting from the next smaller
# one.
# About 19 minutes for the first seed and 16 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
