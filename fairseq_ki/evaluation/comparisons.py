"""What inheriting saves: every comparison that an experiment asks for, as a table and in words."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fairseq_ki.evaluation.results import Comparison, Results, Run
from fairseq_ki.evaluation.savings import ABOVE, Curve, Saving, Spread, saving, spread
from fairseq_ki.evaluation.tables import UNKNOWN, Table, count, percent, ppl, with_range

GUIDANCE, END = "end of guidance", "end"


@dataclass
class Compared:
    """One comparison at one point of the inheriting runs, over seeds.

    ``left_out`` says for which seeds there is no saving, and why: a run that was not made or not
    validated, or without a finite loss at that point.
    """

    comparison: Comparison
    point: str
    savings: list[Saving] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)

    def over_seeds(self, value: Callable[[Saving], float]) -> Spread | None:
        """Mean and range of one field."""
        return spread([value(s) for s in self.savings])

    def bounded(self, value: Callable[[Saving], float]) -> Spread | None:
        """The same for what is only a bound where the crossing lies outside self-learning's run."""
        return spread([value(s) for s in self.savings], [s.bound for s in self.savings])

    @property
    def reached(self) -> bool:
        """Whether self-learning got there with any seed."""
        return any(s.bound != ABOVE for s in self.savings)


def compare(results: Results) -> list[Compared]:
    """Every comparison, at the end of guidance where there was a teacher, and at the end.

    In one row where they coincide.
    """
    return [row for comparison in results.comparisons for row in _rows(results, comparison)]


def _rows(results: Results, comparison: Comparison) -> list[Compared]:
    both = [*results.arm(comparison.inherited), *results.arm(comparison.alone)]
    seeds = {r.seed for r in both if not r.fixed_seed} or {r.seed for r in both} or results.seeds
    runs = {seed: results.run(comparison.inherited, seed) for seed in sorted(seeds)}
    ends = {seed: run.validated for seed, run in runs.items() if run}
    guidance = {seed: run.guidance for seed, run in runs.items() if run}
    points = [(END, ends)]
    if guidance == ends:
        points = [(f"{GUIDANCE} = {END}" if ends else END, ends)]
    elif any(guidance.values()):
        points.insert(0, (GUIDANCE, guidance))
    rows = []
    for point, updates in points:
        row = Compared(comparison, point)
        for seed in runs:
            try:
                row.savings.append(_saving(results, comparison, seed, updates.get(seed, 0)))
            except ValueError as e:
                row.left_out[seed] = str(e)
        rows.append(row)
    return rows


def _saving(results: Results, comparison: Comparison, seed: int, at: int) -> Saving:
    """Raises ValueError with what is missing."""
    inherited, curve = _validated(results, comparison.inherited, seed)
    alone, alone_curve = _validated(results, comparison.alone, seed)
    if not at:
        raise ValueError(f"nothing tells how long {inherited.name} was guided")
    return saving(
        curve,
        alone_curve,
        at,
        inherited.cost,
        alone.cost,
        inherited.teacher_training,
        alone.teacher_training,
    )


def _validated(results: Results, arm: str, seed: int) -> tuple[Run, Curve]:
    run = results.run(arm, seed)
    if run is None:
        raise ValueError(f"{arm} has no run")
    if run.curve is None:
        raise ValueError(f"{arm} has no validation")
    return run, run.curve


