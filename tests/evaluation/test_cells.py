"""Every form of a cell against the made-up results, whose numbers are known."""

import math

import pytest

from fairseq_ki.evaluation.cells import Cell, over_seeds, parse, value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("ki", Cell("ki")),
        ("ki@32%", Cell("ki", point="32%")),
        ("ki@12.5%", Cell("ki", point="12.5%")),
        ("ki@guidance", Cell("ki", point="guidance")),
        ("ki@cost:self", Cell("ki", point="cost:self")),
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


def test_values(results):
    assert value(results, parse("ki"), 1) == pytest.approx(2**8.7, abs=0.01)
    assert value(results, parse("ki@50%"), 1) == 512
    assert value(results, parse("ki@62.5%"), 1) == pytest.approx(2**8.9)  # between validations
    assert value(results, parse("ki@guidance"), 1) == 512
    assert value(results, parse("ki~self"), 2) == pytest.approx(1 - 200 / 320)
    assert math.isnan(value(results, parse("self@guidance"), 1))
    assert math.isnan(value(results, parse("absent"), 1))


def test_at_equal_cost(results):
    # self: 30 an update, 12,000 in all; ki: 32 until 200, then 30: 12,000 after 386.67 updates
    expected = 2 ** (8.8 - 0.1 * 0.8666667)
    assert value(results, parse("ki@cost:self"), 1) == pytest.approx(expected, rel=1e-5)
    assert value(results, parse("self@cost:ki"), 1) == results.arm("self")[0].ppl(400)


def test_metrics_of_commands_and_domains(results):
    run = results.arm("ki")[0]
    run.metrics = {"f1": 71.25}
    run.valid["wb_ppl"] = [9.0, 8.0, 7.0, 6.5]
    assert value(results, parse("ki:f1"), 1) == 71.25
    assert value(results, parse("ki:wb_ppl"), 1) == 6.5
    assert math.isnan(value(results, parse("ki:f1"), 2))
    assert parse("ki:f1").show(71.25) == "71.2"
    assert parse("ki:wb_ppl").show(6.5) == "6.50"
    assert parse("ki~self").show(0.25) == "25.0 %"


def test_an_arm_with_one_seed_serves_all(results):
    results.runs = [run for run in results.runs if (run.name, run.seed) != ("teacher", 2)]
    assert value(results, parse("teacher"), 2) == 256
    found = over_seeds(results, parse("ki~self"))
    assert (round(found.low, 4), round(found.high, 4)) == (0.3333, 0.375)
