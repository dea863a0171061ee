"""The teacher's forward pass over batches of samples: log-probabilities, a few rows at a time.

Shapes: B samples, T length, N rows, C rows of a chunk, D width, V vocabulary.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_ki.capture.samples import Batch, Sample
from fairseq_ki.models.ki_teacher import KITeacher

# Elements of one (C, V) block: large enough for a good matrix product, small enough for a CPU's
# allocator to hand the same memory out again.
_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}

# On a CPU a matrix product gives a row the same bits whatever rows are beside it, but for the last
# few of an odd number, which go another way: so the number is filled up to a multiple of this.
_TILE = 16


class Said(NamedTuple):
    """What a model says about some samples of a batch.

    Args:
        samples: whole ones, in order.
        hidden: (C, D) input of the output projection at their rows.
        log_probs: (C, V) float32.
    """

    samples: list[Sample]
    hidden: Tensor
    log_probs: Tensor


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

        The head runs on the rows alone, so that no (N, V) block exists in full.
        """
        net_input = {name: value.to(self.device) for name, value in batch.net_input.items()}
        hidden, weight, bias = self.model.head_input(net_input, batch.rows.to(self.device))
        most = max(_TILE, _CHUNK.get(self.device.type, 1 << 27) // weight.size(0))
        start = 0
        for samples, rows in groups(batch.samples, most):
            chunk = hidden[start : start + rows]
            logits = F.linear(F.pad(chunk, (0, 0, 0, -rows % _TILE)), weight, bias)[:rows]
            yield Said(samples, chunk, torch.log_softmax(logits, dim=-1, dtype=torch.float32))
            start += rows


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
