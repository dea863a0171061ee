"""A recipe's own tables, with the paper's rows, and its findings, judged by their rules.

A rule is a chain of comparisons of cells (evaluation/cells.py), ``ki@guidance < self@50%`` or
``both:wb_ppl <= 1.01 * self:wb_ppl``. It is judged for every seed by itself; no one writes the
verdict.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from fairseq_ki.evaluation import cells
from fairseq_ki.evaluation.cells import Cell, Value
from fairseq_ki.evaluation.results import Results
from fairseq_ki.evaluation.savings import ABOVE, BELOW, spread
from fairseq_ki.evaluation.specs import Finding, TableSpec
from fairseq_ki.evaluation.tables import PAPER_ROW, UNKNOWN, Table, with_range

BOTH = " / "  # two cells in one, as the paper prints F1/PPL
_OPERATOR = re.compile(r"\s(<=|>=|<|>)\s")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Term:
    """``factor * cell``, or a plain number where there is no cell.

    ``share``: a number that is compared with a saving, and shown in per cent as that is.
    """

    factor: float
    cell: Cell | None
    share: bool = False

    def value(self, results: Results, seed: int) -> Value:
        """For one seed."""
        if self.cell is None:
            return Value(self.factor)
        found = cells.value(results, self.cell, seed)
        return Value(self.factor * found.number, found.bound)

    def show(self, value: float) -> str:
        """A value of it as text."""
        if self.cell:
            return self.cell.show(value)
        return f"{100 * value:g} %" if self.share else f"{value:g}"

    def show_exactly(self, value: float) -> str:
        """The same with two decimals."""
        if self.cell is None:
            return self.show(value)
        return f"{100 * value:.2f} %" if self.cell.alone else f"{value:,.2f}"


def parse_cells(text: str) -> list[Cell]:
    """The cells of one place in a table. Raises ValueError for anything else."""
    return [cells.parse(part) for part in text.split(BOTH)]


def parse_rule(rule: str) -> tuple[list[Term], list[str]]:
    """(terms, operators between them). Raises ValueError for anything else."""
    parts = _OPERATOR.split(rule.strip())
    terms = [_term(part) for part in parts[::2]]
    if len(terms) < 2:
        raise ValueError("two cells or more with <, <=, > or >= between them")
    share = any(term.cell and term.cell.alone for term in terms)
    return [replace(term, share=share) for term in terms], parts[1::2]


def _term(text: str) -> Term:
    factor, star, cell = text.rpartition("*")
    if star:
        try:
            return Term(float(factor), cells.parse(cell))
        except ValueError:
            raise ValueError("NUMBER * CELL") from None
    try:
        return Term(float(text), None)
    except ValueError:
        return Term(1.0, cells.parse(text))


def check_claims(results: Results) -> None:
    """Raise ValueError for a table or finding that is not understood, naming it."""
    for table in results.tables:
        for text in filter(None, (text for row in table.rows for text in row.cells)):
            _understood(parse_cells, text, f"table {table.title!r}")
    for finding in results.findings:
        _understood(parse_rule, finding.rule, f"finding {finding.claim!r}")


def _understood(parse: Callable[[str], Any], text: str, where: str) -> None:
    try:
        parse(text)
    except ValueError as e:
        raise ValueError(f"{where}: expected {e}, found {text!r}") from None


def own_tables(results: Results) -> list[Table]:
    """The recipe's tables as measured, the paper's row under each that has one."""
    return [_table(results, spec) for spec in results.tables]


def _table(results: Results, spec: TableSpec) -> Table:
    table = Table(spec.title, spec.columns)
    for row in spec.rows:
        table.rows.append([row.label, *(_shown(results, text) for text in row.cells)])
        if row.paper:
            table.rows.append([PAPER_ROW, *row.paper])
    ranges = any("[" in cell for row in table.rows for cell in row[1:])
    table.note = " ".join(
        [spec.note, "Mean [lowest..highest] over seeds." if ranges else ""]
    ).strip()
    return table


def _shown(results: Results, text: str) -> str:
    if not text:
        return UNKNOWN
    parts = [with_range(cells.over_seeds(results, cell), cell.show) for cell in parse_cells(text)]
    return BOTH.join(parts) if any(part != UNKNOWN for part in parts) else UNKNOWN


HOLDS, NOT, UNDECIDED = "holds", "does not hold", "undecided"
UNTRIED, UNKNOWN_YET = "not put to the test", "not measured"


@dataclass(frozen=True)
class Judgement:
    """What a finding's rule says of the results; ``numbers`` is the rule with the numbers in."""

    finding: Finding
    verdict: str
    often: str = ""
    numbers: str = ""

    @property
    def said(self) -> str:
        """The verdict, and in how many seeds."""
        at_this_size = " at this size" if self.verdict in (HOLDS, NOT, UNDECIDED) else ""
        return f"{self.verdict.capitalize()}{at_this_size}{self.often}"

    @property
    def reason(self) -> str:
        """The claim and the numbers that decided."""
        return self.finding.text + (f" Measured: {self.numbers}." if self.numbers else "")


