"""Tells the batch where its rows are, in the loader workers."""

from collections.abc import Callable, Sequence

from torch import Tensor

from fairseq_ki.objective.positions import Positions

POSITIONS = "ki_positions"  # the batch's key: the fields of Positions, which fairseq can move


class CollateWithPositions:
    """A dataset's ``collater``, and POSITIONS beside its ``target`` (B, T).

    Args:
        collate: of the dataset.
        pad: marks the positions where no token is to be predicted.
    """

    def __init__(self, collate: Callable[[Sequence], dict], pad: int) -> None:
        self.collate = collate
        self.pad = pad

    def __call__(self, samples: Sequence) -> dict:
        batch = self.collate(samples)
        if batch and isinstance(batch.get("target"), Tensor):
            batch[POSITIONS] = vars(Positions.where(batch["target"].ne(self.pad)))
        return batch


def positions_of(sample: dict, pad: int) -> Positions:
    """Where the rows of a batch are, if need be found now."""
    if POSITIONS in sample:
        return Positions(**sample[POSITIONS])
    return Positions.where(sample["target"].ne(pad))
