"""What every encoding of a sample's rows offers."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .bits import MAX_ID_BITS, id_bits
from .checks import check_ids, check_int, check_logprobs
from .errors import MismatchError, StoreError
from .rows import Rows, to_half

MAX_VOCABULARY = 1 << MAX_ID_BITS
MAX_WIDTH = 0xFFFF  # a row's number of ids is kept in at most 16 bits


@dataclass(frozen=True)
class Encoding(ABC):
    """One way to keep a teacher's rows. Instances are immutable and checked when made.

    Every encoding keeps, per row, the log-probability of the target at temperature 1 (float16)
    and the teacher's top-1 id (which costs nothing where it is the first kept id).
    """

    vocabulary: int

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_int("vocabulary", self.vocabulary, 2, MAX_VOCABULARY)

    @property
    def bits(self) -> int:
        """Bits per stored id."""
        return id_bits(self.vocabulary)

    @property
    def serves_tau(self) -> float | None:
        """The one temperature the rows serve; None: any, re-normalised over the kept entries."""
        return None

    @property
    def keeps_tail(self) -> bool:
        """Rows have a tail mass."""
        return False

    @property
    @abstractmethod
    def width(self) -> int:
        """K, the most entries a decoded row can have."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """What the manifest keeps besides the name and the vocabulary."""

    @abstractmethod
    def select(
        self, logprobs: np.ndarray, targets: np.ndarray, uniform: np.ndarray | None = None
    ) -> Rows:
        """What to keep of a teacher's log-probabilities (N, V), float32, at temperature 1.

        targets: (N,) integers. uniform: what `uniforms` gave for these rows. Rows of many
        samples may share a call; cut the result with ``rows[start:stop]``.
        """

    @abstractmethod
    def encode(self, rows: Rows) -> bytes:
        """The body of one sample's record. Raises StoreError where `check` does."""

    def encode_samples(self, rows: Rows, lengths: Sequence[int]) -> list[bytes]:
        """`encode` of many samples, whose rows follow one another: lengths[i] of sample i."""
        ends = itertools.accumulate(lengths)
        return [self.encode(rows[end - n : end]) for n, end in zip(lengths, ends)]

    @abstractmethod
    def decode(self, body: bytes, n: int) -> Rows:
        """The n rows of a body, in new writable arrays. Raises DamageError where lengths differ."""

    @abstractmethod
    def check(self, rows: Rows) -> None:
        """Raise StoreError unless the rows are ones a teacher can have given."""

    @abstractmethod
    def bytes_per_row(self, distinct: float) -> float:
        """Expected body bytes of a row that keeps `distinct` ids."""

    @abstractmethod
    def max_body(self, n: int) -> int:
        """The most bytes that a body of n rows can have."""

    def check_tau(self, tau: float, tail: bool = False) -> None:
        """Raise MismatchError unless the rows serve temperature `tau`.

        tail: the tail mass is used, too. It cannot be recomputed at another temperature than 1.
        """
        if self.serves_tau is not None and tau != self.serves_tau:
            raise MismatchError(
                f"temperature: the store was drawn at {self.serves_tau} and serves no other, "
                f"found {tau}; train at {self.serves_tau} or capture with draws at {tau}"
            )
        if tail and not self.keeps_tail:
            raise MismatchError("tail mass: the store keeps none; capture it with the tail")
        if tail and tau != 1.0:
            raise MismatchError(f"temperature: the stored tail mass serves 1.0, found {tau}")

    def uniforms(self, fingerprint: str, mask_epoch: int, block: int, n: int) -> np.ndarray | None:
        """The random numbers of one sample's n rows, for `select`; None where nothing is drawn.

        fingerprint: of the data-bin split that the block belongs to.
        """
        return None

    def target_logprob(self, logprobs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(N,) float16 log-probabilities of the targets; checks both shapes."""
        expected = (len(targets), self.vocabulary)
        if logprobs.shape != expected:
            raise StoreError(f"expected log-probabilities {expected}, found {logprobs.shape}")
        return to_half(logprobs[np.arange(len(targets)), targets])

    def check_head(self, rows: Rows) -> None:
        """The part of `check` that all encodings share."""
        check_logprobs("target log-probability", rows.target_logprob, (len(rows),))
        check_ids("top-1 id", rows.top1, (len(rows),), self.vocabulary)
        if (rows.tail is not None) != self.keeps_tail:
            raise StoreError(
                f"tail mass: expected {'one per row' if self.keeps_tail else 'none'}, "
                f"found {'none' if rows.tail is None else rows.tail.shape}"
            )
