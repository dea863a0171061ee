import hashlib
import json
import lzma
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import text_corpus
from _cleaning import documents, duplicate_key
from _files import Refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FILES = ("train.txt", "valid.txt", "corpus.json")
in_tmp_path = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def build(source: Path, out_dir: Path, *options: str) -> dict:
    text_corpus.main([str(source), "--out-dir", str(out_dir), *options])
    return json.loads((out_dir / "corpus.json").read_text())


def documents_in(path: Path) -> list[list[str]]:
    return list(documents(path.read_text(encoding="utf-8").split("\n")))


def test_record_describes_the_files(corpus: Path, raw_text: Path) -> None:
    record = json.loads((corpus / "corpus.json").read_text())
    for split in ("train", "valid"):
        data = (corpus / f"{split}.txt").read_bytes()
        facts = record["splits"][split]
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
        assert facts["bytes"] == len(data)
        assert facts["words"] == len(data.decode().split())
        assert facts["documents"] == len(documents_in(corpus / f"{split}.txt"))
        assert data.count(b"\n") == facts["lines"] + facts["documents"] - 1
    source = record["sources"][str(raw_text)]
    assert source["sha256"] == hashlib.sha256(raw_text.read_bytes()).hexdigest()
    assert source["documents"] == record["documents"]["kept"] == 60
    assert record["splits"]["valid"]["documents"] == 12  # --valid-every 5
    assert record["options"] == {"valid_every": 5, "min_words": 1, "bad_bytes": "replace"}


def test_default_split_is_the_papers(tmp_path: Path) -> None:
    source = tmp_path / "text"
    source.write_text("\n\n".join(f"document {number}" for number in range(600)))
    splits = build(source, tmp_path / "out")["splits"]
    assert splits["train"]["documents"] == 199 * splits["valid"]["documents"] == 597


@in_tmp_path
@given(
    texts=st.lists(st.text("aB1. \n", max_size=12), min_size=4, max_size=40),
    valid_every=st.integers(2, 5),
)
def test_no_document_is_in_both_splits_and_none_is_lost(
    tmp_path: Path, texts: list[str], valid_every: int
) -> None:
    source = tmp_path / "text"
    source.write_text("\n\n".join(texts) + "\nend\n\nlast\n\nvery last\n\nmore\n\nmost\n")
    build(source, tmp_path, "--valid-every", str(valid_every), "--overwrite")
    keys = {
        split: [duplicate_key(d) for d in documents_in(tmp_path / f"{split}.txt")]
        for split in ("train", "valid")
    }
    everything = keys["train"] + keys["valid"]
    assert len(set(everything)) == len(everything)
    assert set(everything) == {duplicate_key(d) for d in documents_in(source)}


@in_tmp_path
@given(data=st.binary(max_size=60), bad_bytes=st.sampled_from(text_corpus.BAD_BYTES))
def test_any_bytes_are_read_by_the_stated_rule(tmp_path: Path, data: bytes, bad_bytes: str) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(data)
    record: dict = {}
    is_utf8 = True
    try:
        data.decode()
    except UnicodeDecodeError:
        is_utf8 = False
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        with pytest.raises(Refusal, match="UTF-16"):
            list(text_corpus.text_lines(path, bad_bytes, record))
        return
    if bad_bytes == "refuse" and not is_utf8:
        with pytest.raises(Refusal, match="--bad-bytes"):
            list(text_corpus.text_lines(path, bad_bytes, record))
        return
    lines = list(text_corpus.text_lines(path, bad_bytes, record))
    assert record["bytes"] == len(data)
    assert record["sha256"] == hashlib.sha256(data).hexdigest()
    assert (record["lines_of_bad_utf8"] == 0) == is_utf8
    for document in documents(lines):
        assert document
        assert all(line == " ".join(line.encode().decode().split()) for line in document)


