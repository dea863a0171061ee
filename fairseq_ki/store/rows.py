"""The decoded form of stored rows: what an encoding writes and what training reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import StoreError

# Stands for log 0 and fills unused columns. Finite, because 0 * -inf is not a number while
# exp(ZERO) * ZERO is 0 in every float type.
ZERO = float(np.finfo(np.float16).min)

# A float32 log-softmax may exceed 0 by rounding; anything above this is a logit.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Rows:
    """What a teacher said at n positions, each with K kept vocabulary entries.

    A row with fewer than K entries is filled at its end: id 0 with value ``ZERO`` (log-probability)
    or 0 (count). Log-probabilities are natural, of the teacher's softmax over the whole vocabulary
    at temperature 1.
    """

    ids: np.ndarray | None  # (n, K) int32; None for dense rows: column j is id j
    values: np.ndarray  # (n, K): float16 log-probabilities, or int32 counts of draws
    target_logprob: np.ndarray  # (n,) float16: log-probability of the target
    top1: np.ndarray  # (n,) int32: the teacher's most probable id
    tail: np.ndarray | None = None  # (n,) float16: log of the probability outside the K entries

    def __len__(self) -> int:
        return len(self.target_logprob)

    def kept_ids(self) -> np.ndarray:
        """`ids`. Raises StoreError on dense rows."""
        if self.ids is None:
            raise StoreError("ids: expected those of the kept entries, found dense rows")
        return self.ids

    def __getitem__(self, part: slice) -> Rows:
        """The rows of `part`, as views."""
        return Rows(
            ids=None if self.ids is None else self.ids[part],
            values=self.values[part],
            target_logprob=self.target_logprob[part],
            top1=self.top1[part],
            tail=None if self.tail is None else self.tail[part],
        )


def to_half(logprobs: np.ndarray) -> np.ndarray:
    """Log-probabilities as finite float16 values in [ZERO, 0], of the same shape.

    Below -1 float16 keeps a log-probability to within 0.05 % of its own size (0.004 at -10).
    Raises StoreError on NaN and on positive values (logits).
    """
    if np.isnan(logprobs).any():
        raise StoreError("the teacher's log-probabilities must be numbers: found NaN")
    largest = logprobs.max(initial=0.0)
    if largest > _ROUNDING:
        raise StoreError(
            f"expected log-probabilities, at most 0: found {largest:.4g}; "
            "apply log_softmax over the vocabulary first"
        )
    return np.clip(logprobs, ZERO, 0.0).astype(np.float16)