def judged(results: Results) -> list[Judgement]:
    """One per finding: does the claim hold in what was measured, in how many seeds?"""
    return [_judge(results, finding) for finding in results.findings]


def _judge(results: Results, finding: Finding) -> Judgement:
    terms, operators = parse_rule(finding.rule)
    # an arm with a seed of its own serves every seed, and adds none
    seeds = [
        seed
        for seed in results.seeds
        if any(seed in cells.seeds_of(results, t.cell) for t in terms if t.cell)
    ] or sorted({s for t in terms if t.cell for s in cells.seeds_of(results, t.cell)})
    known = {seed: [term.value(results, seed) for term in terms] for seed in seeds}
    known = {
        seed: values
        for seed, values in known.items()
        if not any(math.isnan(v.number) for v in values)
    }
    if not known:
        return Judgement(finding, UNKNOWN_YET)
    diverged = [
        seed
        for seed in seeds
        if seed not in known and all(results.run(t.cell.arm, seed) for t in terms if t.cell)
    ]
    judged_by_seed = [_true(operators, values) for values in known.values()]
    judged_by_seed += [None] * len(diverged)
    holds = judged_by_seed.count(True)
    verdict = UNDECIDED
    if _one_run_by_two_names(results, terms, list(known)):
        verdict = UNTRIED
    elif holds == len(judged_by_seed):
        verdict = HOLDS
    elif judged_by_seed.count(False) == len(judged_by_seed):
        verdict = NOT
    spreads = [
        spread(
            [values[i].number for values in known.values()],
            [values[i].bound for values in known.values()],
        )
        for i in range(len(terms))
    ]
    shown = [with_range(s, term.show) for s, term in zip(spreads, terms)]
    if any(a == b for a, b in pairwise(shown)):  # rounding hides what was compared
        shown = [with_range(s, term.show_exactly) for s, term in zip(spreads, terms)]
    shown = [_named(results, term, text) for term, text in zip(terms, shown)]
    numbers = shown[0] + "".join(f" {op} {text}" for op, text in zip(operators, shown[1:]))
    often = " (one seed)"
    if verdict == UNTRIED:
        often = ": what is compared is the same from beginning to end"
    elif len(judged_by_seed) > 1:
        unknown = f", {len(diverged)} without a number" if diverged else ""
        often = f" (true in {holds} of {len(judged_by_seed)} seeds{unknown})"
    return Judgement(finding, verdict, often, numbers)


def _one_run_by_two_names(results: Results, terms: list[Term], seeds: list[int]) -> bool:
    """Whether two arms that are compared did the same in every seed, from beginning to end."""
    return any(
        a.cell
        and b.cell
        and a.cell.arm != b.cell.arm
        and a.factor == b.factor
        and all(_same_curve(results, a.cell.arm, b.cell.arm, seed) for seed in seeds)
        for a, b in pairwise(terms)
    )


def _same_curve(results: Results, one: str, other: str, seed: int) -> bool:
    runs = [results.run(arm, seed) for arm in (one, other)]
    first, second = (run.valid.get("ppl", []) if run else [] for run in runs)
    return bool(first) and first == second


def _named(results: Results, term: Term, text: str) -> str:
    """A number with the arm that it is of."""
    if term.cell is None:
        return text
    factor = "" if term.factor == 1 else f"{term.factor:g} x "
    saves = " saves" if term.cell.alone else ":"
    return f"{factor}{results.label(term.cell.arm)}{saves} {text}"


def _true(operators: list[str], values: list[Value]) -> bool | None:
    """Whether the chain holds for one seed; None where a bound leaves it open."""
    links = [_compared(op, a, b) for op, a, b in zip(operators, values, values[1:])]
    if False in links:
        return False
    return None if None in links else True


def _compared(op: str, a: Value, b: Value) -> bool | None:
    """``a op b``; None where a number that is only a bound might yet turn it."""
    smaller, larger = (a, b) if op.startswith("<") else (b, a)
    found = _COMPARE[op](a.number, b.number) or (
        larger.bound == ABOVE and larger.number == smaller.number  # more than that, never just that
    )
    # what is true stays true unless the sides may come closer, what is false unless they may part
    turning = (ABOVE, BELOW) if found else (BELOW, ABOVE)
    return None if smaller.bound == turning[0] or larger.bound == turning[1] else found
