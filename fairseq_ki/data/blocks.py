"""Token blocks by their index in a split, whatever fairseq makes of them for a batch."""

from typing import Protocol

from fairseq.data import MaskTokensDataset, MonolingualDataset
from torch import Tensor

from fairseq_ki.data.masked_once import masked_once, replacement_edges


class Blocks(Protocol):
    """What a store keys its rows by."""

    def __len__(self) -> int: ...

    def __getitem__(self, block: int) -> tuple[Tensor, Tensor]:
        """(T,) what the model is fed, (T,) ids to predict with the padding id elsewhere."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Masks, and crops, of this epoch."""
        ...


class MaskedBlocks:
    """For ki_mlm: the two datasets of ``masking.mask_tokens``."""

    def __init__(self, source: MaskTokensDataset, target: MaskTokensDataset) -> None:
        self.source, self.target = source, target
        self._edges = replacement_edges(source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, block: int) -> tuple[Tensor, Tensor]:
        return masked_once(self.source, self.target, block, self._edges)

    def set_epoch(self, epoch: int) -> None:
        self.source.set_epoch(epoch)
        self.target.set_epoch(epoch)


class CausalBlocks:
    """For ki_lm: fairseq's dataset, whose targets are the inputs shifted by one."""

    def __init__(self, dataset: MonolingualDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, block: int) -> tuple[Tensor, Tensor]:
        sample = self.dataset[block]
        return sample["source"], sample["target"]

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
