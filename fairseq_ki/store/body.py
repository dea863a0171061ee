"""Reading the arrays of a record's body one after another, and the padding of ragged rows."""

from __future__ import annotations

import numpy as np

from .bits import packed_bytes, unpack_ids
from .errors import DamageError


def width_dtype(largest: int) -> np.dtype:
    """How a row's number of ids, at most `largest`, is kept."""
    return np.dtype("u1" if largest <= 0xFF else "<u2")


def half_bytes(values: np.ndarray) -> bytes:
    """Float16 values, little-endian."""
    return values.astype("<f2").tobytes()


def pad(flat: np.ndarray, width: np.ndarray, fill: float) -> np.ndarray:
    """Ragged rows, `width[r]` entries each, one after another -> (n, max width)."""
    used = np.arange(width.max(initial=0)) < width[:, None]
    padded = np.full(used.shape, fill, flat.dtype)
    padded[used] = flat
    return padded


class BodyReader:
    """A position in a body. Every method checks what is left before it makes an array."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def _take(self, size: int) -> bytes:
        part = self._body[self._at : self._at + size]
        if len(part) != size:
            raise DamageError(
                f"body: expected {size} bytes from byte {self._at}, "
                f"found {len(self._body) - self._at}"
            )
        self._at += size
        return part

    def halves(self, count: int) -> np.ndarray:
        """(count,) float16, all finite: a writer keeps no others."""
        halves = self._take(2 * count)
        # by their bits: a comparison of float16 numbers takes numpy many times as long
        if (np.frombuffer(halves, "<u2") & 0x7FFF >= 0x7C00).any():
            raise DamageError("float16 values: expected finite ones, found NaN or infinity")
        return np.frombuffer(halves, "<f2").astype(np.float16)

    def ids(self, count: int, bits: int) -> np.ndarray:
        """(count,) int32 of `bits` bits each."""
        return unpack_ids(self._take(packed_bytes(count, bits)), count, bits)

    def widths(self, count: int, largest: int) -> np.ndarray:
        """(count,) int64 numbers of ids, each from 1 to `largest`."""
        dtype = width_dtype(largest)
        width = np.frombuffer(self._take(count * dtype.itemsize), dtype).astype(np.int64)
        if count and not (width.min() >= 1 and width.max() <= largest):
            raise DamageError(
                f"ids per row: expected 1 to {largest}, found {width.min()} to {width.max()}"
            )
        return width

    def rest(self) -> bytes:
        """All that is left."""
        return self._take(len(self._body) - self._at)

    def end(self) -> None:
        """Raise DamageError unless nothing is left."""
        if self._at != len(self._body):
            raise DamageError(f"body: expected {self._at} bytes, found {len(self._body)}")
