#!/usr/bin/env bash
# The paper's Fig. 1a, Tables 1 and 5 and Fig. 6: a small teacher, a larger student, what it saves,
# and what it gives on GLUE.
# About 18 minutes for the first seed and 15 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
run_recipe wb
