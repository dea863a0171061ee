"""The encoding of ids drawn from the teacher's distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import selection
from .bits import MAX_ID_BITS, pack_counts, pack_ids, packed_bytes, unpack_counts
from .body import BodyReader, half_bytes, pad, width_dtype
from .checks import check_distinct, check_ids, check_int, check_within
from .encoding import MAX_WIDTH, Encoding
from .errors import StoreError
from .rows import Rows

_COUNT_BITS = MAX_WIDTH.bit_length()
_ROW_SHIFT = MAX_ID_BITS + _COUNT_BITS  # leaves 23 bits for the row, 8 times the most of a sample


@dataclass(frozen=True)
class Sampled(Encoding):
    """Distinct ids and counts of draws from softmax(teacher / tau) (arXiv 2503.16870).

    Counts over `draws` are an unbiased estimate of the teacher's probabilities at `tau`.
    """

    draws: int = 50
    tau: float = 1.0
    seed: int = 1

    name = "sampled"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("draws", self.draws, 1, MAX_WIDTH)
        check_within("tau", self.tau, 1e-3, 1e4)
        check_int("seed", self.seed, 0, (1 << 64) - 1)
        object.__setattr__(self, "tau", float(self.tau))

    @property
    def serves_tau(self) -> float | None:
        return self.tau

    @property
    def width(self) -> int:
        return min(self.draws, self.vocabulary)

    def parameters(self) -> dict[str, Any]:
        return {"draws": self.draws, "tau": self.tau, "seed": self.seed}

    def uniforms(self, fingerprint: str, mask_epoch: int, block: int, n: int) -> np.ndarray:
        # Every number takes a fixed count of 32-bit words, so that no two keys share a seed.
        words = [int(fingerprint[i : i + 8], 16) for i in range(0, 64, 8)]
        for number in (self.seed, mask_epoch, block):
            words += [number & 0xFFFFFFFF, number >> 32]
        return selection.uniforms(words, n, self.draws)

    def select(
        self, logprobs: np.ndarray, targets: np.ndarray, uniform: np.ndarray | None = None
    ) -> Rows:
        target_logprob = self.target_logprob(logprobs, targets)
        expected = (len(targets), self.draws)
        if uniform is None or uniform.shape != expected:
            found = "none" if uniform is None else uniform.shape
            raise StoreError(f"uniforms: expected {expected} as made by uniforms(), found {found}")
        drawn = selection.draw(logprobs, uniform, self.tau)
        ids, counts = selection.tally(drawn, self.vocabulary)
        return Rows(ids, counts, target_logprob, logprobs.argmax(axis=1).astype(np.int32))

    def encode(self, rows: Rows) -> bytes:
        return self.encode_samples(rows, [len(rows)])[0]

    def encode_samples(self, rows: Rows, lengths: Sequence[int]) -> list[bytes]:
        self.check(rows)
        used = rows.values > 0
        distinct = used.sum(axis=1)
        # one number for (row, count, id): numpy sorts plain integers many times as fast as tuples
        keys = np.repeat(np.arange(len(rows)) << _ROW_SHIFT, distinct)
        keys |= rows.values[used].astype(np.int64) << MAX_ID_BITS
        keys |= rows.kept_ids()[used]
        keys.sort()
        ids = keys & ((1 << MAX_ID_BITS) - 1)
        counts = keys >> MAX_ID_BITS & ((1 << _COUNT_BITS) - 1)
        bodies = []
        row = entry = 0
        for n in lengths:
            of_sample = slice(row, row + n)
            kept = distinct[of_sample]
            entries = slice(entry, entry + int(kept.sum()))
            bodies.append(
                half_bytes(rows.target_logprob[of_sample])
                + kept.astype(width_dtype(self.width)).tobytes()
                + pack_ids(np.concatenate([rows.top1[of_sample], ids[entries]]), self.bits)
                + pack_counts(counts[entries], kept)
            )
            row, entry = of_sample.stop, entries.stop
        return bodies

    def decode(self, body: bytes, n: int) -> Rows:
        reader = BodyReader(body)
        target_logprob = reader.halves(n)
        distinct = reader.widths(n, self.width)
        ids = reader.ids(n + int(distinct.sum()), self.bits)
        counts = unpack_counts(reader.rest(), distinct, self.draws).astype(np.int32)
        ids, top1 = ids[n:], ids[:n].copy()
        return Rows(pad(ids, distinct, 0), pad(counts, distinct, 0), target_logprob, top1)

    def check(self, rows: Rows) -> None:
        self.check_head(rows)
        counts = rows.values
        check_ids("count", counts, (len(rows), counts.shape[-1]), self.draws + 1)
        check_ids("id", rows.kept_ids(), counts.shape, self.vocabulary)
        sums = counts.sum(axis=1)
        if (sums != self.draws).any():
            raise StoreError(
                f"counts: expected a sum of {self.draws} draws per row, "
                f"found {sums.min()} to {sums.max()}"
            )
        check_distinct(rows.kept_ids(), counts > 0)

    def bytes_per_row(self, distinct: float) -> float:
        # Count bits: a one per id but the last, and as many zeros as the second largest count
        # exceeds 1: about a sixth of the draws beyond an id's first where rows follow Zipf's law.
        count_bits = (distinct - 1) + (self.draws - distinct) / 6
        fixed = 2 + width_dtype(self.width).itemsize
        return fixed + (distinct + 1) * self.bits / 8 + count_bits / 8

    def max_body(self, n: int) -> int:
        fixed = n * (2 + width_dtype(self.width).itemsize) + (n * self.draws + 7) // 8
        return fixed + packed_bytes(n * (1 + self.width), self.bits)
