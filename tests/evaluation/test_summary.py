"""Tables and sentences say what the numbers say."""

import math

from fairseq_ki.evaluation.comparisons import compare
from fairseq_ki.evaluation.savings import Spread
from fairseq_ki.evaluation.summary import (
    as_text,
    cost_table,
    ppl_table,
    remarks,
)
from fairseq_ki.evaluation.tables import Table, count, flops, minutes, percent, ppl, with_range


def test_numbers():
    assert [ppl(v) for v in (4.284, 42.06, 728.4, 1860.2)] == ["4.28", "42.1", "728", "1,860"]
    assert (ppl(math.nan), ppl(math.inf)) == ("–", "infinite")
    assert (count(40000.0), percent(0.2727), percent(-0.5)) == ("40,000", "27.3 %", "-50.0 %")
    assert [flops(v) for v in (1.234e10, 5e15, 2e6)] == ["12.3 GFLOP", "5 PFLOP", "2 MFLOP"]
    assert [minutes(v) for v in (42, 600, 9000)] == ["42 s", "10.0 min", "2.5 h"]


def test_ranges():
    assert with_range(Spread(2, 1, 3, 2, 2), count) == "2 [1..3]"
    assert with_range(Spread(0.25, 0.2, 0.3, 2, 2, bound=">"), percent) == ">25.0 [20.0..30.0] %"
    assert with_range(Spread(2, 2, 2, 3, 3), count) == "2"
    assert with_range(Spread(2, 1, 3, 2, 3), count) == "2 [1..3] (2 of 3 seeds)"
    assert with_range(None, count) == "–"


def test_seeds_of_unequal_length(results):
    cut = results.arm("ki")[1]
    cut.valid = {name: column[:3] for name, column in cut.valid.items()}
    cut.train["updates"] = [100.0, 200.0, 300.0, 390.0]  # logged beyond its last validation
    assert (cut.updates, cut.validated) == (390, 300)
    assert ppl_table(results).rows[2][2:4] == ["416 (1 of 2 seeds)", "446 at 300"]
    (said,) = (s for s in remarks(results, compare(results)) if "equally far" in s)
    assert "the ki, validated last at 400, 300 updates" in said


def test_ppl_table(results):
    table = ppl_table(results)
    assert table.columns == ["run", "200", "400", "end", "the paper"]
    assert table.rows[2] == ["the ki", "512", "416", "416 at 400", "–"]
    assert table.rows[1][-1] == "LARGE: 4.60 at 40,000"


def test_cost_table(results):
    rows = {row[0]: row for row in cost_table(results).rows}
    assert "0.5" in rows["the ki"]  # 200 s for 400 updates
    assert rows["the self"][3] == "–"


def test_a_run_that_was_held_up_does_not_move_the_times(make_results):
    results = make_results(seeds=(1, 2, 3))
    results.run("ki", 3).wall_seconds = 20_000.0
    rows = {row[0]: row for row in cost_table(results).rows}
    assert rows["the ki"][5:7] == ["0.5 [0.5..50]", "3.3 min [3.3 min..5.6 h]"]


def test_a_diverged_run_is_shown_as_unknown_and_not_compared(diverged):
    assert [len(row.savings) for row in compare(diverged)] == [2, 2]
    first = compare(diverged)[0].savings[0]
    assert first.bound == ">"  # never gets there, which is a bound and no crash
    assert ppl_table(diverged).rows[1][1] == "1,024 (1 of 2 seeds)"


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
    assert "| &lt;b> | 1 [0..2] % |" in table.markdown()
    assert "n < m" in table.markdown()
    assert "\n| two lines | 1 |" in Table("T", ["a", "b"], [["two\nlines", "1"]]).markdown()
    assert "x\\|y" in table.markdown()
    page = table.html()
    assert "&lt;b&gt;" in page
    assert "A &amp; B" in page
    assert "n &lt; m" in page
    assert "1 %<small>[0..2]</small>" in page
    assert "71.2 / 9<small>[70.0..72.4] / [8..10]</small>" in page
