"""What a recipe's own tables and findings refer to: one number of one arm, for every seed.

ki              validation PPL at the end of the run
ki@32%          after 32 % of its updates (linear in the loss between validations)
ki@guidance     at the end of teacher guidance
ki@cost:self    where it has cost as many FLOPs as the arm ``self`` in all
ki:f1           a number that a command measured, or a column of the validation log
ki~self         updates that ki saves against self, at the end of guidance
"""

import math
import re
from dataclasses import dataclass

from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.evaluation.savings import Spread, perplexity, saving, spread
from fairseq_ki.evaluation.tables import percent, ppl

GUIDANCE, COST = "guidance", "cost:"
_NAME = r"[A-Za-z][\w-]*"
_CELL = re.compile(
    rf"(?P<arm>{_NAME})(?:~(?P<alone>{_NAME})|:(?P<metric>[\w.-]+)"
    rf"|@(?P<point>\d+(?:\.\d+)?%|guidance|cost:{_NAME}))?"
)


@dataclass(frozen=True)
class Cell:
    """One of the forms above."""

    arm: str
    alone: str = ""
    metric: str = ""
    point: str = ""

    @property
    def arms(self) -> set[str]:
        """Every arm that it names."""
        other = self.point.removeprefix(COST) if self.point.startswith(COST) else ""
        return {name for name in (self.arm, self.alone, other) if name}

    def show(self, value: float) -> str:
        """A value of this cell as text."""
        if self.alone:
            return percent(value)
        if self.metric and not self.metric.endswith("ppl"):
            return f"{value:.1f}"
        return ppl(value)


def parse(text: str) -> Cell:
    """A cell from its text.

    Raises:
        ValueError: for any other form; the message says which there are.
    """
    match = _CELL.fullmatch(text.strip())
    if match is None:
        raise ValueError("NAME, NAME@32%, NAME@guidance, NAME@cost:NAME, NAME:METRIC or NAME~NAME")
    return Cell(**{name: found or "" for name, found in match.groupdict().items()})


def seeds_of(results: Results, cell: Cell) -> list[int]:
    """Those of its arm; one for an arm that was run once for all seeds."""
    return [run.seed for run in results.arm(cell.arm)]


def value(results: Results, cell: Cell, seed: int) -> float:
    """The number for a seed, or of the only run of an arm with its own seed; nan if unknown."""
    run = _run(results, cell.arm, seed)
    if run is None:
        return math.nan
    if cell.alone:
        return _saved(run, _run(results, cell.alone, seed))
    if cell.metric:
        return run.metrics.get(cell.metric, (run.valid.get(cell.metric) or [math.nan])[-1])
    if not cell.point:
        return run.ppl(run.updates) if run.curve else run.metrics.get("ppl", math.nan)
    if cell.point == GUIDANCE:
        return run.ppl(run.guidance) if run.guidance else math.nan
    if cell.point.startswith(COST):
        return _ppl_at_cost(run, _run(results, cell.point.removeprefix(COST), seed))
    return run.ppl(run.updates * float(cell.point.removesuffix("%")) / 100)


def over_seeds(results: Results, cell: Cell) -> Spread | None:
    """Mean and range; None where nothing is known."""
    return spread([value(results, cell, seed) for seed in seeds_of(results, cell)])


def _run(results: Results, arm: str, seed: int) -> Run | None:
    runs = {run.seed: run for run in results.arm(arm)}
    only = next(iter(runs.values())) if len(runs) == 1 else None
    return runs.get(seed, only)


def _saved(run: Run, alone: Run | None) -> float:
    if alone is None or run.curve is None or alone.curve is None:
        return math.nan
    try:
        return saving(run.curve, alone.curve, run.guidance or run.updates).updates
    except ValueError:  # no finite validation there
        return math.nan


def _ppl_at_cost(run: Run, other: Run | None) -> float:
    """PPL where the run's FLOPs, its teachers' passes included, reach the other's at its end."""
    if other is None or run.curve is None:
        return math.nan
    limit = other.cost(other.updates)
    low, high = 0.0, float(run.updates)
    if math.isnan(limit) or run.cost(high) <= limit:
        return run.ppl(high) if not math.isnan(limit) else math.nan
    for _ in range(60):  # the cost grows with the updates
        middle = (low + high) / 2
        low, high = (middle, high) if run.cost(middle) <= limit else (low, middle)
    return perplexity(run.curve.loss_at(low))
