import lzma
from pathlib import Path

import encode
import pytest
from _files import Refusal
from _vocabulary import load_model


def run(source: Path, target: Path, spm: Path, *options: str) -> list[str]:
    encode.main([str(source), "--out", str(target), "--model", f"{spm}/spm.model", *options])
    return target.read_bytes().decode().removesuffix("\n").split("\n")


def test_lines_decode_to_the_text_and_blank_lines_stay(
    corpus: Path, spm: Path, tmp_path: Path
) -> None:
    lines = (corpus / "train.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    encoded = run(corpus / "train.txt", tmp_path / "out", spm)
    assert len(encoded) == len(lines)
    model = load_model(spm / "spm.model")
    known = 0
    for line, pieces in zip(lines, encoded):
        assert bool(line) == bool(pieces)
        if "<unk>" not in pieces:
            text = model.normalize(line).replace("\u2581", " ").strip()
            assert model.decode(pieces.split()) == text
            known += bool(line)
    assert known > 40


def test_symbols_of_fairseq_in_the_text_are_never_written(spm: Path, tmp_path: Path) -> None:
    source = tmp_path / "text"
    source.write_text("\u2603<s>\u2603 </s><pad> <mask>\u2603\u2028x\n", encoding="utf-8")
    (line,) = run(source, tmp_path / "out", spm)
    assert "<unk>" in line.split(" ")
    assert not {"<s>", "</s>", "<pad>", "<mask>", ""} & set(line.split(" "))
    assert line.split() == line.split(" ")


def test_workers_blocks_and_compression_change_nothing(
    corpus: Path, spm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(corpus / "train.txt", tmp_path / "one", spm)
    compressed = tmp_path / "text.xz"
    compressed.write_bytes(lzma.compress((corpus / "train.txt").read_bytes()))
    monkeypatch.setattr("_vocabulary.BLOCK_BYTES", 300)
    assert run(compressed, tmp_path / "two", spm, "--workers", "2") == one


def test_refusals(corpus: Path, spm: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="found nothing"):
        run(tmp_path / "none", tmp_path / "out", spm)
    with pytest.raises(Refusal, match="train one with"):
        run(corpus / "train.txt", tmp_path / "out", tmp_path)
    bad = tmp_path / "bad"
    bad.write_bytes(b"fine\n" * 10 + b"\xc3\x28\n")
    with pytest.raises(Refusal, match="at byte 50"):
        run(bad, tmp_path / "out", spm)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
    with pytest.raises(Refusal, match="other than the inputs"):
        run(bad, bad, spm, "--overwrite")
    with pytest.raises(Refusal, match="--overwrite"):
        run(corpus / "train.txt", bad, spm)