def test_bad_lines_are_replaced_or_dropped_and_counted(tmp_path: Path) -> None:
    source = tmp_path / "text"
    source.write_bytes(b"one\n\nb\xffd\ngood\n\nthree\n")
    record = build(source, tmp_path / "replace", "--valid-every", "3")
    assert record["sources"][str(source)]["lines_of_bad_utf8"] == 1
    assert (tmp_path / "replace" / "train.txt").read_text() == "one\n\nb\ufffdd\ngood\n"
    build(source, tmp_path / "drop", "--valid-every", "3", "--bad-bytes", "drop-line")
    assert (tmp_path / "drop" / "train.txt").read_text() == "one\n\ngood\n"


def test_line_ends_of_all_systems_give_the_same_text(tmp_path: Path) -> None:
    results = set()
    for end in ("\n", "\r\n", "\r"):
        source = tmp_path / "text"
        source.write_bytes("one\ntwo\n\nthree\n\nfour\n".replace("\n", end).encode())
        build(source, tmp_path / "out", "--valid-every", "2", "--overwrite")
        results.add((tmp_path / "out" / "train.txt").read_bytes())
    assert results == {b"one\ntwo\n\nfour\n"}


def test_same_input_gives_the_same_bytes_compressed_or_not(
    raw_text: Path, corpus: Path, tmp_path: Path
) -> None:
    text_corpus.main([str(raw_text), "--out-dir", str(tmp_path), "--valid-every", "5"])
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (corpus / name).read_bytes()
    compressed = tmp_path / "raw.txt.xz"
    compressed.write_bytes(lzma.compress(raw_text.read_bytes()))
    record = build(compressed, tmp_path / "xz", "--valid-every", "5")
    assert (tmp_path / "xz" / "train.txt").read_bytes() == (corpus / "train.txt").read_bytes()
    assert record["sources"][str(compressed)]["bytes"] == raw_text.stat().st_size


def test_short_documents_are_dropped_and_counted(tmp_path: Path) -> None:
    source = tmp_path / "text"
    source.write_text("one\n\ntwo words\n\nand\nthree words\n")
    record = build(source, tmp_path / "out", "--valid-every", "2", "--min-words", "2")
    assert record["documents"] == {"read": 3, "too_short": 1, "duplicate": 0, "kept": 2}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "an empty file"),
        ("\n \n\t\n", [], "no text"),
        ("one\n\nOne!\n", [], "at least two different documents"),
        ("one\n\ntwo\n\nthree\n", [], "choose --valid-every between 2 and 3"),
        ("one\n\ntwo\n\nthree\n", ["--valid-every", "1"], "a document for train"),
    ],
)
def test_refusals_leave_nothing_behind(
    tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    source = tmp_path / "text"
    source.write_text(content)
    with pytest.raises(Refusal, match=message):
        build(source, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_missing_and_repeated_inputs_are_refused(tmp_path: Path, raw_text: Path) -> None:
    with pytest.raises(Refusal, match="found nothing"):
        build(tmp_path / "none", tmp_path / "out")
    with pytest.raises(Refusal, match="repeated"):
        text_corpus.main([str(raw_text), str(raw_text), "--out-dir", str(tmp_path / "out")])


def test_earlier_output_is_kept_unless_asked(corpus: Path, raw_text: Path) -> None:
    before = (corpus / "train.txt").stat().st_mtime_ns
    with pytest.raises(Refusal, match="--overwrite"):
        build(raw_text, corpus)
    assert (corpus / "train.txt").stat().st_mtime_ns == before


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path, scripts: Path) -> None:
    source, out = tmp_path / "text", tmp_path / "out"
    source.write_text("\n\n".join(f"document {number} of many" for number in range(200_000)))
    command = [sys.executable, str(scripts / "text_corpus.py"), str(source), "--out-dir", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.exists() and sum(p.stat().st_size for p in out.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not [name for name in FILES if (out / name).exists()]
    source.write_text("one\n\ntwo\n")
    build(source, out, "--valid-every", "2")  # without --overwrite
    assert (out / "train.txt").read_text() == "one\n"
