#!/usr/bin/env bash
# The paper's Fig. 3: the size (a), the domain (b) and the privacy (c) of the teacher's data.
# About 50 minutes for the first seed and 31 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb cs wb-1of2 wb-2of2 wb-1of4 wb-1of8 wb-1of16
