"""What inheriting saves, over seeds, and what could not be compared."""

from fairseq_ki.evaluation.comparisons import compare, savings_table, verdicts
from fairseq_ki.evaluation.figures import pictures
from fairseq_ki.evaluation.results import Comparison
from fairseq_ki.evaluation.specs import Finding
from fairseq_ki.evaluation.summary import sentences


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
    assert not any(s.reached for s in end.savings)
    table = savings_table(results, [guidance, end])
    assert table.rows[0][0] == "ki vs self, end of guidance"
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
    assert "The self does not get to that PPL in its run" in second
    for run in results.arm("ki"):
        run.valid["ppl"] = [2**loss for loss in (11.5, 10.5, 10.0, 9.5)]
    for sentence in verdicts(results, compare(results)):
        assert "Inheriting saves nothing here: -" in sentence


def test_what_cannot_be_compared_is_said(results):
    results.runs = [run for run in results.runs if (run.name, run.seed) != ("self", 2)]
    for run in results.arm("ki"):
        run.teachers[0].updates = 500  # the log was cut before guidance ended
    table = savings_table(results, compare(results))
    assert [row[0] for row in table.rows] == ["ki vs self, end of guidance", "ki vs self, end"]
    assert set(table.rows[0][1:-1]) == {"–"}
    said = [s for s in sentences(results, compare(results)) if s.startswith("Not compared")]
    assert said == [
        "Not compared: ki vs self, end of guidance, since the inheriting run has no finite "
        "validation loss at update 500 (it was validated from 100 to 400).",
        "Not compared: ki vs self, end of guidance, since the run to compare with is missing.",
        "Not compared: ki vs self, end, since the run to compare with is missing.",
    ]
    results.runs = results.arm("self")
    results.findings = [Finding("It helps.", "ki < self")]  # with which verdicts are left out
    results.comparisons += [Comparison("teacher", "self")]
    *_, first, second = sentences(results, compare(results))
    assert first == "Not compared: ki vs self, end of guidance = end, since it has no run."
    assert second.startswith("Not compared: teacher vs self")
    assert "savings" not in [p.name for p in pictures(results, compare(results))]
