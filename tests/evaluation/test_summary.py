"""Tables and sentences say what the numbers say."""

import math

from fairseq_ki.evaluation.savings import Spread
from fairseq_ki.evaluation.summary import (
    as_text,
    compare,
    cost_table,
    ppl_table,
    savings_table,
    verdicts,
)
from fairseq_ki.evaluation.tables import Table, count, flops, minutes, percent, ppl, with_range


def test_numbers():
    assert [ppl(v) for v in (4.284, 42.06, 728.4, 1860.2)] == ["4.28", "42.1", "728", "1,860"]
    assert (ppl(math.nan), ppl(math.inf)) == ("–", "infinite")
    assert (count(40000.0), percent(0.2727), percent(-0.5)) == ("40,000", "27.3 %", "-50.0 %")
    assert [flops(v) for v in (1.234e10, 5e15, 2e6)] == ["12.3 GFLOP", "5 PFLOP", "2 MFLOP"]
    assert [minutes(v) for v in (42, 600, 9000)] == ["42 s", "10.0 min", "2.5 h"]


def test_ranges():
    assert with_range(Spread(2, 1, 3, 2), count) == "2 [1..3]"
    assert with_range(Spread(0.25, 0.2, 0.3, 2, bound=True), percent) == ">25.0 [20.0..30.0] %"
    assert with_range(Spread(2, 2, 2, 3), count) == "2"
    assert with_range(None, count) == "–"


def test_savings_over_seeds(results):
    guidance, end = compare(results)
    assert (guidance.point, end.point) == ("end of guidance", "end")
    assert guidance.seeds == [1, 2]
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


def test_ppl_table(results):
    table = ppl_table(results)
    assert table.columns == ["run", "200", "400", "end", "the paper"]
    assert table.rows[2] == ["the ki", "512", "416", "416 at 400", "–"]
    assert table.rows[1][-1] == "LARGE: 4.60 at 40,000"


def test_cost_table(results):
    rows = {row[0]: row for row in cost_table(results).rows}
    assert "0.5" in rows["the ki"]  # 200 s for 400 updates
    assert rows["the self"][3] == "–"


def test_a_diverged_run_is_shown_as_unknown_and_not_compared(diverged):
    assert [row.seeds for row in compare(diverged)] == [[1, 2], [1, 2]]
    first = compare(diverged)[0].savings[0]
    assert not first.reached  # never gets there, which is a bound and no crash
    assert ppl_table(diverged).rows[1][1] == "1,024"  # seed 2 alone


def test_shortened_results_say_so(results):
    results.shortened = 20
    assert as_text(results).startswith("Shortened 20 times")


def test_wide_tables_are_turned_for_the_terminal():
    table = Table("T", ["run", *"abcdef"], [["x" * 30, *["1" * 20] * 6]])
    lines = table.text(width=100).splitlines()
    assert max(map(len, lines)) < 60
    assert [line.split()[0] for line in lines[4:]] == list("abcdef")
    assert Table("T", ["a"]).text() == ""


def test_markdown_and_html_escape():
    rows = [["<b>", "1 [0..2] %"], ["both", "71.2 [70.0..72.4] / 9 [8..10]"]]
    table = Table("A & B", ["run", "x|y"], rows, note="n < m")
    assert "| <b> | 1 [0..2] % |" in table.markdown()
    assert "x\\|y" in table.markdown()
    page = table.html()
    assert "&lt;b&gt;" in page
    assert "A &amp; B" in page
    assert "n &lt; m" in page
    assert "1 %<small>[0..2]</small>" in page
    assert "71.2 / 9<small>[70.0..72.4] / [8..10]</small>" in page
