"""The paper's downstream tasks: metrics, the columns of their files, settings, repeats."""

import re
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Columns:
    """Where a GLUE file has what: names of its header, or numbers where it has none."""

    text: str | int
    label: str | int
    text2: str | None = None


@dataclass(frozen=True)
class Grid:
    """Learning rates and batch sizes that are tried, each with each (the paper's Table 8)."""

    lrs: tuple[float, ...]
    batch_sizes: tuple[int, ...]


GLUE_GRID = Grid((1e-5, 2e-5, 3e-5), (16, 32))
DOMAIN_GRID = Grid((2e-5,), (256,))
# not the paper's: models of a few million parameters learn nothing at its rates
MICRO_GRID = Grid((3e-4, 1e-3), (32,))


@dataclass(frozen=True)
class Task:
    """One downstream task.

    Attributes:
        metrics: of which the first decides on the dev set. MRPC and QQP are decided by accuracy:
            the paper's 71.4 for MRPC is below the F1 of answering 1 to everything (81.2).
            Empty until the labels are read, for a task of one's own: accuracy or correlations.
        regression: None where the labels tell: floats are for regression.
        seeds: repeats, as in the paper's Fig. 6 and Tables 2 to 4 where they say.
        tsv: files of GLUE's distribution by split.
        classes: labels in these files; empty for regression.
    """

    name: str
    title: str
    metrics: tuple[str, ...] = ("accuracy",)
    regression: bool | None = False
    grid: Grid = GLUE_GRID
    seeds: int = 5
    glue: bool = True
    columns: Columns | None = None
    tsv: dict[str, str] = field(default_factory=lambda: {"train": "train.tsv", "dev": "dev.tsv"})
    classes: tuple[str, ...] = ()
    skip_short_lines: bool = False

    @property
    def metric(self) -> str:
        return self.metrics[0]


_CORRELATIONS, _PARAPHRASE = ("pearson", "spearman"), ("accuracy", "f1")
_YES_NO, _ENTAILED = ("0", "1"), ("entailment", "not_entailment")
_MNLI_FILES = {
    "train": "train.tsv",
    "dev": "dev_matched.tsv",
    "dev_mismatched": "dev_mismatched.tsv",
}

TASKS = {
    task.name: task
    for task in (
        Task("cola", "CoLA", ("matthews",), columns=Columns(3, 1), classes=_YES_NO),
        Task(
            "mnli", "MNLI", columns=Columns("sentence1", "gold_label", "sentence2"), seeds=3,
            tsv=_MNLI_FILES, classes=("contradiction", "entailment", "neutral"),
        ),
        Task(
            "qnli", "QNLI", columns=Columns("question", "label", "sentence"), seeds=3,
            classes=_ENTAILED,
        ),
        Task(
            "rte", "RTE", columns=Columns("sentence1", "label", "sentence2"), classes=_ENTAILED,
        ),
        Task("sst2", "SST-2", columns=Columns("sentence", "label"), classes=_YES_NO),
        Task(
            "stsb", "STS-B", _CORRELATIONS, regression=True,
            columns=Columns("sentence1", "score", "sentence2"),
        ),
        Task(
            "mrpc", "MRPC", _PARAPHRASE, columns=Columns("#1 String", "Quality", "#2 String"),
            classes=_YES_NO,
        ),
        # the released QQP has lines with too few columns, which everybody leaves out
        Task(
            "qqp", "QQP", _PARAPHRASE, columns=Columns("question1", "is_duplicate", "question2"),
            seeds=3, classes=_YES_NO, skip_short_lines=True,
        ),
        Task(
            "citation_intent", "ACL-ARC", ("macro_f1", "accuracy"), grid=DOMAIN_GRID, seeds=10,
            glue=False,
        ),
        Task(
            "chemprot", "ChemProt", ("micro_f1", "macro_f1"), grid=DOMAIN_GRID, seeds=10,
            glue=False,
        ),
    )
}  # fmt: skip

_ALIASES = {"aclarc": "citation_intent", "citationintent": "citation_intent"}


def canonical(name: str) -> str:
    """A task's name however its folder is spelt: SST-2, sst2; others as they are."""
    plain = re.sub(r"[-_ ]", "", name).lower()
    plain = _ALIASES.get(plain, plain)
    return plain if plain in TASKS else name


def task_named(name: str, metric: str | None = None) -> Task:
    """One of the paper's tasks, or a user's own; ``metric`` takes the place of its first."""
    task = TASKS.get(name) or Task(name, name, metrics=(), regression=None, glue=False)
    if metric is None:
        return task
    others = tuple(m for m in task.metrics if m != metric and name in TASKS)
    return replace(task, metrics=(metric, *others))
