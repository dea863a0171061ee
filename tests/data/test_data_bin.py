"""A data directory that is not whole is named, with what mends it, before anything is trained."""

import shutil

import pytest

from fairseq_ki.data.data_bin import check_dictionary, check_split


@pytest.fixture
def folder(data_bin, tmp_path):
    return shutil.copytree(data_bin, tmp_path / "bin")


def test_good_data_is_let_pass(folder):
    check_dictionary(f"{folder}:elsewhere")
    for split, combine in (("train", True), ("train", False), ("valid", False)):
        check_split(str(folder), split, 1, combine)
    check_split(f"nowhere:{folder}", "train", 2, False)


def test_an_empty_split_is_whole(folder):
    (folder / "train.bin").write_bytes(b"")
    header = (folder / "train.idx").read_bytes()[:18]
    (folder / "train.idx").write_bytes(header + bytes(8))
    check_split(str(folder), "train", 1, False)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"one two three\n", b"no_count\n", b"a 1\na 2\n"])
def test_a_dictionary_that_cannot_be_read(folder, content):
    (folder / "dict.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"dict\.txt: expected .* found: .*binarise"):
        check_dictionary(str(folder))


def test_no_data_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"found no .*nowhere/dict\.txt; binarise"):
        check_dictionary(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"split 'train': expected .*train\.bin and \.idx"):
        check_split(str(tmp_path), "train", 1, False)


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
        check_split(str(folder), "train", 1, True)


def test_files_of_two_texts(folder):
    shutil.copy(folder / "valid.bin", folder / "train.bin")
    with pytest.raises(ValueError, match="of another text"):
        check_split(str(folder), "train", 1, False)
    (folder / "train.bin").unlink()
    with pytest.raises(ValueError, match="found 0"):
        check_split(str(folder), "train", 1, False)
