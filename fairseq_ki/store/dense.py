"""The encoding of the whole vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .bits import pack_ids, packed_bytes
from .body import BodyReader, half_bytes
from .checks import check_logprobs, check_mass
from .encoding import Encoding
from .errors import StoreError
from .rows import Rows, to_half


@dataclass(frozen=True)
class Dense(Encoding):
    """The log-probabilities of the whole vocabulary: for tests and small vocabularies."""

    name = "dense"

    @property
    def width(self) -> int:
        return self.vocabulary

    def parameters(self) -> dict[str, Any]:
        return {}

    def select(
        self, logprobs: np.ndarray, targets: np.ndarray, uniform: np.ndarray | None = None
    ) -> Rows:
        target_logprob = self.target_logprob(logprobs, targets)
        top1 = logprobs.argmax(axis=1).astype(np.int32)
        return Rows(None, to_half(logprobs), target_logprob, top1)

    def encode(self, rows: Rows) -> bytes:
        self.check(rows)
        return (
            half_bytes(rows.target_logprob)
            + pack_ids(rows.top1, self.bits)
            + half_bytes(rows.values)
        )

    def decode(self, body: bytes, n: int) -> Rows:
        reader = BodyReader(body)
        target_logprob, top1 = reader.halves(n), reader.ids(n, self.bits)
        values = reader.halves(n * self.vocabulary).reshape(n, self.vocabulary)
        reader.end()
        return Rows(None, values, target_logprob, top1)

    def check(self, rows: Rows) -> None:
        self.check_head(rows)
        if rows.ids is not None:
            raise StoreError("dense rows: expected no ids (column j is id j), found some")
        check_logprobs("log-probability", rows.values, (len(rows), self.vocabulary))
        check_mass(rows.values, at_least=1.0)

    def bytes_per_row(self, distinct: float) -> float:
        return 2 + self.bits / 8 + 2 * self.vocabulary

    def max_body(self, n: int) -> int:
        return n * (2 + 2 * self.vocabulary) + packed_bytes(n, self.bits)
