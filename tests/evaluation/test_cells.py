"""Every form of a cell against the made-up results, whose numbers are known."""

import math

import pytest

from fairseq_ki.evaluation.cells import Cell, Value, over_seeds, parse, value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("ki", Cell("ki")),
        ("ki@32%", Cell("ki", point="32%")),
        ("ki@12.5%", Cell("ki", point="12.5%")),
        ("ki@guidance", Cell("ki", point="guidance")),
        ("ki@cost:self", Cell("ki", point="cost:self")),
        ("self@guidance:ki", Cell("self", point="guidance:ki")),
        ("both_1:wb_ppl", Cell("both_1", metric="wb_ppl")),
        (" ki~self ", Cell("ki", alone="self")),
    ],
)
def test_forms(text, cell):
    assert parse(text) == cell


@pytest.mark.parametrize("text", ["", "ki@", "ki@32", "ki@end", "ki self", "ki~", "1ki"])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match="NAME~NAME"):
        parse(text)


def number(results, text, seed=1):
    found = value(results, parse(text), seed)
    assert not found.bound
    return found.number


def test_values(results):
    assert number(results, "ki") == pytest.approx(2**8.7)
    assert number(results, "ki@50%") == pytest.approx(512)
    assert number(results, "ki@62.5%") == pytest.approx(2**8.9)  # between validations
    assert number(results, "ki@guidance") == pytest.approx(512)
    assert number(results, "self@guidance:ki") == pytest.approx(1024)
    assert number(results, "ki~self", 2) == pytest.approx(1 - 200 / 320)
    assert math.isnan(number(results, "self@guidance"))
    assert math.isnan(number(results, "ki@guidance:self"))
    assert math.isnan(number(results, "absent"))


def test_a_saving_may_be_a_bound(results):
    results.arm("self")[0].valid["ppl"] = [2**11, 2**10, 2**9.5, 2**9.5]  # never at ki's 512
    found = value(results, parse("ki~self"), 1)
    assert found == Value(pytest.approx(1 - 200 / 400), bound=">")
    assert over_seeds(results, parse("ki~self")).bound


def test_guidance_that_only_the_log_knows(results):
    run = results.arm("ki")[0]
    run.teachers = []  # such as with a store that no run of the recipe has made
    assert run.guidance == 200
    assert number(results, "ki@guidance") == pytest.approx(512)


def test_at_equal_cost(results):
    # self: 30 an update, 12,000 in all; ki: 32 until 200, then 30: 12,000 after 386.67 updates
    expected = 2 ** (8.8 - 0.1 * 0.8666667)
    assert number(results, "ki@cost:self") == pytest.approx(expected, rel=1e-5)
    assert number(results, "self@cost:ki") == results.arm("self")[0].ppl(400)
    results.arm("ki")[0].flops = None
    assert math.isnan(number(results, "ki@cost:self"))


def test_metrics_of_commands_and_domains(results):
    run = results.arm("ki")[0]
    run.metrics = {"f1": 71.25}
    run.valid["wb_ppl"] = [9.0, 8.0, 7.0, 6.5]
    assert number(results, "ki:f1") == 71.25
    assert number(results, "ki:wb_ppl") == 6.5
    assert math.isnan(number(results, "ki:f1", 2))
    assert parse("ki:f1").show(71.25) == "71.2"
    assert parse("ki:wb_ppl").show(6.5) == "6.50"
    assert parse("ki~self").show(0.25) == "25.0 %"


def test_an_arm_with_a_fixed_seed_serves_all_and_an_unfinished_one_does_not(results):
    results.runs = [run for run in results.runs if (run.name, run.seed) != ("teacher", 2)]
    assert math.isnan(number(results, "teacher", 2))
    results.arm("teacher")[0].fixed_seed = True
    assert number(results, "teacher", 2) == pytest.approx(256)
    found = over_seeds(results, parse("ki~self"))
    assert (round(found.low, 4), round(found.high, 4)) == (0.3333, 0.375)
