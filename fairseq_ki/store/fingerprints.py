"""What ties a store to its data: SHA-256 of files, and a checksum of every sample."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

# The samples per (split, mask epoch) whose checksums make the fingerprint of the masks.
FINGERPRINTED_SAMPLES = 64


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_fingerprint(prefix: str | os.PathLike[str]) -> str:
    """Fingerprint of a data-bin split: SHA-256 of the SHA-256s (hexadecimal) of .bin and .idx.

    prefix: the path without its ending, such as ``data-bin/train``.
    """
    both = "".join(file_sha256(f"{os.fspath(prefix)}.{ending}") for ending in ("bin", "idx"))
    return hashlib.sha256(both.encode()).hexdigest()


def sample_checksum(
    positions: np.ndarray | Sequence[int],
    targets: np.ndarray | Sequence[int],
    inputs: np.ndarray | Sequence[int],
) -> int:
    """32-bit checksum of one sample as the teacher saw it and the student will.

    positions: the n loss positions, ascending; targets: the n ids to predict there; inputs: the
    ids fed to the model (for MLM after masking), without padding. CRC-32 over the three lengths
    and the three arrays, all as little-endian 64-bit integers.
    """
    arrays = [np.asarray(array, "<i8").ravel() for array in (positions, targets, inputs)]
    crc = zlib.crc32(np.array([len(array) for array in arrays], "<i8").tobytes())
    for array in arrays:
        crc = zlib.crc32(array.tobytes(), crc)
    return crc


def masks_fingerprint(checksums: Iterable[int]) -> str:
    """SHA-256 of the checksums of a mask epoch's first samples, as little-endian uint32."""
    return hashlib.sha256(np.array(list(checksums), "<u4").tobytes()).hexdigest()
