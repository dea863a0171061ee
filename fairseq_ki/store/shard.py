"""The bytes of one shard: header, index, records (FORMAT.md, "Shards")."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import DamageError
from .plan import Plan, Shard
from .regular_file import open_regular

MAGIC = b"KISHARD\n"
VERSION = 1

# magic, version, split, mask epoch, samples, first block, rows, file size, plan's SHA-256, zero
_HEADER = struct.Struct("<8sIIIIQQQ32sI")
HEADER_BYTES = _HEADER.size + 4  # and a CRC-32 of them
_RECORD = struct.Struct("<III")  # CRC-32 of what follows it, sample checksum, rows
RECORD_HEAD_BYTES = _RECORD.size
INDEX_BYTES_PER_SAMPLE = 8


class Record(NamedTuple):
    """One sample as stored."""

    checksum: int  # `sample_checksum`
    rows: int
    body: bytes  # for the encoding to decode


def pack_header(shard: Shard, fingerprint: bytes, rows: int, size: int) -> bytes:
    """fingerprint: the plan's, as 32 bytes; size: of the whole file."""
    fields = _HEADER.pack(
        MAGIC,
        VERSION,
        shard.split,
        shard.mask_epoch,
        shard.samples,
        shard.first_block,
        rows,
        size,
        fingerprint,
        0,
    )
    return fields + struct.pack("<I", zlib.crc32(fields))


def pack_record(record: Record) -> bytes:
    """A record as the file has it."""
    rest = struct.pack("<II", record.checksum, record.rows) + record.body
    return struct.pack("<I", zlib.crc32(rest)) + rest


def index_end(samples: int) -> int:
    """Where the first record starts."""
    return HEADER_BYTES + INDEX_BYTES_PER_SAMPLE * (samples + 1)


class ShardFile:
    """A shard open for reading. Nothing of it stays in memory; the file closes with the object.

    Reads with `pread` rather than a memory map: a map's pages count as this process's memory
    until the kernel takes them back, and a file truncated under a map kills the process.
    """

    def __init__(self, directory: Path, plan: Plan, fingerprint: bytes, shard: Shard) -> None:
        """Open and check the header against the plan. Raises DamageError where they differ."""
        self._fd = -1
        self.path = directory / shard.file
        self.shard = shard
        self._plan = plan
        self._max_record = RECORD_HEAD_BYTES + plan.encoding.max_body(plan.max_rows)
        try:
            self._fd = open_regular(self.path)
        except FileNotFoundError as error:
            raise DamageError(f"{self.path}: expected a shard of the store, found none") from error
        self.bytes = os.fstat(self._fd).st_size
        header = self._read(0, HEADER_BYTES)
        self.rows = _HEADER.unpack_from(header)[6]
        expected = pack_header(shard, fingerprint, self.rows, self.bytes)
        if header != expected:
            raise DamageError(f"{self.path}: {_header_difference(expected, header)}")
        if self.bytes < index_end(shard.samples):
            raise DamageError(
                f"{self.path}: expected an index up to byte {index_end(shard.samples)}, found "
                f"{self.bytes} bytes"
            )

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self, start: int, size: int) -> bytes:
        found = os.pread(self._fd, size, start)
        if len(found) != size:
            raise DamageError(
                f"{self.path}: expected {size} bytes from byte {start}, found {len(found)}: "
                "the file is truncated"
            )
        return found

    def record(self, number: int) -> Record:
        """Sample `number` of the shard. Raises DamageError where its bytes were altered."""
        where = f"{self.path}: sample {number}"
        index = self._read(HEADER_BYTES + INDEX_BYTES_PER_SAMPLE * number, 16)
        start, end = struct.unpack("<QQ", index)
        lowest = index_end(self.shard.samples)
        if not lowest <= start <= end - RECORD_HEAD_BYTES <= self.bytes - RECORD_HEAD_BYTES:
            raise DamageError(
                f"{where}: expected a record between bytes {lowest} and {self.bytes}, "
                f"found {start} to {end}"
            )
        if end - start > self._max_record:
            raise DamageError(
                f"{where}: expected a record of at most {self._max_record} bytes, "
                f"found {end - start}"
            )
        raw = self._read(start, end - start)
        crc, checksum, rows = _RECORD.unpack_from(raw)
        found = zlib.crc32(memoryview(raw)[4:])
        if found != crc:
            raise DamageError(
                f"{where}: expected CRC-32 {crc:#010x} of the stored bytes, found {found:#010x}"
            )
        if rows > self._plan.max_rows:
            raise DamageError(f"{where}: expected at most {self._plan.max_rows} rows, found {rows}")
        return Record(checksum, rows, raw[RECORD_HEAD_BYTES:])

    def offsets(self) -> np.ndarray:
        """(samples + 1,) uint64: where each record starts, and the last one ends."""
        size = INDEX_BYTES_PER_SAMPLE * (self.shard.samples + 1)
        return np.frombuffer(self._read(HEADER_BYTES, size), "<u8")


def _header_difference(expected: bytes, found: bytes) -> str:
    names = (
        "magic",
        "format version",
        "split",
        "mask epoch",
        "samples",
        "first block",
        "rows",
        "file size in bytes",
        "fingerprint of the plan",
        "reserved field",
    )
    pairs = zip(names, _HEADER.unpack_from(expected), _HEADER.unpack_from(found))
    lines = [
        f"{name}: expected {_shown(one)}, found {_shown(other)}"
        for name, one, other in pairs
        if one != other
    ]
    return "header: " + ("; ".join(lines) or "expected another CRC-32 of it: it is damaged")


def _shown(value: bytes | int) -> str:
    return str(value) if isinstance(value, int) else value.hex()
