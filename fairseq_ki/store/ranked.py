"""The encodings of the most probable ids: top-K and top-p."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import selection
from .bits import pack_ids, packed_bytes
from .body import BodyReader, half_bytes, pad, width_dtype
from .checks import (
    check_bool,
    check_descending,
    check_distinct,
    check_ids,
    check_int,
    check_logprobs,
    check_mass,
    check_positive,
)
from .encoding import MAX_WIDTH, Encoding
from .errors import StoreError
from .rows import ZERO, Rows, to_half


@dataclass(frozen=True)
class _Ranked(Encoding):
    """Ids with their log-probabilities, the most probable (so the top-1) first."""

    k: int = 10
    tail: bool = False  # keep the log of the probability outside the kept ids, too

    _ragged: ClassVar[bool]  # rows keep different numbers of ids

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("k", self.k, 1, min(self.vocabulary, MAX_WIDTH))
        check_bool("tail", self.tail)

    @property
    def keeps_tail(self) -> bool:
        return self.tail

    @property
    def width(self) -> int:
        return self.k

    @abstractmethod
    def _select(self, logprobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and float32 log-probabilities."""

    def select(
        self, logprobs: np.ndarray, targets: np.ndarray, uniform: np.ndarray | None = None
    ) -> Rows:
        target_logprob = self.target_logprob(logprobs, targets)
        ids, exact_values = self._select(logprobs)
        values = to_half(exact_values)
        tail = None
        if self.tail:
            tail = to_half(selection.log_tail(logprobs, ids, self._used(values)))
        return Rows(ids, values, target_logprob, ids[:, 0].copy(), tail)

    def _used(self, values: np.ndarray) -> np.ndarray:
        used = np.ones(values.shape, bool)
        if self._ragged:
            used[:, 1:] = values[:, 1:] > ZERO
        return used

    def encode(self, rows: Rows) -> bytes:
        self.check(rows)
        used = self._used(rows.values)
        return b"".join(
            (
                half_bytes(rows.target_logprob),
                b"" if rows.tail is None else half_bytes(rows.tail),
                used.sum(axis=1).astype(width_dtype(self.k)).tobytes() if self._ragged else b"",
                pack_ids(rows.kept_ids()[used], self.bits),
                half_bytes(rows.values[used]),
            )
        )

    def decode(self, body: bytes, n: int) -> Rows:
        reader = BodyReader(body)
        target_logprob = reader.halves(n)
        tail = reader.halves(n) if self.tail else None
        width = reader.widths(n, self.k) if self._ragged else np.full(n, self.k)
        total = int(width.sum())
        ids, values = reader.ids(total, self.bits), reader.halves(total)
        reader.end()
        if self._ragged:
            ids, values = pad(ids, width, 0), pad(values, width, ZERO)
        else:
            ids, values = ids.reshape(n, self.k), values.reshape(n, self.k)
        return Rows(ids, values, target_logprob, ids[:, :1].flatten(), tail)

    def check(self, rows: Rows) -> None:
        self.check_head(rows)
        if rows.tail is not None:
            check_logprobs("tail log-probability", rows.tail, (len(rows),))
        columns = min(rows.values.shape[-1], self.k) if self._ragged else self.k
        check_logprobs("log-probability", rows.values, (len(rows), columns))
        ids = rows.kept_ids()
        check_ids("id", ids, rows.values.shape, self.vocabulary)
        check_descending(rows.values)
        check_distinct(ids, self._used(rows.values))
        check_mass(rows.values, at_least=0.0)
        if (rows.top1 != ids[:, :1].ravel()).any():
            raise StoreError("top-1 id: expected the first id of the row, found another")

    def bytes_per_row(self, distinct: float) -> float:
        fixed = 2 + 2 * self.tail + (width_dtype(self.k).itemsize if self._ragged else 0)
        return fixed + distinct * (2 + self.bits / 8)

    def max_body(self, n: int) -> int:
        fixed = 2 + 2 * self.tail + (width_dtype(self.k).itemsize if self._ragged else 0)
        return n * (fixed + 2 * self.k) + packed_bytes(n * self.k, self.bits)


@dataclass(frozen=True)
class TopK(_Ranked):
    """The k most probable ids (the paper's stored logits, k = 10 to 1000)."""

    name = "topk"
    _ragged = False

    def parameters(self) -> dict[str, Any]:
        return {"k": self.k, "tail": self.tail}

    def _select(self, logprobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return selection.select_topk(logprobs, self.k)

    def bytes_per_row(self, distinct: float) -> float:
        return super().bytes_per_row(self.k)


@dataclass(frozen=True)
class TopP(_Ranked):
    """The fewest ids that together reach probability p, at most k (arXiv 2410.16215)."""

    k: int = 100
    p: float = 0.95

    name = "topp"
    _ragged = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("p", self.p, 1.0)
        object.__setattr__(self, "p", float(self.p))

    def parameters(self) -> dict[str, Any]:
        return {"p": self.p, "k": self.k, "tail": self.tail}

    def _select(self, logprobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return selection.select_topp(logprobs, self.p, self.k)
