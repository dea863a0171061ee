"""The rule that lets a teacher go."""

import math

import pytest

from fairseq_ki.objective.surpassed import SurpassedMonitor


def test_only_an_unbroken_window_counts():
    monitor = SurpassedMonitor(3)
    losses = [(1, 2), (1, 2), (2, 2), (1, 2), (1, 2), (1, 2)]
    assert [monitor.observe(*pair) for pair in losses] == [False] * 5 + [True]


@pytest.mark.parametrize("pair", [(math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_broken_numbers_prove_nothing(pair):
    monitor = SurpassedMonitor(1)
    assert not monitor.observe(*pair)
    assert monitor.streak == 0


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="at least 1 update, found 0"):
        SurpassedMonitor(0)
