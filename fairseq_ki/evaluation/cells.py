"""What a recipe's own tables and findings refer to: one number of one arm, for every seed.

ki              validation PPL at the end of the run
ki@32%          after 32 % of its updates (linear in the loss between validations)
ki@guidance     at the end of teacher guidance
self@guidance:ki  where ki's guidance ends
ki@cost:self    where it has cost as many FLOPs as the arm ``self`` in all
ki:f1           a number that a command measured, or a column of the validation log
ki~self         updates that ki saves against self, at the end of guidance
"""

import math
import re
from dataclasses import dataclass

from fairseq_ki.evaluation.logs import interpolate
from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.evaluation.savings import Spread, saving, spread
from fairseq_ki.evaluation.tables import percent, ppl

GUIDANCE, COST = "guidance", "cost"
_NAME = r"[A-Za-z][\w-]*"
_CELL = re.compile(
    rf"(?P<arm>{_NAME})(?:~(?P<alone>{_NAME})|:(?P<metric>[\w.-]+)"
    rf"|@(?P<point>\d+(?:\.\d+)?%|{GUIDANCE}|{GUIDANCE}:{_NAME}|{COST}:{_NAME}))?"
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
        return {name for name in (self.arm, self.alone, self.other) if name}

    @property
    def other(self) -> str:
        """The arm that says where to look; empty where it is the arm itself."""
        return self.point.partition(":")[2]

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


@dataclass(frozen=True)
class Value:
    """A number; with a ``bound`` (see savings.py) one that the true number is above or below."""

    number: float
    bound: str = ""


def value(results: Results, cell: Cell, seed: int) -> Value:
    """For a seed; nan if unknown."""
    run = results.run(cell.arm, seed)
    if run is None:
        return Value(math.nan)
    if cell.alone:
        return _saved(run, results.run(cell.alone, seed))
    return Value(_number(run, cell, results.run(cell.other or cell.arm, seed)))


def _number(run: Run, cell: Cell, other: Run | None) -> float:
    if cell.metric:
        return run.metrics.get(cell.metric, (run.valid.get(cell.metric) or [math.nan])[-1])
    if not cell.point:
        return run.ppl(run.validated) if run.curve else run.metrics.get("ppl", math.nan)
    if cell.point.startswith(GUIDANCE):
        return run.ppl(other.guidance) if other and other.guidance else math.nan
    if cell.point.startswith(COST):
        return _ppl_at_cost(run, other)
    return run.ppl(run.updates * float(cell.point.removesuffix("%")) / 100)


def over_seeds(results: Results, cell: Cell) -> Spread | None:
    """Mean and range; None where nothing is known."""
    values = [value(results, cell, seed) for seed in seeds_of(results, cell)]
    return spread([v.number for v in values], [v.bound for v in values])


def _saved(run: Run, alone: Run | None) -> Value:
    if alone is None or run.curve is None or alone.curve is None:
        return Value(math.nan)
    try:
        saved = saving(run.curve, alone.curve, run.guidance or run.validated)
    except ValueError:  # nothing to compare there
        return Value(math.nan)
    return Value(saved.updates, bound=saved.bound)


def _ppl_at_cost(run: Run, other: Run | None) -> float:
    """PPL where the run's FLOPs, its teachers' passes included, reach the other's at its end."""
    if other is None or run.curve is None:
        return math.nan
    limit = other.cost(other.updates)
    # linear between the updates at which a teacher is let go
    bends = sorted({0, run.updates, *(t.updates for t in run.teachers if t.updates < run.updates)})
    costs = [(run.cost(bend), float(bend)) for bend in bends]
    if math.isnan(limit) or any(math.isnan(cost) for cost, _ in costs):
        return math.nan
    return run.ppl(interpolate(costs, limit))
