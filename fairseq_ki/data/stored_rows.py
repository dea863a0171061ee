"""Puts a store's rows into the batch: read in the loader workers, checked against the sample.

Shapes: n rows of one sample, N rows of a batch, K columns, as wide as the batch needs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset
from fairseq.data.fairseq_dataset import FairseqDataset
from torch import Tensor

from fairseq_ki.data.blocks import Blocks
from fairseq_ki.store import FINGERPRINTED_SAMPLES, ZERO, Rows, StoreReader, sample_checksum
from fairseq_ki.teachers.stored import STORED


class ReadingSwitch:
    """Tells the loader workers, living ones too, that no more rows are needed."""

    def __init__(self) -> None:
        self._on = torch.ones(1, dtype=torch.uint8).share_memory_()

    def __bool__(self) -> bool:
        return bool(self._on)

    def off(self) -> None:
        self._on.zero_()


class SplitRows:
    """The rows of one data-bin split, by mask epoch and block index.

    Args:
        reader: of the store that has the split.
        split: its index in the store.
    """

    def __init__(self, reader: StoreReader, split: int) -> None:
        self.reader = reader
        self.split = split
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """A mask epoch, from 1."""
        self.epoch = epoch

    def check_first(self, blocks: Blocks, epoch: int, pad: int) -> None:
        """Compare the first samples of a mask epoch: tells at once what each read would tell.

        Raises:
            MismatchError: where masks, blocks or inputs differ.
        """
        blocks.set_epoch(epoch)
        first = range(min(len(blocks), FINGERPRINTED_SAMPLES))
        checksums = [checksum_of(*blocks[block], pad) for block in first]
        self.reader.manifest.check_samples(self.split, epoch, checksums)

    def read(self, block: int, source: Tensor, target: Tensor, pad: int) -> Rows:
        """The rows of one sample; MismatchError if the store's is another sample.

        Args:
            source: (T,) what the model is fed; target: (T,) ids, ``pad`` where none is wanted.
        """
        checksum = checksum_of(source, target, pad)
        return self.reader.read(self.split, self.epoch, block, checksum=checksum)


def checksum_of(source: Tensor, target: Tensor, pad: int) -> int:
    """The store's checksum of one sample, (T,) inputs and (T,) targets."""
    positions = target.ne(pad).nonzero().view(-1)
    return sample_checksum(positions.numpy(), target[positions].numpy(), source.numpy())


class StoredRowsDataset(BaseWrapperDataset):
    """For ki_mlm: beside the masked blocks, under a key of its own in the nested dictionary."""

    def __init__(
        self,
        source: FairseqDataset,
        target: FairseqDataset,
        rows: SplitRows,
        pad: int,
        switch: ReadingSwitch,
    ) -> None:
        super().__init__(source)
        self.target = target
        self.rows = rows
        self.pad = pad
        self.switch = switch

    def __getitem__(self, index: int) -> Rows | None:
        if not self.switch:
            return None
        return self.rows.read(index, self.dataset[index], self.target[index], self.pad)

    def collater(self, samples: Sequence[Rows | None]) -> dict[str, Tensor]:
        return collate_rows(samples)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.rows.set_epoch(epoch)


class WithStoredRows(BaseWrapperDataset):
    """For ki_lm: fairseq's samples, {source, target, ...}, with their rows."""

    def __init__(
        self, dataset: FairseqDataset, rows: SplitRows, pad: int, switch: ReadingSwitch
    ) -> None:
        super().__init__(dataset)
        self.rows = rows
        self.pad = pad
        self.switch = switch

    def __getitem__(self, index: int) -> dict:
        sample = self.dataset[index]
        rows = None
        if self.switch:
            rows = self.rows.read(index, sample["source"], sample["target"], self.pad)
        return {**sample, STORED: rows}

    def collater(self, samples: list[dict]) -> dict:
        batch = self.dataset.collater(samples)
        if batch:
            batch[STORED] = collate_rows([sample[STORED] for sample in samples])
        return batch

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.rows.set_epoch(epoch)


def collate_rows(samples: Sequence[Rows | None]) -> dict[str, Tensor]:
    """The rows of a batch in the order of its samples; empty where reading was switched off.

    Nothing is float32, which fairseq would cast to the model's type under fp16.

    Returns:
        ids (N, K) int32 (absent for dense rows), values (N, K) float16 log-probabilities or
        int32 counts, target_logprob (N,) float16, top1 (N,) int32, tail (N,) float16 if kept.
    """
    if any(rows is None for rows in samples):
        return {}
    width = max(rows.values.shape[1] for rows in samples)
    filling = 0 if samples[0].values.dtype.kind == "i" else ZERO
    batch = {
        "values": [_widen(rows.values, width, filling) for rows in samples],
        "target_logprob": [rows.target_logprob for rows in samples],
        "top1": [rows.top1 for rows in samples],
    }
    if samples[0].ids is not None:
        batch["ids"] = [_widen(rows.ids, width, 0) for rows in samples]
    if samples[0].tail is not None:
        batch["tail"] = [rows.tail for rows in samples]
    return {name: torch.from_numpy(np.concatenate(parts)) for name, parts in batch.items()}


def _widen(array: np.ndarray, width: int, filling: float) -> np.ndarray:
    missing = width - array.shape[1]
    if missing == 0:
        return array
    return np.pad(array, ((0, 0), (0, missing)), constant_values=filling)
