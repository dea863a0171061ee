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
        pad: the padding id, which stands where no token is to be predicted.
    """

    def __init__(self, reader: StoreReader, split: int, pad: int) -> None:
        self.reader = reader
        self.split = split
        self.pad = pad
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """A mask epoch, from 1."""
        self.epoch = epoch

    def check_first(self, blocks: Blocks, epoch: int) -> None:
        """Compare the first samples of a mask epoch: tells at once what each read would tell.

        Raises:
            MismatchError: where masks, blocks or inputs differ.
        """
        blocks.set_epoch(epoch)
        first = range(min(len(blocks), FINGERPRINTED_SAMPLES))
        checksums = [checksum_of(*blocks[block], self.pad) for block in first]
        self.reader.manifest.check_samples(self.split, epoch, checksums)

    def read(self, block: int, source: Tensor, target: Tensor) -> Rows:
        """The rows of one sample; MismatchError if the store's is another sample.

        Args:
            source: (T,) what the model is fed; target: (T,) ids, ``pad`` where none is wanted.
        """
        checksum = checksum_of(source, target, self.pad)
        return self.reader.read(self.split, self.epoch, block, checksum=checksum)


def checksum_of(source: Tensor, target: Tensor, pad: int) -> int:
    """The store's checksum of one sample, (T,) inputs and (T,) targets."""
    wanted = target.numpy()
    positions = np.flatnonzero(wanted != pad)
    return sample_checksum(positions, wanted[positions], source.numpy())


class WithStoredRows(BaseWrapperDataset):
    """fairseq's samples, each with its rows in the stores.

    Args:
        dataset: samples as dictionaries with ``target`` (T,), in the order of the blocks.
        stores: the rows of this split; of a run without domains there is one.
        inputs: the key of a sample's (T,) tokens that the model is fed.
        switch: tells when no more rows are needed.
    """

    def __init__(
        self,
        dataset: FairseqDataset,
        stores: Sequence[SplitRows],
        inputs: str,
        switch: ReadingSwitch,
    ) -> None:
        super().__init__(dataset)
        self.stores = stores
        self.inputs = inputs
        self.switch = switch

    def __getitem__(self, index: int) -> dict:
        sample = self.dataset[index]
        stores = self.stores if self.switch else ()
        rows = [store.read(index, sample[self.inputs], sample["target"]) for store in stores]
        return {**sample, STORED: rows}

    def collater(self, samples: Sequence[dict]) -> dict:
        batch = super().collater(samples)
        if batch:
            batch[STORED] = self.collate_stored(samples)
        return batch

    def collate_stored(self, samples: Sequence[dict]) -> dict:
        """What a batch has under ``STORED``, as its source of signals looks for it."""
        return collate_rows([rows for sample in samples for rows in sample[STORED]])

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        for store in self.stores:
            store.set_epoch(epoch)


def collate_rows(samples: Sequence[Rows]) -> dict[str, Tensor]:
    """The rows of a batch in the order of its samples; empty without samples.

    Nothing is float32, which fairseq would cast to the model's type under fp16.

    Returns:
        ids (N, K) int32 (absent for dense rows), values (N, K) float16 log-probabilities or
        int32 counts, target_logprob (N,) float16, top1 (N,) int32, tail (N,) float16 if kept.
    """
    if not samples:
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
