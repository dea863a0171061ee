"""What an experiment measured, with everything that is needed to measure it again.

results_file.py writes and reads it. The report reads nothing else but training logs.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.logs import TrainingLog, interpolate
from fairseq_ki.evaluation.savings import Curve, perplexity
from fairseq_ki.evaluation.specs import Finding, PaperRun, PaperSaving, TableSpec

FORMAT = "fairseq_ki.results/1"

# the columns of a training log that a report draws or tabulates
TRAIN_COLUMNS = (
    "updates",
    "loss",
    "lr",
    "wall",
    "ki_rate",
    "ki_loss",
    "ki_objective",
    "ki_teacher_ppl",
    "ki_agreement",
    "ki_teacher_share",
)
VALID_COLUMNS = ("updates", "loss", "ppl", "wall")
# of one domain of a mixture; the teacher's perplexity has no loss beside it
DOMAIN_LOSS, DOMAIN_PPL = "_loss", "_ppl"


@dataclass
class Flops:
    """Cost of one update of a run, and the sizes it was counted from (see flops.py)."""

    per_update: float
    forward: float
    sizes: dict[str, Any]
    batch: dict[str, float]


@dataclass
class Teacher:
    """A run that taught another; FLOPs are nan where its sizes are unknown."""

    run: str
    seed: int
    updates: int
    forward_flops: float
    training_flops: float
    valid_ppl: float


@dataclass
class Run:
    """One trained model (one arm of an experiment with one seed), or one other command.

    Attributes:
        role: ``teacher``, ``alone``, ``inherited`` or empty.
        valid, train: curves as columns, losses in bits per row, ``wall`` in seconds.
        ppl_at: validation PPL at the experiment's ``report_updates``, for who reads the file.
        metrics: what an evaluation or another command measured, by name.
        fixed_seed: the recipe gives it this seed; it serves the other runs of every seed. None
            where that is not known, as in older files: there the only run of an arm does.
        identity: SHA-256 of all that decides the result but the seed, wherever it is run; None in
            older files.
    """

    name: str
    label: str
    role: str
    seed: int
    kind: str
    command: list[str]
    folder: str
    wall_seconds: float
    valid: dict[str, list[float]] = field(default_factory=dict)
    train: dict[str, list[float]] = field(default_factory=dict)
    ppl_at: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    flops: Flops | None = None
    teachers: list[Teacher] = field(default_factory=list)
    paper: PaperRun | None = None
    fixed_seed: bool | None = None
    identity: str | None = None

    def __post_init__(self) -> None:
        _check_columns("valid", self.valid, needed=("updates", "loss"))
        _check_columns("train", self.train, needed=("updates",))

    @property
    def curve(self) -> Curve | None:
        """The validation curve; None for a run without validation.

        From the perplexities, of which fairseq logs more digits than of the losses.
        """
        if not self.valid.get("updates"):
            return None
        losses = [
            math.log2(ppl) if 0 < ppl < math.inf else loss
            for ppl, loss in zip(self.valid.get("ppl", self.valid["loss"]), self.valid["loss"])
        ]
        return Curve(tuple(int(u) for u in self.valid["updates"]), tuple(losses))

    @property
    def updates(self) -> int:
        """How long the run is: its last validation, or its last logged update."""
        ends = [c["updates"][-1] for c in (self.valid, self.train) if c.get("updates")]
        return int(max(ends, default=0))

    @property
    def validated(self) -> int:
        """Its last validation, where a run that is not finished, or was cut off, has its PPL."""
        return self.curve.end if self.curve else self.updates

    @property
    def guidance(self) -> int:
        """Updates in which a teacher was consulted; 0 without one.

        From the log where no teacher is known, such as with a store that was there before.
        """
        return max((t.updates for t in self.teachers), default=guidance_end(self.train, None))

    def ppl(self, updates: float) -> float:
        """Validation PPL at an update, between validations linear in the loss; nan beyond."""
        return perplexity(self.curve.loss_at(updates)) if self.curve else math.nan

    def cost(self, updates: float) -> float:
        """FLOPs until an update, with the teachers' forward passes; nan where unknown."""
        if self.flops is None:
            return math.nan
        taught = sum(t.forward_flops * min(updates, t.updates) for t in self.teachers)
        return self.flops.per_update * updates + taught

    @property
    def teacher_training(self) -> float:
        """FLOPs that training the teachers took, their own teachers included."""
        return sum(t.training_flops for t in self.teachers)

    def seconds(self, updates: float) -> float:
        """Wall seconds until an update, from the validation curve; nan where not logged."""
        walls = self.valid.get("wall", [])
        if not walls or any(math.isnan(w) for w in walls):
            return math.nan
        return interpolate([(0, 0.0), *zip(self.valid["updates"], walls)], updates)


