"""Values of a record that are no numbers are refused, whatever its check sums say."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from fairseq_ki.store import DamageError, StoreReader, verify
from fairseq_ki.store.body import BodyReader, half_bytes
from fairseq_ki.store.shard import HEADER_BYTES, RECORD_HEAD_BYTES


def test_finite_values_are_read():
    values = np.array([0, -0.0, -1.5, 65504, -65504, 6e-8], np.float16)
    np.testing.assert_array_equal(BodyReader(half_bytes(values)).halves(6), values)
    assert len(BodyReader(b"").halves(0)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_others_are_refused(value):
    values = np.array([-1, value, -2], np.float16)
    with pytest.raises(DamageError, match="expected finite ones, found NaN or infinity"):
        BodyReader(half_bytes(values)).halves(3)


def test_a_store_with_nan_is_refused_by_reading_and_by_verify(finished, tmp_path):
    """As one would be that was made by hand: its record's CRC-32 fits."""
    store = Path(shutil.copytree(finished["topk"], tmp_path / "store"))
    plan = StoreReader(store).plan
    first = next(iter(plan.shards()))
    content = bytearray((store / first.file).read_bytes())
    start, end = struct.unpack_from("<QQ", content, HEADER_BYTES)
    checksum = struct.unpack_from("<I", content, start + 4)[0]
    struct.pack_into("<H", content, start + RECORD_HEAD_BYTES, 0x7E00)  # NaN
    struct.pack_into("<I", content, start, zlib.crc32(content[start + 4 : end]))
    (store / first.file).write_bytes(content)
    with pytest.raises(DamageError, match="NaN or infinity"):
        StoreReader(store).read(first.split, first.mask_epoch, first.first_block, checksum=checksum)
    report = verify(store)
    assert any("NaN or infinity" in problem for problem in report.problems)
