"""The teacher's forward pass over batches of samples: its scores, a few rows at a time.

Shapes: B samples, T length, N rows, n rows of a group, D width, V vocabulary.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_ki.capture.samples import Batch, Sample
from fairseq_ki.capture.scores import Scores, score
from fairseq_ki.models.ki_teacher import KITeacher
from fairseq_ki.objective.positions import Positions

# Elements of one (n, V) block, and on a CPU rows of it: large enough for good matrix products,
# small enough for the processor's cache and for the allocator to hand the same memory out again.
_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}
_ROWS = {"cpu": 160}


class Said(NamedTuple):
    """What a model says about some samples of a batch.

    Args:
        samples: whole ones, in order.
        hidden: (n, D) input of the output projection at their rows.
        scores: of n rows.
    """

    samples: list[Sample]
    hidden: Tensor
    scores: Scores


class TeacherPass:
    """A frozen model on its device.

    Args:
        model: from ``load_teacher``.
        device: ``cpu``, ``cuda``, ``cuda:1``.
    """

    def __init__(self, model: KITeacher, device: str) -> None:
        self.model = model.to(device)
        self.device = torch.device(device)

    @torch.no_grad()
    def say(self, batch: Batch) -> Iterator[Said]:
        """All samples of a batch, a group at a time.

        Last layer and head run on the rows alone, and no (N, V) block exists in full.
        """
        net_input = {name: value.to(self.device) for name, value in batch.net_input.items()}
        rows = Positions.where(batch.rows).to(self.device)
        hidden, weight, bias = self.model.head_input(net_input, rows, rows_alone=True)
        most = max(16, _CHUNK.get(self.device.type, 1 << 27) // weight.size(0))
        most = min(most, _ROWS.get(self.device.type, most))
        start = 0
        for samples, count in groups(batch.samples, most):
            chunk = hidden[start : start + count]
            yield Said(samples, chunk, score(chunk, weight, bias))
            start += count


def groups(samples: list[Sample], most: int) -> Iterator[tuple[list[Sample], int]]:
    """Runs of samples with at most ``most`` rows together (one sample may have more)."""
    group: list[Sample] = []
    rows = 0
    for sample in samples:
        if group and rows + len(sample.targets) > most:
            yield group, rows
            group, rows = [], 0
        group.append(sample)
        rows += len(sample.targets)
    yield group, rows