def savings_table(results: Results, compared: list[Compared]) -> Table:
    """The paper's measure, counted three ways, beside the paper's own where there is one."""
    paper = any(row.comparison.paper for row in compared)
    table = Table(
        "What inheriting saves at equal validation perplexity",
        [
            "comparison",
            "at update",
            "PPL there",
            "PPL of self-learning there",
            "updates self-learning needs",
            "saved: updates",
            "FLOPs with the teacher's passes",
            "FLOPs with the teacher's training too",
            *(["the paper (updates)"] if paper else []),
        ],
        note="1 - cost of inheriting until that update / cost of self-learning until the same "
        "PPL, its first crossing, linear in the loss between validations. > : not reached "
        "within the run, so at least that much; at equal lengths > 0 says no more than that "
        "inheriting ends better. < : reached at the first validation, so at most that much. "
        "~ : both, in different seeds. A negative saving is a loss.",
    )
    for row in compared:
        table.rows.append(
            [
                _named(results, row),
                with_range(row.over_seeds(lambda s: s.at), count),
                with_range(row.over_seeds(lambda s: s.ppl), ppl),
                with_range(row.over_seeds(lambda s: s.alone_ppl), ppl),
                with_range(row.bounded(lambda s: s.needed), count),
                with_range(row.bounded(lambda s: s.updates), percent),
                with_range(row.bounded(lambda s: s.flops), percent),
                with_range(row.bounded(lambda s: s.flops_with_teacher_training), percent),
                *([_paper_saving(row)] if paper else []),
            ]
        )
    return table


def _named(results: Results, row: Compared) -> str:
    """Its inheriting arm and point; what it is compared with where that is not always the same."""
    several = len({comparison.alone for comparison in results.comparisons}) > 1
    against = f" against {results.label(row.comparison.alone)}" if several else ""
    return f"{results.label(row.comparison.inherited)}{against}, {row.point}"


def _paper_saving(row: Compared) -> str:
    paper = row.comparison.paper
    if not paper or not row.point.startswith(GUIDANCE):
        return UNKNOWN
    return f"{percent(paper.saving)} ({paper.setting})"


def verdicts(results: Results, compared: list[Compared]) -> list[str]:
    """A plain statement per row of the savings table: does it save, and in how many seeds?"""
    sentences = []
    for row in compared:
        if not row.savings:
            continue
        ki = results.label(row.comparison.inherited)
        alone = results.label(row.comparison.alone)
        at = with_range(row.over_seeds(lambda s: s.at), count)
        here = with_range(row.over_seeds(lambda s: s.ppl), ppl)
        there = with_range(row.over_seeds(lambda s: s.alone_ppl), ppl)
        needed = with_range(row.bounded(lambda s: s.needed), count)
        updates = with_range(row.bounded(lambda s: s.updates), percent)
        cost = with_range(row.bounded(lambda s: s.flops), percent)
        total = len(row.savings)
        saves = sum(s.updates > 0 or s.bound == ABOVE for s in row.savings)
        often = f" (in {saves} of {total} seeds)" if total > 1 else ""
        text = f"At {at} updates ({row.point}) {ki} has a validation PPL of {here}"
        text += f", {alone} {there}. " if there != UNKNOWN else ". "
        if not row.reached:
            caught_up = with_range(row.over_seeds(lambda s: s.caught_up), count)
            text += f"{alone[:1].upper()}{alone[1:]} does not get to that PPL in its run"
            if caught_up != UNKNOWN:
                text += f"; {ki} reaches the last PPL of that run after {caught_up} updates"
        elif saves:
            text += f"{alone[:1].upper()}{alone[1:]} needs {needed} updates for that PPL"
        if saves == 0:
            text += f"Inheriting saves nothing here: {updates} of the updates"
        elif any(s.updates > 0 for s in row.savings):
            text += f", so inheriting saves {updates} of the updates{often}"
        if cost != UNKNOWN and any(s.flops != 0 and s.updates != 0 for s in row.savings):
            text += f"; with the teacher's forward passes counted, {cost} of the FLOPs"
        sentences.append(text + ".")
    return sentences


def gaps(compared: list[Compared]) -> list[str]:
    """What was asked for and could not be compared."""
    sentences = []
    for row in compared:
        total = len(row.savings) + len(row.left_out)
        for reason in dict.fromkeys(row.left_out.values()):
            seeds = [str(seed) for seed, why in row.left_out.items() if why == reason]
            where = f" in {len(seeds)} of {total} seeds ({', '.join(seeds)})" if total > 1 else ""
            sentences.append(f"Not compared: {_title(row)}{where}: {reason}.")
    return sentences


def _title(row: Compared) -> str:
    return f"{row.comparison.inherited} vs {row.comparison.alone}, {row.point}"
