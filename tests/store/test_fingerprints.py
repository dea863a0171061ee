"""Checksums of samples and fingerprints of files."""

import hashlib
import struct
import zlib

import numpy as np

from fairseq_ki.store import file_sha256, masks_fingerprint, sample_checksum, split_fingerprint


def test_sample_checksum_is_the_crc_of_lengths_and_arrays():
    data = struct.pack("<9q", 2, 2, 2, 1, 3, 70, 80, 5, -1)
    assert sample_checksum([1, 3], [70, 80], [5, -1]) == zlib.crc32(data)


def test_sample_checksum_does_not_depend_on_the_arrays_type():
    positions, targets, inputs = [0, 2], [7, 8], [4, 5, 6]
    expected = sample_checksum(positions, targets, inputs)
    for dtype in ("<i4", "<i8", ">i8", "u2"):
        arrays = [np.array(array, dtype) for array in (positions, targets, inputs)]
        assert sample_checksum(*arrays) == expected
    strided = np.array([[0, 9], [2, 9]])[:, 0]
    assert sample_checksum(strided, targets, inputs) == expected


def test_sample_checksum_tells_every_part_apart():
    samples = [
        ([0, 2], [7, 8], [4, 5, 6]),
        ([0, 1], [7, 8], [4, 5, 6]),
        ([0, 2], [8, 7], [4, 5, 6]),
        ([0, 2], [7, 8], [4, 5, 7]),
        ([0], [2, 7, 8], [4, 5, 6]),  # the same numbers, cut elsewhere
        ([], [], [0, 2, 7, 8, 4, 5, 6]),
        ([], [], []),
    ]
    assert len({sample_checksum(*sample) for sample in samples}) == len(samples)


def test_fingerprints_of_files(tmp_path):
    (tmp_path / "train.bin").write_bytes(b"tokens")
    (tmp_path / "train.idx").write_bytes(b"index")
    assert file_sha256(tmp_path / "train.bin") == hashlib.sha256(b"tokens").hexdigest()
    both = hashlib.sha256(b"tokens").hexdigest() + hashlib.sha256(b"index").hexdigest()
    found = split_fingerprint(tmp_path / "train")
    assert found == hashlib.sha256(both.encode()).hexdigest()
    (tmp_path / "train.idx").write_bytes(b"indey")
    assert split_fingerprint(tmp_path / "train") != found


def test_masks_fingerprint():
    expected = hashlib.sha256(struct.pack("<2I", 1, 0xFFFFFFFF)).hexdigest()
    assert masks_fingerprint(iter([1, 0xFFFFFFFF])) == expected
