"""Curves and costs of a run, and which run is whose partner."""

import math

import pytest


def test_ppl_and_costs_of_a_run(results):
    run = results.arm("ki")[0]
    assert run.ppl(200) == 512.0  # as logged
    assert run.ppl(150) == pytest.approx(2**9.5)
    assert math.isnan(run.ppl(401))
    # the teacher costs forward passes while it is consulted, and nothing later
    assert run.cost(100) == 30 * 100 + 2 * 100
    assert run.cost(400) == 30 * 400 + 2 * 200
    assert run.teacher_training == 6 * 400
    assert run.seconds(150) == 75
    assert run.guidance == 200


def test_runs_by_seed_and_a_fixed_one_for_all(results):
    assert [results.run("self", seed).seed for seed in (1, 2)] == [1, 2]
    assert results.run("self", 3) is None
    results.runs = [r for r in results.runs if (r.name, r.seed) != ("self", 2)]
    assert results.run("self", 2) is None  # not yet run
    for known in (True, None):  # None: an older file
        results.run("self", 1).fixed_seed = known
        assert results.run("self", 2).seed == 1


def test_a_run_is_as_long_as_its_log_and_has_its_ppl_where_it_was_validated(results):
    run = results.arm("ki")[0]
    run.train["updates"] = [100.0, 200.0, 300.0, 450.0]
    assert (run.updates, run.validated) == (450, 400)
    run.valid = {}
    assert (run.updates, run.validated) == (450, 450)
