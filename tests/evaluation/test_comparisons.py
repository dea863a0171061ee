"""What inheriting saves, over seeds, and what could not be compared."""

import pytest

from fairseq_ki.evaluation.comparisons import compare, savings_table, verdicts
from fairseq_ki.evaluation.figures import pictures
from fairseq_ki.evaluation.results import Comparison
from fairseq_ki.evaluation.specs import Finding
from fairseq_ki.evaluation.summary import remarks


def test_savings_over_seeds(results):
    guidance, end = compare(results)
    assert (guidance.point, end.point) == ("end of guidance", "end")
    assert [round(s.needed, 6) for s in guidance.savings] == [300.0, 320.0]
    # 1 - 200/300 and 1 - 200/320; with the teacher 1 - 32*200/(30*needed)
    assert [round(s.updates, 4) for s in guidance.savings] == [0.3333, 0.375]
    assert [round(s.flops, 4) for s in guidance.savings] == [0.2889, 0.3333]
    assert round(guidance.savings[0].flops_with_teacher_training, 4) == round(
        1 - (6400 + 2400) / 9000, 4
    )
    assert {s.bound for s in end.savings} == {">"}
    assert not end.reached
    table = savings_table(results, [guidance, end])
    assert table.rows[0][0] == "the ki, end of guidance"
    results.comparisons.append(Comparison("self", "teacher"))
    assert savings_table(results, [guidance]).rows[0][0].startswith("the ki against the self, end")
    assert "310 [300..320]" in table.rows[0]
    assert "35.4 [33.3..37.5] %" in table.rows[0]
    assert table.rows[0][-1] == "27.3 % (BASE to LARGE)"
    assert ">400" in table.rows[1]
    assert table.rows[1][-1] == "–"


def test_guidance_until_the_end_is_one_row(results):
    for run in results.arm("ki"):
        run.teachers[0].updates = 400
    assert [row.point for row in compare(results)] == ["end of guidance = end"]


def test_verdicts_do_not_flatter(results):
    first, second = verdicts(results, compare(results))
    assert "saves 35.4 [33.3..37.5] % of the updates (in 2 of 2 seeds)" in first
    assert "31.1 [28.9..33.3] % of the FLOPs" in first
    assert "The self does not get to that PPL in its run; the ki reaches the last" in second
    assert "PPL of that run after 300 updates" in second
    for run in results.arm("ki"):
        run.valid["ppl"] = [2**loss for loss in (11.5, 10.5, 10.0, 9.5)]
    for sentence in verdicts(results, compare(results)):
        assert "Inheriting saves nothing here: -" in sentence


def without(results, name, seed):
    results.runs = [run for run in results.runs if (run.name, run.seed) != (name, seed)]


def said(results):
    return [s for s in remarks(results, compare(results)) if s.startswith("Not compared")]


@pytest.mark.parametrize("arm", ["ki", "self"])
def test_a_seed_that_is_missing_is_said(arm, results):
    without(results, arm, 2)
    assert said(results) == [
        f"Not compared: ki vs self, {point} in 1 of 2 seeds (2): {arm} has no run."
        for point in ("end of guidance", "end")
    ]


def test_a_log_that_was_cut_before_guidance_ended(results):
    for run, guidance in zip(results.arm("ki"), (500, 0)):
        run.teachers[0].updates, run.train = guidance, {}
    table = savings_table(results, compare(results))
    assert [row[0].split(", ")[1] for row in table.rows] == ["end of guidance", "end"]
    assert set(table.rows[0][1:-1]) == {"–"}
    assert said(results) == [
        "Not compared: ki vs self, end of guidance in 1 of 2 seeds (1): no finite validation "
        "loss at update 500 of the inheriting run, validated from 100 to 400.",
        "Not compared: ki vs self, end of guidance in 1 of 2 seeds (2): nothing tells how long ki "
        "was guided.",
    ]


def test_an_arm_that_was_not_run(results):
    results.runs = results.arm("self")
    results.findings = [Finding("It helps.", "ki < self")]  # with which verdicts are left out
    results.comparisons += [Comparison("teacher", "self"), Comparison("x", "y")]
    assert said(results) == [
        "Not compared: ki vs self, end in 2 of 2 seeds (1, 2): ki has no run.",
        "Not compared: teacher vs self, end in 2 of 2 seeds (1, 2): teacher has no run.",
        "Not compared: x vs y, end in 2 of 2 seeds (1, 2): x has no run.",
    ]
    assert "savings" not in [p.name for p in pictures(results, compare(results))]


def test_an_inheriting_arm_with_a_fixed_seed_is_compared_with_every_seed(results):
    without(results, "ki", 2)
    results.arm("ki")[0].fixed_seed = True
    assert [len(row.savings) for row in compare(results)] == [2, 2]
    assert said(results) == []
