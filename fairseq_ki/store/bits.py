"""Bit-packed ids and run-length coded counts, least significant bit first."""

from __future__ import annotations

import numpy as np

from .errors import DamageError

# Four bytes read at any byte offset hold a whole id of up to 25 bits; see `unpack_ids`.
MAX_ID_BITS = 24


def id_bits(vocabulary: int) -> int:
    """Bits per id: ceil(log2(vocabulary)), at least 1."""
    return max(1, (vocabulary - 1).bit_length())


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` ids of `bits` bits take."""
    return (count * bits + 7) // 8


def pack_ids(ids: np.ndarray, bits: int) -> bytes:
    """Flat non-negative ids -> id i in bits [i * bits, (i + 1) * bits) of the result."""
    if bits in (8, 16):
        return ids.astype(f"<u{bits // 8}").tobytes()
    octets = ids.astype("<u4").view(np.uint8).reshape(-1, 4)
    planes = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return np.packbits(planes, bitorder="little").tobytes()


def unpack_ids(packed: bytes, count: int, bits: int) -> np.ndarray:
    """The inverse of `pack_ids`: (count,) int32. `packed` is exactly `packed_bytes` long."""
    if bits in (8, 16):
        return np.frombuffer(packed, f"<u{bits // 8}", count).astype(np.int32)
    # Each id starts inside some byte: read the 32 bits from that byte on, shift, mask.
    windows: np.ndarray = np.ndarray((len(packed),), "<u4", packed + b"\0\0\0", strides=(1,))
    start = np.arange(count, dtype=np.int64) * bits
    shifted = windows[start >> 3] >> (start & 7).astype(np.uint32)
    return (shifted & np.uint32((1 << bits) - 1)).astype(np.int32)


def pack_counts(counts: np.ndarray, distinct: np.ndarray) -> bytes:
    """Counts of each row's ids, ascending within a row, as unary-coded increments.

    counts: flat, `distinct[r]` of them for row r, each at least 1. The last and largest of a row
    is left out: it is what the others lack to the number of draws. Every other count is written
    as (its excess over the count before it, or over 1) zero bits and a one bit, so a run of equal
    counts costs one bit each.
    """
    ends = np.cumsum(distinct)
    previous = np.empty_like(counts)
    previous[1:] = counts[:-1]
    previous[ends - distinct] = 1
    stored = np.ones(len(counts), bool)
    stored[ends - 1] = False
    ones = np.cumsum((counts - previous)[stored] + 1) - 1
    bits = np.zeros(ones[-1] + 1 if len(ones) else 0, np.uint8)
    bits[ones] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_counts(packed: bytes, distinct: np.ndarray, draws: int) -> np.ndarray:
    """The inverse of `pack_counts`: flat int64 counts. Raises DamageError on anything else."""
    stored = distinct - 1
    total = int(stored.sum())
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little"))
    length = (int(ones[-1]) + 8) // 8 if len(ones) else 0
    if len(ones) != total or length != len(packed):
        raise DamageError(
            f"counts: expected {total} one bits ending in the last byte, "
            f"found {len(ones)} ending in byte {length} of {len(packed)}"
        )
    zeros = ones - np.arange(total)
    ends = np.cumsum(stored)
    before = np.where(ends > stored, np.append(0, zeros)[ends - stored], 0)
    smaller = zeros - np.repeat(before, stored) + 1
    sums = np.append(0, np.cumsum(smaller))
    largest = draws - (sums[ends] - sums[ends - stored])
    last_smaller = np.where(stored > 0, np.append(0, smaller)[ends], 1)
    if (largest < last_smaller).any():
        raise DamageError(f"counts: a row's counts do not ascend to a sum of {draws} draws")
    counts = np.empty(total + len(distinct), np.int64)
    last = np.cumsum(distinct) - 1
    is_last = np.zeros(len(counts), bool)
    is_last[last] = True
    counts[is_last] = largest
    counts[~is_last] = smaller
    return counts
