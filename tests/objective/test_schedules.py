import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_ki.objective.schedules import SCHEDULES, Schedule, default_rate

# The paper's Table 7: updates of teacher-guided learning per pair; T is 125k updates for RoBERTa.
TABLE_7 = {
    "MEDIUM->BASE": 35_000,
    "D_384->BASE": 28_000,
    "D_672->BASE": 85_000,
    "H_4->BASE": 22_000,
    "BASE->BASE_PLUS": 55_000,
    "BASE->LARGE": 40_000,
    "BASE_PLUS->LARGE": 65_000,
    "BASE->BASE_PLUS->LARGE": 75_000,
    "GPT 73M->124M": 10_000,
    "GPT 773M->1B": 20_000,
}


def make(name: str, steps: int = 100, rate: float = 1.0) -> Schedule:
    return Schedule(name, rate, 0 if name == "constant" else steps)


@pytest.mark.parametrize("pair", TABLE_7)
def test_linear_is_the_formula_of_the_paper(pair):
    steps, total = TABLE_7[pair], 125_000
    alpha_t = total / steps  # S = T / alpha_T
    schedule = Schedule("linear", 1.0, steps)
    for t in (0, 1, steps // 3, steps - 1, steps, steps + 1, total):
        assert schedule.alpha(t) == pytest.approx(max(1 - alpha_t * t / total, 0), abs=1e-12)
    assert schedule.alpha(0) == 1.0
    assert schedule.zero_from() == steps


def test_values_at_known_points():
    assert [make("linear", 4, 0.8).alpha(t) for t in range(6)] == pytest.approx(
        [0.8, 0.6, 0.4, 0.2, 0.0, 0.0]
    )
    assert [make("heaviside", 3).alpha(t) for t in range(5)] == [1, 1, 1, 0, 0]
    assert [make("constant", rate=0.5).alpha(t) for t in (0, 7, 10**9)] == [0.5] * 3
    assert [make("cosine", 4).alpha(t) for t in range(5)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * t / 4)) for t in range(5)]
    )
    wsd = make("wsd", 100)
    assert [wsd.alpha(t) for t in (0, 4, 9, 10, 69, 70, 85, 100)] == pytest.approx(
        [0.1, 0.5, 1, 1, 1, 1, 0.5, 0]
    )


def test_default_rates_are_the_papers():
    assert {name: default_rate(name) for name in SCHEDULES} == {
        "linear": 1.0,
        "constant": 0.5,
        "heaviside": 1.0,
        "cosine": 1.0,
        "wsd": 1.0,
    }


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 10**9),
    st.floats(1e-6, 1.0),
    st.floats(0, 1.2),
)
def test_alpha_stays_in_range_and_is_zero_exactly_from_zero_from(name, steps, rate, where):
    schedule = make(name, steps, rate)
    t = int(where * steps)
    end = schedule.zero_from()
    assert 0.0 <= schedule.alpha(t) <= rate
    assert (schedule.alpha(t) == 0.0) == (end is not None and t >= end)
    if end is not None:
        assert schedule.alpha(end - 1) > 0.0  # a teacher is never let go early


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["linear", "heaviside", "cosine"]), st.integers(1, 500))
def test_all_but_wsd_never_rise(name, steps):
    alphas = [make(name, steps).alpha(t) for t in range(steps + 2)]
    assert alphas == sorted(alphas, reverse=True)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"name": "Linear", "steps": 5}, ["linear, constant", "'Linear'"]),
        ({"steps": 0}, ["steps > 0", "got 0"]),
        ({"steps": -3}, ["steps > 0", "got -3"]),
        ({"steps": 2.5}, ["whole number", "2.5"]),
        ({"steps": math.nan}, ["whole number", "nan"]),
        ({"steps": math.inf}, ["whole number", "inf"]),
        ({"steps": 5, "rate": 0.0}, ["above 0", "got 0.0"]),
        ({"steps": 5, "rate": 1.01}, ["at most 1", "1.01"]),
        ({"steps": 5, "rate": math.nan}, ["above 0", "nan"]),
        ({"name": "constant", "steps": 5}, ["throughout", "got 5", "heaviside"]),
    ],
)
def test_wrong_values_are_refused_with_expected_and_found(kwargs, words):
    with pytest.raises(ValueError) as error:
        Schedule(**kwargs)
    assert all(word in str(error.value) for word in words)


def test_negative_update_is_refused():
    with pytest.raises(ValueError, match="0 or more, got -1"):
        make("linear").alpha(-1)
