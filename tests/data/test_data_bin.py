"""A data directory that is not whole is named, with what mends it, before anything is trained."""

import shutil
import struct

import numpy as np
import pytest

from fairseq_ki.data.data_bin import check_dictionary, check_split

SYMBOLS = 64


@pytest.fixture
def folder(data_bin, tmp_path):
    return shutil.copytree(data_bin, tmp_path / "bin")


def test_good_data_is_let_pass(folder):
    check_dictionary(f"{folder}:elsewhere")
    for split, combine in (("train", True), ("train", False), ("valid", False)):
        check_split(str(folder), split, 1, combine, SYMBOLS)
    check_split(f"nowhere:{folder}", "train", 2, False, SYMBOLS)


def test_an_empty_split(folder):
    (folder / "train.bin").write_bytes(b"")
    header = (folder / "train.idx").read_bytes()[:18]
    (folder / "train.idx").write_bytes(header + bytes(8))
    with pytest.raises(ValueError, match=r"train\.bin: expected sentences, found none"):
        check_split(str(folder), "train", 1, False, SYMBOLS)


def test_ids_without_a_symbol(folder):
    with pytest.raises(ValueError, match=r"expected ids from 0 to 62, .* 63 symbols .* found 63"):
        check_split(str(folder), "train", 1, False, SYMBOLS - 1)


def test_ids_are_looked_at_to_the_last(folder, monkeypatch):
    monkeypatch.setattr("fairseq_ki.data.data_bin._PIECE", 100)
    check_split(str(folder), "train", 1, False, SYMBOLS)
    tokens = np.fromfile(folder / "train.bin", np.uint16)
    tokens[-1] = 64
    tokens.tofile(folder / "train.bin")
    with pytest.raises(ValueError, match="found 64: its dict.txt is of other data"):
        check_split(str(folder), "train", 1, False, SYMBOLS)


def write_one_sentence(folder, tokens, code):
    tokens.tofile(folder / "train.bin")
    header = struct.pack("<9sQBQ", b"MMIDIDX\0\0", 1, code, 1)
    (folder / "train.idx").write_bytes(header + struct.pack("<iq", len(tokens), 0))


def test_ids_that_are_no_ids(folder):
    write_one_sentence(folder, np.array([4, -1], np.int32), 4)
    with pytest.raises(ValueError, match="found -1"):
        check_split(str(folder), "train", 1, False, SYMBOLS)
    write_one_sentence(folder, np.array([4.0, 5.0], np.float64), 6)
    with pytest.raises(ValueError, match="expected whole numbers as ids, found float64"):
        check_split(str(folder), "train", 1, False, SYMBOLS)


@pytest.mark.parametrize("piece", [10, 1 << 22])
@pytest.mark.parametrize(
    ("sentence", "size", "found"), [(0, 2**31 - 1, "begin where"), (299, -5, "found one of -5")]
)
def test_a_size_that_is_damaged(folder, monkeypatch, sentence, size, found, piece):
    """fairseq would cut two thousand million tokens into blocks before it noticed."""
    monkeypatch.setattr("fairseq_ki.data.data_bin._PIECE", piece)
    content = bytearray((folder / "train.idx").read_bytes())
    struct.pack_into("<i", content, 26 + 4 * sentence, size)
    (folder / "train.idx").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train\.idx: .*{found}"):
        check_split(str(folder), "train", 1, False, SYMBOLS)


def test_an_index_of_another_version(folder):
    content = bytearray((folder / "train.idx").read_bytes())
    content[9] = 2
    (folder / "train.idx").write_bytes(content)
    with pytest.raises(ValueError, match="version 1, found version 2"):
        check_split(str(folder), "train", 1, False, SYMBOLS)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"one two three\n", b"no_count\n", b"a 1\na 2\n"])
def test_a_dictionary_that_cannot_be_read(folder, content):
    (folder / "dict.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"dict\.txt: expected .* found: .*binarise"):
        check_dictionary(str(folder))


def test_no_data_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"found no .*nowhere/dict\.txt; binarise"):
        check_dictionary(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"split 'train': expected .*train\.bin and \.idx"):
        check_split(str(tmp_path), "train", 1, False, SYMBOLS)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("train.idx", 0, "expected an index, found 0 bytes"),
        ("train.idx", 20, "expected an index, found 20 bytes"),
        ("train.idx", -1, "for the 300 sentences"),
        ("train.idx", 200, "for the 300 sentences"),
        ("train.bin", 0, "as its .idx says, found 0"),
        ("train.bin", -1, "cut short"),
    ],
)
def test_files_that_are_cut_short(folder, name, size, message):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=message):
        check_split(str(folder), "train", 1, True, SYMBOLS)


def test_files_of_two_texts(folder):
    shutil.copy(folder / "valid.bin", folder / "train.bin")
    with pytest.raises(ValueError, match="of another text"):
        check_split(str(folder), "train", 1, False, SYMBOLS)
    (folder / "train.bin").unlink()
    with pytest.raises(ValueError, match="found 0"):
        check_split(str(folder), "train", 1, False, SYMBOLS)
