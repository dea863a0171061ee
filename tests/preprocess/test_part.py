"""Parts of a corpus: every N-th document, and a bounded validation text."""

import json
from pathlib import Path

import part
import pytest
from _files import Refusal


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"document {i}\nits end" for i in range(10)) + "\n")
    return path


def take(text: Path, out: Path, more: str = "") -> list[str]:
    part.main(f"--train {text} --valid {text} --out-dir {out} {more}".split())
    return [line for line in (out / "train.txt").read_text().split("\n") if "document" in line]


def test_parts_are_disjoint_and_make_up_the_whole(text, tmp_path):
    first = take(text, tmp_path / "a", "--every 2 --start 1")
    second = take(text, tmp_path / "b", "--every 2 --start 2")
    assert first == [f"document {i}" for i in range(0, 10, 2)]
    assert sorted(first + second) == take(text, tmp_path / "c")
    record = json.loads((tmp_path / "a" / "corpus.json").read_text())
    assert record["splits"]["train"]["documents"] == 5
    assert record["options"]["every"] == 2


def test_long_documents_are_cut_before_they_are_counted(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"document {i}" for i in range(5)) + "\n\ndocument 5\n")
    assert take(text, tmp_path / "a", "--every 2 --piece-lines 2") == [
        "document 0", "document 1", "document 4",
    ]  # fmt: skip


def test_validation_text_is_bounded(text, tmp_path):
    take(text, tmp_path / "a", "--valid-lines 1 --valid-bytes 30")
    assert (tmp_path / "a" / "valid.txt").read_text().split("\n\n") == [
        "document 0", "document 1", "document 2\n",
    ]  # fmt: skip


def test_refusals(text, tmp_path):
    with pytest.raises(Refusal, match="--start of at most --every"):
        take(text, tmp_path / "a", "--every 2 --start 3")
    with pytest.raises(Refusal, match="documents for train"):
        take(text, tmp_path / "a", "--every 20 --start 20")
    assert not (tmp_path / "a" / "corpus.json").exists()
