"""Reads the micro-batches of an update ahead, so that a teacher can be asked about all at once."""

import functools
import itertools
from collections.abc import Iterator

from fairseq.data.iterators import CountingIterator, EpochBatchIterator

from fairseq_ki.data.positions import POSITIONS
from fairseq_ki.objective.positions import Positions
from fairseq_ki.teachers.together import TOGETHER, Together


def read_together(iterator: EpochBatchIterator, count: int, pad: int) -> None:
    """Let every epoch's batches know the ``count`` they are among, counted from the first.

    fairseq goes on counting those that it was given, not those that were read ahead, so that a
    resumed run starts where the last one stopped: at an update, and so, where ``count`` divides
    ``--update-freq``, between two groups.

    Args:
        iterator: whose batches say where their rows are.
        pad: fills up shorter batches.
    """
    plain = iterator.next_epoch_itr

    @functools.wraps(plain)
    def next_epoch_itr(*args, **kwargs) -> CountingIterator:
        epoch = plain(*args, **kwargs)
        epoch._itr = Grouped(epoch._itr, count, pad)
        return epoch

    iterator.next_epoch_itr = next_epoch_itr


class Grouped:
    """The same batches, with TOGETHER where they have samples."""

    def __init__(self, batches: Iterator[dict], count: int, pad: int) -> None:
        self._plain = batches
        self._batches = _grouped(batches, count, pad)

    def __iter__(self) -> Iterator[dict]:
        return self._batches

    def __next__(self) -> dict:
        return next(self._batches)

    def take(self, count: int) -> None:
        """End after so many: fairseq lets its reading thread know of what it will not use."""
        if hasattr(self._plain, "take"):
            self._plain.take(count)


def _grouped(batches: Iterator[dict], count: int, pad: int) -> Iterator[dict]:
    while group := list(itertools.islice(batches, count)):
        filled = [batch for batch in group if batch]
        together = Together(
            [batch["net_input"] for batch in filled],
            [Positions(**batch[POSITIONS]) for batch in filled],
            pad,
        )
        for place, batch in enumerate(filled):
            batch[TOGETHER] = (together, place)
        yield from group
