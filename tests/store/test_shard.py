"""Files that are no shards, and shards that lie: refused before anything large is allocated."""

import os
import resource
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from fairseq_ki.store import DamageError, StoreReader, verify
from fairseq_ki.store.shard import HEADER_BYTES

FIRST = "split0000-epoch00001-block000000000000.rows"
SAMPLES = 20
INDEX_END = HEADER_BYTES + 8 * (SAMPLES + 1)


@pytest.fixture
def directory(finished, tmp_path):
    shutil.copytree(finished["topp"], tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def few_megabytes():
    """Anything beyond 256 MiB more than now cannot be allocated."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def patched(path, offset, new):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(new)] = new
    path.write_bytes(content)
    return content


def with_valid_header(path):
    """Give a changed header the right CRC-32 again."""
    content = path.read_bytes()
    patched(path, HEADER_BYTES - 4, struct.pack("<I", zlib.crc32(content[: HEADER_BYTES - 4])))


def read_first(directory, synthetic, block=0):
    reader = StoreReader(directory)
    return reader.read(0, 1, block, checksum=synthetic.make_rows(reader.plan, 0, 1, block)[0])


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "missing", "empty", "device"])
def test_only_regular_files_are_shards(directory, synthetic, kind):
    path = directory / FIRST
    moved = path.rename(directory.parent / "elsewhere")
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.touch()
    with pytest.raises(DamageError, match="expected"):
        StoreReader(directory)
    assert not verify(directory).whole


@pytest.mark.parametrize(
    ("offset", "new", "name"),
    [
        (0, b"PK\x03\x04", "magic"),
        (8, struct.pack("<I", 2), "format version: expected 1, found 2"),
        (12, struct.pack("<I", 1), "split: expected 0, found 1"),
        (16, struct.pack("<I", 2), "mask epoch: expected 1, found 2"),
        (20, struct.pack("<I", 0xFFFFFFFF), "samples: expected 20, found 4294967295"),
        (24, struct.pack("<Q", 20), "first block: expected 0, found 20"),
        (32, struct.pack("<Q", 1 << 63), "rows"),
        (40, struct.pack("<Q", 1 << 63), "file size in bytes: expected [0-9]+, found 922337"),
        (48, b"\0" * 32, "fingerprint of the plan"),
        (80, b"\1", "reserved field: expected 0, found 1"),
    ],
)
def test_headers_that_do_not_fit_the_manifest_are_refused(directory, offset, new, name):
    path = directory / FIRST
    patched(path, offset, new)
    with pytest.raises(DamageError, match=r"header: |rows"):
        StoreReader(directory)
    with_valid_header(path)
    with pytest.raises(DamageError, match=name):
        StoreReader(directory)


def test_a_shard_of_another_store_is_refused(directory, synthetic, tmp_path):
    """Same names, same sizes of everything, another teacher."""
    other = synthetic.make_plan(synthetic.ENCODINGS["topp"], teacher_sha256="e" * 64)
    synthetic.capture(tmp_path / "other", other).finalize()
    shutil.copy(tmp_path / "other" / FIRST, directory / FIRST)
    with pytest.raises(DamageError, match="fingerprint of the plan: expected"):
        StoreReader(directory)


@pytest.mark.usefixtures("few_megabytes")
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 100),
        (INDEX_END - 1, INDEX_END + 50),
        (INDEX_END + 50, INDEX_END),
        (INDEX_END, INDEX_END + 11),
        (INDEX_END, 1 << 40),
        (INDEX_END, (1 << 64) - 1),
        ((1 << 64) - 8, INDEX_END + 50),
        (1 << 63, 1 << 63),
    ],
)
def test_offsets_that_lead_nowhere_are_refused(directory, synthetic, start, end):
    patched(directory / FIRST, HEADER_BYTES, struct.pack("<QQ", start, end))
    with pytest.raises(DamageError, match="sample 0: expected a record"):
        read_first(directory, synthetic)
    assert not verify(directory).whole


def test_overlapping_records_are_refused_by_verify(directory, synthetic):
    """Sample 1 as a copy of sample 0's place: its checksum tells when read."""
    content = (directory / FIRST).read_bytes()
    first, second = struct.unpack_from("<QQ", content, HEADER_BYTES)
    patched(directory / FIRST, HEADER_BYTES, struct.pack("<QQQ", first, second, first))
    with pytest.raises(DamageError, match="sample 1: expected a record"):
        read_first(directory, synthetic, block=1)
    assert any("ascending offsets" in problem for problem in verify(directory).problems)


def record_of(directory, sample):
    content = (directory / FIRST).read_bytes()
    start, end = struct.unpack_from("<QQ", content, HEADER_BYTES + 8 * sample)
    return start, content[start:end]


def with_valid_crc(record):
    return struct.pack("<I", zlib.crc32(record[4:])) + record[4:]


@pytest.mark.usefixtures("few_megabytes")
@pytest.mark.parametrize("rows", [33, 1 << 20, 0xFFFFFFFF])
def test_huge_numbers_of_rows_are_refused(directory, synthetic, rows):
    start, record = record_of(directory, 0)
    record = with_valid_crc(record[:8] + struct.pack("<I", rows) + record[12:])
    patched(directory / FIRST, start, record)
    with pytest.raises(DamageError, match=f"expected at most 32 rows, found {rows}"):
        read_first(directory, synthetic)


@pytest.mark.usefixtures("few_megabytes")
def test_a_huge_sparse_shard_is_refused_before_it_is_read(directory, synthetic):
    path = directory / FIRST
    os.truncate(path, 1 << 40)
    patch_header(path, rows=32 * 20, size=1 << 40)
    with pytest.raises(DamageError, match=r"expected [0-9]+ bytes and [0-9]+ rows"):
        StoreReader(directory)


def patch_header(path, rows, size):
    with open(path, "r+b") as file:
        header = bytearray(file.read(HEADER_BYTES))
        header[32:48] = struct.pack("<QQ", rows, size)
        header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
        file.seek(0)
        file.write(header)
