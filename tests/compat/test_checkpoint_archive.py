"""Archives in which two readers would find two contents: what was checked is what is read."""

import io
import struct
import warnings
import zipfile

import pytest
import torch

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_archive import is_archive, what_is_wrong

END = b"PK\x05\x06"


def saved(value: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save({"model": {"w": value}, "cfg": {}}, file)
    return file.getvalue()


def repacked(archive: bytes, method: int = zipfile.ZIP_STORED) -> bytearray:
    """The same records by Python's writer, which aligns nothing and has no index of 64 bits."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), method if "/data/" in name else 0)
    return bytearray(file.getvalue())


def index(archive: bytes) -> tuple[int, int, int]:
    """Where the end is, how long the index, and where it says that it starts."""
    end = archive.rindex(END)
    return end, *struct.unpack("<2L", archive[end + 12 : end + 20])


def two_archives() -> bytes:
    """Python counts back from the end to an honest index, torch goes where the end points."""
    hidden = repacked(saved(torch.full((1000,), 7.0)), zipfile.ZIP_DEFLATED)
    shown = repacked(saved(torch.zeros(1000)))
    end, size, start = index(shown)
    _, hidden_size, at = index(hidden)
    if at < start:  # offsets are not negative
        hidden[at:at] = bytes(start - at)
        at = start
    assert size == hidden_size
    shown[end + 16 : end + 20] = struct.pack("<L", at)
    entry = start
    while entry < end:
        lengths = struct.unpack("<3H", shown[entry + 28 : entry + 34])
        (header,) = struct.unpack("<L", shown[entry + 42 : entry + 46])
        shown[entry + 42 : entry + 46] = struct.pack("<L", header + at - start)
        entry += 46 + sum(lengths)
    return bytes(hidden + shown)


def other_locator() -> bytes:
    """The index of 64 bits, which torch writes always, is not the one that Python finds."""
    archive = repacked(saved(torch.zeros(3)))
    end, size, start = index(archive)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 30, 1)
    return bytes(archive[:end] + wide + locator + archive[end:])


def named_twice() -> bytes:
    archive = repacked(saved(torch.zeros(3)))
    file = io.BytesIO(archive)
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "a") as more:
        more.writestr(more.namelist()[0], b"other")
    return file.getvalue()


def other_length() -> bytes:
    archive = repacked(saved(torch.zeros(3)))
    at = archive.rindex(b"PK\x01\x02")
    archive[at + 20 : at + 24] = struct.pack("<L", 1)
    return bytes(archive)


FORMS = {
    "two archives": (two_archives, "its index is not where it says"),
    "something before": (lambda: b"PK\x03\x04" + saved(torch.zeros(3)), "not where it says"),
    "another locator": (other_locator, "its index is not where it says"),
    "named twice": (named_twice, "its index names a record twice"),
    "two lengths": (other_length, "compressed or overlap"),
    # Python calls that no archive at all, and torch reads it
    "a comment with an end": (lambda: saved(torch.zeros(3))[:-2] + b"\x08\0" + END + b"\0" * 4,
                              "index at its end is missing"),
    "a comment": (lambda: saved(torch.zeros(3))[:-2] + b"\x03\0abc", "index at its end is missing"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("read", [compat.load_checkpoint, compat.load_structure])
def test_an_archive_that_two_readers_read_otherwise_is_refused(form, read, tmp_path):
    write, said = FORMS[form]
    path = tmp_path / "c.pt"
    path.write_bytes(write())
    with pytest.raises(compat.UnreadableCheckpointError, match=said):
        read(path)


@pytest.mark.parametrize("form", ["two archives", "a comment with an end"])
def test_torch_alone_would_have_read_it(form, tmp_path):
    state = torch.load(io.BytesIO(FORMS[form][0]()), weights_only=True)
    assert state["model"]["w"][0] == (7 if form == "two archives" else 0)


@pytest.mark.parametrize("rewrite", [bytes, repacked], ids=["64 bits", "32 bits"])
def test_honest_archives_are_read(rewrite, tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(rewrite(saved(torch.ones(3))))
    assert is_archive(path)
    assert what_is_wrong(path, contents=True) is None
    assert compat.load_checkpoint(path)["model"]["w"].tolist() == [1, 1, 1]
    assert compat.load_structure(path)["model"]["w"].tolist() == [1, 1, 1]
