"""What is asked of a fine-tuning call."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairseq_ki.downstream.tasks import Grid, Task
from fairseq_ki.downstream.training import HowToTrain, Setting
from fairseq_ki.evaluation.downstream import FINETUNE

NO_DATA = "no data"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        tasks: with the folder of each, None where there is no data.
        unread: names of tasks whose folder is there, but not read, and why.
        seeds, grid: None for each task's own; ``lrs`` and ``batch_sizes`` replace the grid's.
        probe: ``first`` or ``mean``, in place of fine-tuning.
        max_train: rows of train that are used.
        keep_checkpoints: of finished trainings.
        redo_changed: repeat what was made otherwise instead of refusing.
    """

    out: Path
    label: str
    tasks: list[tuple[Task, Path | None]]
    unread: dict[str, str] = field(default_factory=dict)
    seeds: list[int] | None = None
    grid: Grid | None = None
    lrs: tuple[float, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    how: HowToTrain = field(default_factory=HowToTrain)
    probe: str | None = None
    max_train: int | None = None
    keep_checkpoints: bool = False
    redo_changed: bool = False

    @property
    def method(self) -> str:
        return FINETUNE if self.probe is None else f"probe-{self.probe}"

    def why_not(self, task: Task) -> str:
        """Why a task without a folder is not run."""
        return self.unread.get(task.name, NO_DATA)

    def runs(self, task: Task) -> Iterator[tuple[Setting, int]]:
        """Settings and seeds, a setting at a time."""
        grid = self.grid or task.grid
        for lr in self.lrs or grid.lrs:
            for batch_size in self.batch_sizes or grid.batch_sizes:
                for seed in self.seeds or range(1, task.seeds + 1):
                    yield Setting(lr, batch_size), seed
