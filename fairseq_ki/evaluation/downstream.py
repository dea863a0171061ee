"""downstream.json: what fine-tuning or probing one checkpoint gave, task by task, seed by seed.

``fairseq-ki finetune`` writes it; results_file.py reads it.
"""

import math
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

FORMAT = "fairseq_ki.downstream/1"
FILE = "downstream.json"

UNSEEN = "_unseen"  # behind a split's name: its rows whose text is not in train

FINETUNE, PROBE_FIRST, PROBE_MEAN = "finetune", "probe-first", "probe-mean"
METHODS = {
    FINETUNE: "fine-tuned",
    PROBE_FIRST: "linear probe of the first token",
    PROBE_MEAN: "linear probe of the mean over tokens",
}


@dataclass
class SeedScores:
    """One training: ``{split: {metric: value}}``, values as scikit-learn and scipy give them.

    A split with ``_unseen`` behind its name is that split without the rows whose text is in
    train. ``epoch`` is the one that was best on the dev set; 0 for a probe.
    """

    seed: int
    scores: dict[str, dict[str, float]]
    epoch: int
    seconds: float
    folder: str


@dataclass
class SettingScores:
    """One point of the grid, all seeds."""

    settings: dict[str, float]
    runs: list[SeedScores]

    def values(self, split: str, metric: str) -> list[float]:
        """One number a seed."""
        return [r.scores[split][metric] for r in self.runs if metric in r.scores.get(split, {})]


@dataclass
class TaskScores:
    """One task by one method.

    Attributes:
        metrics: the first decided, on the dev set, between settings and between epochs.
        rows: rows by split; ``train_of`` is how many the train file has.
        truncated: rows by split that were longer than the model's positions.
        left_out: lines by split that lacked columns.
        how: further settings that all runs share.
        chosen: the setting with the best mean over seeds, a place in ``grid``.
    """

    task: str
    title: str
    method: str
    glue: bool
    metrics: list[str]
    rows: dict[str, int]
    train_of: int
    truncated: dict[str, int]
    left_out: dict[str, int]
    labels: list[str]
    files: dict[str, str]
    how: dict[str, Any]
    command: list[str]
    grid: list[SettingScores]
    chosen: int

    def __post_init__(self) -> None:
        if not 0 <= self.chosen < len(self.grid) or not self.best.runs:
            raise ValueError(
                f"{self.task}: expected the chosen setting among those of the grid, with runs, "
                f"found number {self.chosen} of {len(self.grid)}"
            )
        if not self.metrics or "train" not in self.rows:
            raise ValueError(f"{self.task}: expected metrics, and the rows of train, found none")
        if not self.best.values("dev", self.metrics[0]):
            raise ValueError(f"{self.task}: expected {self.metrics[0]} on dev, found none")

    @property
    def best(self) -> SettingScores:
        return self.grid[self.chosen]


@dataclass
class NotRun:
    """A task that has no result, and why."""

    task: str
    title: str
    glue: bool
    reason: str


@dataclass
class Downstream:
    """One checkpoint.

    Attributes:
        label: what tables call it; files with the same label are pooled over their seeds.
        checkpoint: its path, SHA-256, architecture and updates.
        summary: :func:`summary` of the rest, for who reads the file.
    """

    label: str
    created: str
    checkpoint: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    tasks: list[TaskScores] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        if not all(isinstance(self.checkpoint.get(key), str) for key in ("path", "sha256")):
            raise ValueError(f"checkpoint: expected path and sha256, found {self.checkpoint}")


def choose(grid: list[SettingScores], metric: str) -> int:
    """The setting with the highest mean over seeds on the dev set; the first of equals."""
    means = [fmean(setting.values("dev", metric)) for setting in grid]
    return means.index(max(means))


def mean_and_std(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (of the sample, n - 1); nan for what too few values give."""
    mean = fmean(values) if values else math.nan
    return mean, stdev(values) if len(values) > 1 else math.nan


def tenths(value: float) -> str:
    """With one digit, and no sign before a nought."""
    return f"{round(value, 1) + 0.0:.1f}"


def counted(number: int, noun: str) -> str:
    """So many of something: 1 line, 2,000 lines."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def summary(tasks: list[TaskScores]) -> dict[str, Any]:
    """``{method: {task: {split: {metric: {mean, std, seeds}}}}}`` of the chosen settings.

    Times 100, as papers print them.
    """
    found: dict[str, Any] = {}
    for task in tasks:
        of_task = found.setdefault(task.method, {}).setdefault(task.task, {})
        for split in task.best.runs[0].scores:
            for metric in task.metrics:
                values = task.best.values(split, metric)
                mean, std = mean_and_std([100 * v for v in values])
                entry = {"mean": mean, "std": std, "seeds": len(values)}
                of_task.setdefault(split, {})[metric] = entry
    return found
