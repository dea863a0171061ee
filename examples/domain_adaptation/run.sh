#!/usr/bin/env bash
# The paper's Tables 2, 3, 4 and 9 and Fig. 5: adapting to other domains by self-learning and with
# domain teachers, what is forgotten, and what helps against it. SCALE=full: all of its data sizes.
# About 50 minutes for the first seed and 44 for each further one, on two quiet cores.
# SEEDS, DRY_RUN, SHORTEN, SCALE, DOMAINS, DATA, OUT: see examples/run_recipe.sh.
source "$(dirname "$0")/../run_recipe.sh"
parts="8 32"
if [ "${SCALE:-micro}" != micro ]; then parts="17 34 85 170"; fi
names="wb cs bio"
for n in $parts; do names="$names cs-1of$n bio-1of$n"; done
# shellcheck disable=SC2086  # one word per name
run_recipe $names
