"""results.json: what an experiment measured, with everything that is needed to measure it again.

Written whole and renamed, so that a reader never sees half of it. Numbers that are not finite
are ``null`` in the file and nan in memory. The report reads nothing else but training logs.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq_ki.evaluation import downstream
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.logs import TrainingLog, interpolate
from fairseq_ki.evaluation.savings import Curve, perplexity
from fairseq_ki.evaluation.specs import Finding, TableSpec
from fairseq_ki.evaluation.whole_files import write_bytes

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
        paper: the paper's counterpart: ``{"name": ..., "valid_ppl": {updates: PPL}}``.
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
    paper: dict[str, Any] | None = None

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
    """Which arm inherits and which learns alone; ``paper`` is the paper's measured saving."""

    inherited: str
    alone: str
    paper: dict[str, Any] | None = None


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

    def arm(self, name: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return sorted((r for r in self.runs if r.name == name), key=lambda r: r.seed)

    @property
    def arms(self) -> list[str]:
        """Names of the trained arms in the order of the recipe."""
        return list(dict.fromkeys(r.name for r in self.runs if r.kind == "train"))

    def pairs(self, comparison: Comparison) -> list[tuple[Run, Run]]:
        """(inheriting, alone) of the same seed; an arm with one fixed seed serves all."""
        alone = {r.seed: r for r in self.arm(comparison.alone)}
        only = next(iter(alone.values())) if len(alone) == 1 else None
        matched = [(r, alone.get(r.seed, only)) for r in self.arm(comparison.inherited)]
        return [(r, a) for r, a in matched if a is not None and r.curve and a.curve]


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


def save(results: Results | Downstream, path: Path) -> None:
    """Write results.json, or downstream.json, at once or not at all."""
    text = json.dumps(_finite(dataclasses.asdict(results)), indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def load(path: Path) -> Results:
    """Read and check results.json.

    Raises:
        ValueError: naming the field, what was expected and what was found.
    """
    return _load(path, Results, FORMAT)


def load_downstream(path: Path) -> Downstream:
    """Read and check downstream.json; raises as :func:`load`."""
    return _load(path, Downstream, downstream.FORMAT)


def _load(path: Path, kind: type, expected: str) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:  # not UTF-8, not JSON, or nested without end
        raise ValueError(f"{path}: expected JSON, found {e}") from None
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != expected:
        raise ValueError(f"{path}: expected format {expected!r}, found {found!r}")
    return _build(kind, data, str(path))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _without_default(kind: type) -> set[str]:
    """Fields that every file has; those with a default came later."""
    return {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }


def _build(kind: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as the annotated type, refused where it is of another one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, where)
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif origin is list and isinstance(value, list):
        return [_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {k: _build(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = typing.get_type_hints(kind)
        missing = _without_default(kind) - set(value)
        if missing or set(value) - set(fields):
            raise ValueError(
                f"{where}: expected the fields {sorted(fields)}; "
                f"missing {sorted(missing)}, unknown {sorted(set(value) - set(fields))}"
            )
        built = {k: _build(fields[k], v, f"{where}.{k}") for k, v in value.items()}
        return kind(**built)
    elif (
        isinstance(kind, type)
        and isinstance(value, kind)
        and (kind is bool) == (isinstance(value, bool))
    ):
        return value
    raise ValueError(f"{where}: expected {kind}, found {value!r}")
