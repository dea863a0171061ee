"""Metrics by hand on a few answers, and the degenerate ones that training begins with."""

import pytest

from fairseq_ki.evaluation.metrics import METRICS, REGRESSION, TITLES, score

GOLD = list("1110001110")
SAID = list("1100011110")  # 6 right; of class 1: 4 found, 2 missed, 1 wrongly; kept below


def test_by_hand():
    right = sum(a == b for a, b in zip(GOLD, SAID))
    found = sum(a == b == "1" for a, b in zip(GOLD, SAID))
    wrongly = sum(a == "0" and b == "1" for a, b in zip(GOLD, SAID))
    missed = sum(a == "1" and b == "0" for a, b in zip(GOLD, SAID))
    negatives = right - found
    f1 = 2 * found / (2 * found + wrongly + missed)
    other_f1 = 2 * negatives / (2 * negatives + wrongly + missed)
    assert score("accuracy", GOLD, SAID) == score("micro_f1", GOLD, SAID) == right / 10
    assert score("f1", GOLD, SAID) == pytest.approx(f1)
    assert score("macro_f1", GOLD, SAID) == pytest.approx((f1 + other_f1) / 2)
    root = (found + wrongly) * (found + missed) * (negatives + wrongly) * (negatives + missed)
    matthews = (found * negatives - wrongly * missed) / root**0.5
    assert score("matthews", GOLD, SAID) == pytest.approx(matthews)
    assert score("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 1.5]) == pytest.approx(0.5)
    assert score("spearman", [1.0, 2.0, 3.0], [-9.0, 5.0, 4.0]) == pytest.approx(0.5)


def test_answering_always_the_same_is_worth_nothing():
    assert score("matthews", GOLD, ["1"] * 10) == 0
    assert score("f1", GOLD, ["0"] * 10) == 0
    for metric in REGRESSION:
        assert score(metric, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == 0
    assert set(TITLES) == set(METRICS)
