#!/usr/bin/env bash
# The paper's Fig. 1c: how many of the teacher's ids have to be stored? Stores of the top 10, 50,
# 100 and 1000, a store of 50 draws, and the live teacher.
# About 37 minutes for the first seed and 27 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb wb-1of4
