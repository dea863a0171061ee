"""The samples of one data-bin split, as the teacher is shown them and training will be.

Shapes: T tokens and n rows of one sample; B samples, N rows of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fairseq.data import data_utils
from torch import Tensor

from fairseq_ki.data.stored_rows import checksum_of


@dataclass(frozen=True)
class Sample:
    """One token block.

    Args:
        block: its index in the split.
        inputs: (T,) int64, what the model is fed.
        rows: (T,) bool, the positions to be predicted.
        targets: (n,) int64, the tokens there.
        checksum: the store's, of all of these.
    """

    block: int
    inputs: Tensor
    rows: Tensor
    targets: Tensor
    checksum: int


@dataclass(frozen=True)
class Batch:
    """Samples with what fairseq's models take.

    Args:
        net_input: src_tokens (B, T) padded on the right, src_lengths (B,).
        rows: (B, T) bool.
    """

    samples: list[Sample]
    net_input: dict[str, Tensor]
    rows: Tensor


class SplitSamples:
    """One split of one of the colon-separated data directories.

    Args:
        task: from ``settings.build_task``.
        split: its name.
        directory: which of the directories, from 0.
        longest: samples of more tokens are kept without rows.
    """

    def __init__(self, task, split: str, directory: int, longest: int) -> None:
        self._longest = longest
        self._pad = task.source_dictionary.pad()
        # fairseq shows the directories epoch by epoch
        self._blocks = task.blocks(split, epoch=directory + 1, combine=True)

    def __len__(self) -> int:
        return len(self._blocks)

    def set_epoch(self, mask_epoch: int) -> None:
        """Mask the samples as in this epoch, from 1."""
        self._blocks.set_epoch(mask_epoch)

    def __getitem__(self, block: int) -> Sample:
        inputs, wanted = self._blocks[block]
        rows = wanted.ne(self._pad)
        return Sample(block, inputs, rows, wanted[rows], checksum_of(inputs, wanted, self._pad))

    def batches(self, blocks: Sequence[int], size: int) -> Iterator[Batch]:
        """These blocks in order. A batch depends on ``blocks`` and ``size`` alone."""
        for first in range(0, len(blocks), size):
            yield self._batch([self[block] for block in blocks[first : first + size]])

    def _batch(self, samples: list[Sample]) -> Batch:
        # a whole sentence may be longer than the teacher reads; a student that could read it
        # would find no rows, and say so
        samples = [self._readable(sample) for sample in samples]
        inputs = [sample.inputs[: self._longest] for sample in samples]
        net_input = {
            "src_tokens": data_utils.collate_tokens(inputs, self._pad),
            "src_lengths": torch.tensor([len(tokens) for tokens in inputs]),
        }
        rows = [sample.rows[: self._longest] for sample in samples]
        return Batch(samples, net_input, data_utils.collate_tokens(rows, False))

    def _readable(self, sample: Sample) -> Sample:
        if len(sample.inputs) <= self._longest:
            return sample
        nothing = torch.zeros_like(sample.rows)
        return Sample(sample.block, sample.inputs, nothing, sample.targets[:0], sample.checksum)
