#!/usr/bin/env bash
# What the paper left open: how long to follow, what to store, teaching oneself.
# About 41 minutes for the first seed and 34 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb wb-1of4
