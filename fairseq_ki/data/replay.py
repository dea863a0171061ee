"""Replays the epochs that a store was captured in."""

from fairseq.data import BaseWrapperDataset
from fairseq.data.fairseq_dataset import FairseqDataset


def mask_epoch(epoch: int, shards: int, mask_epochs: int) -> int:
    """The stored mask epoch, from 1, that fairseq's epoch replays.

    Args:
        epoch: fairseq's, from 1.
        shards: colon-separated data directories; fairseq shows one of them per epoch in turn.
        mask_epochs: how many the store has of each.
    """
    return (epoch - 1) // shards % mask_epochs + 1


class ReplayedEpochs(BaseWrapperDataset):
    """Everything below is in the mask epoch: masks, random crops and stored rows alike."""

    def __init__(self, dataset: FairseqDataset, shards: int, mask_epochs: int) -> None:
        super().__init__(dataset)
        self.shards = shards
        self.mask_epochs = mask_epochs

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(mask_epoch(epoch, self.shards, self.mask_epochs))
