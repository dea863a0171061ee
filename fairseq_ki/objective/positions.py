"""Where in a batch the rows are: the positions whose token is to be predicted.

Shapes: B samples, T length, N rows in row-major order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """N rows of a batch, by sample and place.

    Made once for a batch, on the CPU if possible: how many rows a mask on a GPU has, the GPU
    alone knows, and every indexing with it makes the host wait for all work before. (``among``
    some samples still does.)

    Args:
        sample: (N,) int64, ascending; position: (N,) int64, ascending within a sample.
        shape: (B, T).
        most: at least the most rows of one sample.
    """

    sample: Tensor
    position: Tensor
    shape: tuple[int, int]
    most: int

    @classmethod
    def where(cls, mask: Tensor) -> "Positions":
        """The True positions of ``mask`` (B, T)."""
        sample, position = mask.nonzero(as_tuple=True)
        samples, length = mask.shape
        return cls(sample, position, (samples, length), int(mask.sum(1).max()) if samples else 0)

    @classmethod
    def joined(cls, batches: Sequence["Positions"]) -> "Positions":
        """Of several batches one under the other, in a batch as long as the longest."""
        sizes = [each.shape[0] for each in batches]
        before = itertools.accumulate(sizes, initial=0)
        sample = [each.sample + start for each, start in zip(batches, before, strict=False)]
        return cls(
            torch.cat(sample),
            torch.cat([each.position for each in batches]),
            (sum(sizes), max(each.shape[1] for each in batches)),
            max(each.most for each in batches),
        )

    def __len__(self) -> int:
        return len(self.sample)

    def of(self, batch: Tensor) -> Tensor:
        """(N, ...) of ``batch`` (B, T, ...)."""
        return batch[self.sample, self.position]

    @property
    def mask(self) -> Tensor:
        """(B, T) bool."""
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.sample.device)
        mask[self.sample, self.position] = True
        return mask

    @property
    def slots(self) -> Tensor:
        """(N,) int64: a row's place among the rows of its sample."""
        places = torch.arange(len(self), device=self.sample.device)
        return places - torch.searchsorted(self.sample, self.sample)

    def among(self, samples: Tensor) -> "Positions":
        """The rows of some samples, (b,) int64 ascending, numbered from 0."""
        numbers = self.sample.new_full((self.shape[0],), -1)
        numbers[samples] = torch.arange(len(samples), device=samples.device)
        sample = numbers[self.sample]
        kept = sample >= 0
        shape = (len(samples), self.shape[1])
        return Positions(sample[kept], self.position[kept], shape, self.most)

    def at(self, places: Tensor) -> "Positions":
        """Some of the rows, by their places (n,) among the N, ascending."""
        return Positions(self.sample[places], self.position[places], self.shape, self.most)

    def to(self, device: torch.device) -> "Positions":
        sample, position = carried(self.sample, device), carried(self.position, device)
        return Positions(sample, position, self.shape, self.most)


def carried(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device, without waiting for what a GPU is at."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