@dataclass
class Comparison:
    """Which arm inherits and which learns alone."""

    inherited: str
    alone: str
    paper: PaperSaving | None = None


@dataclass
class Results:
    """One experiment.

    Attributes:
        shortened: above 1, every length was divided by it, to try the commands.
        curves: arms that are drawn; all that were trained where it is empty.
        tables, findings: what the recipe asks for beside the tables that every report has.
    """

    name: str
    title: str
    about: str
    created: str
    command: list[str]
    scale: str
    shortened: float
    seeds: list[int]
    corpus: list[dict[str, Any]]
    versions: dict[str, str]
    machine: dict[str, Any]
    report_updates: list[int]
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)
    tables: list[TableSpec] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    downstream: list[Downstream] = field(default_factory=list)
    format: str = FORMAT

    def __post_init__(self) -> None:
        for corpus in self.corpus:
            texts = isinstance(corpus.get("path"), str) and isinstance(corpus.get("sha256"), str)
            if not texts or not isinstance(corpus.get("description", {}), dict):
                expected = "path and sha256, and a mapping as description"
                raise ValueError(f"corpus: expected {expected}, found {str(corpus)[:100]}")
        made = [(run.name, run.seed) for run in self.runs if run.kind != "command"]
        if len(set(made)) < len(made):
            twice = next(each for each in made if made.count(each) > 1)
            raise ValueError(f"expected every run once with each seed, found twice {twice}")

    def arm(self, name: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return sorted((r for r in self.runs if r.name == name), key=lambda r: r.seed)

    @property
    def arms(self) -> list[str]:
        """Names of the trained arms in the order of the recipe."""
        return list(dict.fromkeys(r.name for r in self.runs if r.kind == "train"))

    def label(self, name: str) -> str:
        """What a report calls an arm."""
        return next((r.label for r in self.runs if r.name == name), name)

    def run(self, name: str, seed: int) -> Run | None:
        """An arm's run with this seed, or its only one if the recipe fixes the arm's seed."""
        runs = self.arm(name)
        if len(runs) == 1 and runs[0].fixed_seed is not False:
            return runs[0]
        return next((r for r in runs if r.seed == seed), None)


def _check_columns(curve: str, columns: dict[str, list[float]], needed: tuple[str, ...]) -> None:
    if not columns:
        return
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not set(needed) <= set(columns):
        raise ValueError(
            f"{curve}: expected the columns {' and '.join(needed)}, all columns of one length, "
            f"found {lengths}"
        )
    updates = columns["updates"]
    if not all(a < b for a, b in pairwise([-1, *updates, math.inf])):  # nor is any of them nan
        raise ValueError(f"{curve}: expected updates that grow, found {str(updates)[:100]}")


def run_curves(log: TrainingLog) -> tuple[dict, dict]:
    """(valid, train) columns for :class:`Run`, validations with the wall time they came at.

    Of several validation sets it is ``valid``, or the first where none bears that name.
    """
    records = log.valid.get("valid") or next(iter(log.valid.values()), [])
    valid = [{**r, "wall": log.wall_at(r["updates"])} for r in records]
    columns = log.columns(valid)
    train = log.columns(log.train)
    return (
        {
            name: column
            for name, column in columns.items()
            if name in VALID_COLUMNS
            or (
                name.endswith(DOMAIN_PPL) and name.removesuffix(DOMAIN_PPL) + DOMAIN_LOSS in columns
            )
        },
        {name: train[name] for name in TRAIN_COLUMNS if name in train},
    )


def guidance_end(train: dict[str, list[float]], ki_steps: int | None) -> int:
    """Updates with a rate above 0, from the log; exact where ``ki_steps`` agrees with it.

    A logged rate is the mean over its interval, so the log alone knows the end of guidance to
    within one interval.
    """
    last, before = 0, 0
    previous = 0
    for updates, rate in zip(train.get("updates", []), train.get("ki_rate", [])):
        if rate > 0:
            last, before = int(updates), previous
        previous = int(updates)
    return ki_steps if ki_steps and before < ki_steps <= last else last
