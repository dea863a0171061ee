"""The paper's measure on curves whose answer is known."""

import math
from statistics import median

import pytest

from fairseq_ki.evaluation.savings import Curve, saving, spread


def curve(*points):
    return Curve(tuple(u for u, _ in points), tuple(loss for _, loss in points))


def test_the_papers_own_numbers():
    # LARGE: PPL 4.60 at 40k, and 4.28 at 55k; BASE->LARGE: 4.28 at 40k
    alone = curve((40_000, math.log2(4.60)), (55_000, math.log2(4.28)), (125_000, math.log2(3.58)))
    inherited = curve((40_000, math.log2(4.28)), (125_000, math.log2(3.41)))
    measured = saving(inherited, alone, 40_000)
    assert measured.needed == pytest.approx(55_000)
    assert round(measured.updates, 3) == 0.273
    assert measured.ppl == pytest.approx(4.28)
    assert measured.alone_ppl == pytest.approx(4.60)
    assert measured.bound == ""
    assert math.isnan(measured.flops)
    # at the end self-learning is not there yet
    end = saving(inherited, alone, 125_000)
    assert end.bound == ">"
    assert (end.needed, end.updates) == (125_000, 0)


def test_interpolation_is_linear_in_the_loss():
    alone = curve((100, 10.0), (200, 8.0), (300, 7.0))
    assert alone.updates_to(9.0) == 150
    assert alone.updates_to(7.25) == 275
    assert alone.updates_to(10.5) == 100
    assert alone.updates_to(6.9) is None
    assert alone.loss_at(250) == 7.5
    assert math.isnan(alone.loss_at(99))
    assert math.isnan(alone.loss_at(301))


def test_first_crossing_of_a_noisy_curve():
    assert curve((10, 5.0), (20, 3.0), (30, 4.0), (40, 2.0)).updates_to(3.5) == 17.5


def test_losses_that_are_not_finite():
    broken = curve((10, math.nan), (20, math.inf), (30, 4.0))
    assert broken.updates_to(5.0) == 30
    assert broken.updates_to(3.0) is None


def test_negative_saving():
    worse = curve((100, 9.0), (200, 8.0))
    alone = curve((100, 8.0), (200, 7.0))
    assert saving(worse, alone, 200).updates == -1


def test_flops_with_teacher():
    inherited = curve((100, 9.0), (300, 6.0))
    alone = curve((100, 9.0), (400, 6.0))

    def alone_cost(u):
        return 10.0 * u

    def inherited_cost(u):  # the teacher was consulted for 200 updates
        return 10.0 * u + 2.0 * min(u, 200)

    measured = saving(inherited, alone, 300, inherited_cost, alone_cost, teacher_training=500.0)
    assert measured.updates == 0.25
    assert measured.flops == pytest.approx(1 - 3400 / 4000)
    assert measured.flops_with_teacher_training == pytest.approx(1 - 3900 / 4000)


def test_a_point_outside_the_curve_is_refused():
    with pytest.raises(ValueError, match="at update 300 .* validated from 100 to 200"):
        saving(curve((100, 1.0), (200, 1.0)), curve((100, 1.0)), 300)
    for loss in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            saving(curve((100, 1.0), (200, loss)), curve((100, 1.0)), 200)
    with pytest.raises(ValueError, match="before its first update"):
        saving(curve((100, 1.0)), curve((0, 1.0), (100, 0.5)), 100)


def test_empty_curve_is_refused():
    with pytest.raises(ValueError, match="at least one; found 0 updates"):
        curve()


def test_spread():
    found = spread([3.0, math.nan, 1.0], ["", ">", ""])
    assert (found.middle, found.low, found.high) == (2, 1, 3)
    assert (found.count, found.total, found.bound) == (2, 3, "")
    assert spread([3.0, 1.0], [">", ""]).bound == ">"
    assert spread([3.0, 1.0, 90.0], middle=median).middle == 3
    assert spread([math.nan]) is None


def test_a_crossing_at_the_first_validation_is_a_bound():
    alone = curve((100, 9.0), (200, 8.0))
    found = saving(curve((100, 9.5), (400, 9.2)), alone, 400)
    assert (found.needed, found.bound, found.updates) == (100, "<", -3.0)


def test_training_of_the_teacher_of_either_run_counts_as_cost():
    inherited, alone = curve((100, 9.0), (200, 8.0)), curve((100, 9.5), (400, 8.0))
    cost = float
    found = saving(inherited, alone, 200, cost, cost, 100.0, 200.0)
    assert found.flops_with_teacher_training == 1 - (200 + 100) / (400 + 200)
