"""Bit-packed ids and unary-coded counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_ki.store.bits import (
    id_bits,
    pack_counts,
    pack_ids,
    packed_bytes,
    unpack_counts,
    unpack_ids,
)
from fairseq_ki.store.errors import DamageError


@pytest.mark.parametrize(
    ("vocabulary", "bits"),
    [(2, 1), (3, 2), (256, 8), (257, 9), (32768, 15), (50265, 16), (65536, 16), (65537, 17)],
)
def test_id_bits(vocabulary, bits):
    assert id_bits(vocabulary) == bits


@given(st.integers(1, 24), st.data())
def test_ids_round_trip_in_the_promised_bytes(bits, data):
    ids = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70)), np.int32)
    packed = pack_ids(ids, bits)
    assert len(packed) == packed_bytes(len(ids), bits) == -(-len(ids) * bits // 8)
    np.testing.assert_array_equal(unpack_ids(packed, len(ids), bits), ids)


def test_ids_lie_least_significant_bit_first():
    assert pack_ids(np.array([0b001, 0b110, 0b011]), 3) == bytes([0b11_110_001, 0b0])
    assert pack_ids(np.array([0x1234, 0xABCD]), 16) == bytes([0x34, 0x12, 0xCD, 0xAB])


@st.composite
def ascending_counts(draw):
    """Rows of counts, ascending, with one sum."""
    draws = draw(st.integers(1, 60))
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        cuts = draw(st.sets(st.integers(1, draws - 1), max_size=draws)) if draws > 1 else set()
        rows.append(sorted(np.diff([0, *sorted(cuts), draws]).tolist()))
    return draws, rows


@given(ascending_counts())
@settings(max_examples=300)
def test_counts_round_trip(case):
    draws, rows = case
    distinct = np.array([len(row) for row in rows], np.int64)
    counts = np.array([count for row in rows for count in row], np.int64)
    packed = pack_counts(counts, distinct)
    # A one per count but the last, and a zero per increment up to the second largest.
    bits = sum(len(row) - 1 + (row[-2] - 1 if len(row) > 1 else 0) for row in rows)
    assert len(packed) == -(-bits // 8)
    np.testing.assert_array_equal(unpack_counts(packed, distinct, draws), counts)


def test_counts_are_unary_increments():
    # [1, 1, 3 | 5] -> 1, 1, 001; [10] -> nothing; [2 | 8] -> 01
    counts, distinct = np.array([1, 1, 3, 5, 10, 2, 8]), np.array([4, 1, 2])
    assert pack_counts(counts, distinct) == bytes([0b10_100_1_1])
    np.testing.assert_array_equal(unpack_counts(bytes([0b10_100_1_1]), distinct, 10), counts)


@pytest.mark.parametrize(
    ("packed", "distinct"),
    [
        (b"", [2]),  # a one bit is missing
        (b"\x03", [2]),  # one too many
        (b"\x01\x00", [2]),  # a byte too many
        (b"\x00\x01", [2]),  # 9 and 1: descending
        (b"\x00\x08", [2]),  # 12 of 10 draws
        (b"\x00\x00\x00\x01", [2]),  # more than there are
    ],
)
def test_other_bits_are_refused(packed, distinct):
    with pytest.raises(DamageError, match="counts"):
        unpack_counts(packed, np.array(distinct), 10)


@given(st.binary(max_size=12), st.lists(st.integers(1, 9), max_size=6))
def test_any_bits_give_right_counts_or_an_error(packed, distinct):
    distinct = np.array(distinct, np.int64)
    try:
        counts = unpack_counts(packed, distinct, 10)
    except DamageError:
        return
    rows = np.split(counts, np.cumsum(distinct)[:-1]) if len(distinct) else []
    assert all(row.sum() == 10 and row.min() >= 1 and (np.diff(row) >= 0).all() for row in rows)
