"""Tables with the paper's rows, and findings that are judged by their rules alone."""

import math

import pytest

from fairseq_ki.evaluation.claims import (
    HOLDS,
    NOT,
    UNDECIDED,
    UNTRIED,
    judged,
    own_tables,
    parse_rule,
)
from fairseq_ki.evaluation.results_page import Example, results_page
from fairseq_ki.evaluation.specs import Finding, TableRow, TableSpec


def verdict(results, rule):
    results.findings = [Finding("The claim.", rule)]
    return judged(results)[0]


def test_verdicts(results):
    first = verdict(results, "ki@50% < self@50%")
    assert first.verdict == HOLDS
    assert first.said == "Holds at this size (true in 2 of 2 seeds)"
    assert first.reason == "The claim. Measured: the ki: 512 < the self: 1,024."
    assert verdict(results, "ki@50% > self@50%").verdict == NOT
    # 1/3 with seed 1, 0.375 with seed 2
    half = verdict(results, "ki~self > 0.35")
    assert half.verdict == UNDECIDED
    assert "in 1 of 2 seeds" in half.said
    assert verdict(results, "teacher < ki < self").verdict == HOLDS
    assert verdict(results, "teacher < self < ki").verdict == NOT
    assert verdict(results, "ki@50% <= 2 * teacher@50%").verdict == HOLDS
    assert verdict(results, "ki@50% <= 1.01 * teacher").verdict == NOT
    assert (
        "512.00 <= 1.0001 x the ki: 512.05." in verdict(results, "ki@50% <= 1.0001 * ki@50%").reason
    )
    unknown = verdict(results, "ki:f1 > self:f1")
    assert (unknown.said, unknown.reason) == ("Not measured", "The claim.")


def test_a_bound_confirms_what_it_can(results):
    for run in results.arm("self"):
        run.valid["ppl"] = [2**11, 2**10, 2**9.5, 2**9.5]  # never at ki's 512: saves at least half
    assert verdict(results, "ki~self > 0.4").verdict == HOLDS
    assert verdict(results, "ki~self > 0.6").verdict == UNDECIDED
    assert verdict(results, "ki~self < 0.6").verdict == UNDECIDED
    assert verdict(results, "ki~self < 0.4").verdict == NOT
    assert verdict(results, "0.4 < ki~self").verdict == HOLDS
    assert verdict(results, "ki~self <= ki~self").verdict == UNDECIDED
    assert "the ki saves >50.0 % > 60 %." in verdict(results, "ki~self > 0.6").reason
    results.tables = [TableSpec("Main", "", ["run", "saved"], [TableRow("KI", ["ki~self"], [])])]
    assert own_tables(results)[0].rows == [["KI", ">50.0 %"]]


def test_bounds_from_above_decide_the_other_way_round(results):
    for run in results.arm("self"):
        run.valid["ppl"] = [2**8.5, 2**8, 2**8, 2**8]  # below ki's 512 at once: it saves below -1
    assert verdict(results, "ki~self < -0.9").verdict == HOLDS
    assert verdict(results, "ki~self > -0.9").verdict == NOT
    assert verdict(results, "ki~self < -1.1").verdict == UNDECIDED
    assert verdict(results, "-1.1 < ki~self").verdict == UNDECIDED
    assert "the ki saves <-100.0 %" in verdict(results, "ki~self > -0.9").reason


def test_arms_that_did_the_same_are_no_test(results):
    for run in results.arm("self"):
        run.valid = results.run("ki", run.seed).valid
    same = verdict(results, "ki <= self")
    assert same.verdict == UNTRIED
    assert same.said == "Not put to the test: what is compared is the same from beginning to end"
    assert verdict(results, "ki <= 1.01 * self").verdict == HOLDS


def test_a_tie_is_a_test(results):
    for run in results.arm("self"):
        run.valid["ppl"] = [*run.valid["ppl"][:-1], results.run("ki", run.seed).valid["ppl"][-1]]
    assert verdict(results, "ki < self").verdict == NOT
    assert verdict(results, "ki <= self").verdict == HOLDS


def test_a_diverged_seed_does_not_pass_for_one_that_agrees(results):
    run = results.run("ki", 2)
    run.valid["ppl"] = run.valid["loss"] = [math.nan] * 4
    found = verdict(results, "ki < self")
    assert found.verdict == UNDECIDED
    assert "(true in 1 of 2 seeds, 1 without a number)" in found.said


def test_an_arm_with_a_seed_of_its_own_is_no_second_seed(results):
    results.seeds = [2]
    results.runs = [run for run in results.runs if (run.name == "teacher") == (run.seed == 1)]
    results.arm("teacher")[0].fixed_seed = True
    results.findings = [Finding("The claim.", "teacher < ki")]
    assert "(one seed)" in judged(results)[0].said


def test_an_unfinished_arm_is_judged_in_the_seeds_that_it_has(results):
    results.runs = [run for run in results.runs if (run.name, run.seed) != ("self", 2)]
    results.findings = [Finding("The claim.", "ki < self")]
    assert "(one seed)" in judged(results)[0].said


@pytest.mark.parametrize("rule", ["ki", "ki =< self", "ki < ", "x * ki < self"])
def test_other_rules_are_refused(rule):
    with pytest.raises(ValueError):
        parse_rule(rule)


def test_tables(results):
    row = TableRow("KI", ["ki@50% / ki", "", "ki~self"], ["4.28 / 3.41", "–", "27.3 %"])
    results.tables = [TableSpec("Main", "A note.", ["run", "a", "b", "c"], [row])]
    (table,) = own_tables(results)
    assert table.rows == [
        ["KI", "512 / 416", "–", "35.4 [33.3..37.5] %"],
        ["the paper", "4.28 / 3.41", "–", "27.3 %"],
    ]
    assert table.note.startswith("A note.")
    results.tables[0].rows[0].cells[0] = "absent / absent"
    assert own_tables(results)[0].rows[0][1] == "–"


def test_the_page_of_all_results(results):
    results.findings = [
        Finding("KI helps.", "ki < self"),
        Finding("KI harms.", "ki > self", source="Fig. 9"),
    ]
    examples = [
        Example("made", "Made", "bash examples/made/run.sh"),
        Example("other", "The other", "bash examples/other/run.sh"),
    ]
    page = results_page([results], examples)
    assert "- The other: `bash examples/other/run.sh`" in page
    assert "examples/made/run.sh" not in page
    assert "| [made](#made-up) | 2 | 0 of 1 | 1 of 1 |" in page
    assert "- **Holds at this size (true in 2 of 2 seeds).** KI helps. Measured:" in page
    assert ".** The paper (Fig. 9): KI harms. Measured:" in page
    # of two with one heading, each has an anchor of its own
    assert "](#made-up-1)" in results_page([results, results], [])
    assert "## Made &lt;up>" in page
    # a run at another scale is not the example at its own
    results.scale = "gpu"
    assert "examples/made/run.sh" in results_page([results], examples)
    results.shortened = 40
    assert "these numbers say nothing" in results_page([results], [])
