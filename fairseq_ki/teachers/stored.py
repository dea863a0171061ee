"""A teacher whose logits were computed once and stored; its weights are not needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_ki.objective.divergence import renormalised_topk
from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import DenseSignal, SparseSignal
from fairseq_ki.store import MismatchError, StoreError, StoreReader

STORED = "ki_stored"  # the batch's key, filled by the loader workers


class StoredTeacher:
    """A :class:`SignalSource` over one or several stores of one encoding.

    Args:
        directories: stores; several hold the shards of the data between them.
        expected: what the run is going to use, by the names of the plan (``Plan.compare``).
        use_tail: give the mass outside the kept ids to one bucket, where it was stored.

    Raises:
        StoreError: where a store is damaged, unfinished or of other data, with what was
            expected and found.
    """

    def __init__(
        self, directories: Sequence[str], expected: Mapping[str, Any], use_tail: bool = False
    ) -> None:
        self.readers = [StoreReader(Path(directory)) for directory in directories]
        first = self.readers[0].plan
        for reader in self.readers:
            reader.manifest.compare(expected)
            if (reader.plan.encoding, reader.plan.mask_epochs) != (
                first.encoding,
                first.mask_epochs,
            ):
                raise MismatchError(
                    f"{reader.directory}: stores of one run have to agree in encoding and mask "
                    f"epochs: expected {first.encoding}, {first.mask_epochs} mask epochs, found "
                    f"{reader.plan.encoding}, {reader.plan.mask_epochs}"
                )
        self.encoding = first.encoding
        self.mask_epochs = first.mask_epochs
        self.use_tail = use_tail

    def find_split(self, fingerprint: str, blocks: int) -> tuple[StoreReader, int]:
        """The reader that has a data-bin split, and the split's index there."""
        refusals = []
        for reader in self.readers:
            try:
                return reader, reader.plan.find_split(fingerprint, blocks)
            except MismatchError as error:
                refusals.append(f"{reader.directory}: {error}")
        raise MismatchError("; ".join(refusals))

    def check_temperature(self, temperature: float) -> None:
        """MismatchError unless the rows serve this temperature."""
        self.encoding.check_tau(temperature, tail=self.use_tail)

    def signal(
        self, sample: dict, rows: Positions, temperature: float
    ) -> DenseSignal | SparseSignal:
        stored = sample[STORED]
        expected, found = len(rows), len(stored.get("values", ()))
        if found != expected:
            raise StoreError(f"batch: expected {expected} stored rows, found {found}")
        return stored_signal(stored, temperature, self.use_tail)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Nothing to move: the rows come in the batch."""

    def describe(self) -> str:
        return (
            f"stored teacher {', '.join(str(r.directory) for r in self.readers)} ({self.encoding})"
        )


def stored_signal(
    stored: Mapping[str, Tensor], temperature: float, use_tail: bool
) -> DenseSignal | SparseSignal:
    """The target that stored rows stand for.

    Args:
        stored: values (N, K) float16 log-probabilities or int32 counts, ids (N, K) but for dense
            rows, target_logprob (N,), top1 (N,), tail (N,) if kept (see ``collate_rows``).
        temperature: of the run; one that the encoding serves.
        use_tail: give the mass outside the kept ids to one bucket.
    """
    values = stored["values"]
    if "ids" not in stored:
        return DenseSignal(values.float())
    tail = None
    if not values.is_floating_point():  # counts of draws
        probs = values.float() / values.sum(dim=-1, keepdim=True)
    elif use_tail:
        probs, tail = values.float().exp(), stored["tail"].float().exp()
    else:
        probs = renormalised_topk(values, temperature)
    return SparseSignal(
        ids=stored["ids"].long(),
        probs=probs,
        target_log_prob=stored["target_logprob"].float(),
        top1=stored["top1"].long(),
        tail=tail,
    )
