"""The commands of docs/huggingface.md, on a small model made on the spot."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "huggingface"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_a_roberta_to_a_larger_student_and_back(tmp_path):
    text = "".join(
        f"Return the {n} of {m} in the list, or None.\n" for n in range(60) for m in range(20)
    )
    (tmp_path / "train").write_text(text)
    (tmp_path / "valid").write_text(text[:4000])
    settings = {
        "PY": sys.executable,
        "OUT": str(tmp_path / "out"),
        "SHORTEN": "40",
        "TRAIN": str(tmp_path / "train"),
        "VALID": str(tmp_path / "valid"),
    }
    done = subprocess.run(
        ["bash", str(EXAMPLE / "run.sh")],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "RobertaForMaskedLM" in done.stdout
    assert "items in the list" not in done.stdout.split("fill-mask")[0]
    assert done.stdout.count(" in the list.") == 3  # guesses, each as a sentence
    assert "ki_teacher_ppl" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed"
)
def test_the_harness_and_fairseq_agree(tmp_path):
    """A causal student, trained here, scored by both on lines that it has not seen."""
    import sentencepiece

    from fairseq_ki.cli.main import main

    lines = [
        line.strip()
        for path in sorted((ROOT / "docs").glob("*.md"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if 20 < len(line.strip()) < 80 and "<" not in line
    ]
    train, valid = lines[40:], lines[:40]
    for split, part in (("train", train), ("valid", valid)):
        (tmp_path / split).write_text("\n".join(part) + "\n", encoding="utf-8")

    def python(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    python(
        ROOT / "preprocess" / "train_sentencepiece.py",
        tmp_path / "train",
        *("--out-dir", tmp_path / "spm", "--vocab-size", 600),
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm" / "spm.model"))
    for split, part in (("train", train), ("valid", valid)):
        encoded = "\n".join(" ".join(model.encode(line, out_type=str)) for line in part)
        (tmp_path / f"{split}.pieces").write_text(encoded + "\n", encoding="utf-8")
    data = tmp_path / "bin"
    python(
        *("-m", "fairseq_cli.preprocess", "--only-source", "--destdir", data),
        *("--srcdict", tmp_path / "spm" / "dict.txt"),
        *("--trainpref", tmp_path / "train.pieces", "--validpref", tmp_path / "valid.pieces"),
    )
    python(
        *("-m", "fairseq_cli.train", data, "--user-dir", "fairseq_ki", "--task", "ki_lm"),
        *("--criterion", "ki", "--arch", "gpt_micro_2x128", "--tokens-per-sample", 128),
        *("--sample-break-mode", "eos", "--batch-size", 8, "--optimizer", "adam", "--lr", 1e-3),
        *("--max-update", 40, "--no-epoch-checkpoints", "--save-dir", tmp_path / "run", "--cpu"),
    )
    checkpoint = tmp_path / "run" / "checkpoint_best.pt"
    spm = str(tmp_path / "spm" / "spm.model")
    out = str(tmp_path / "hf")
    assert main(["convert", "to-hf", str(checkpoint), "--spm", spm, "--out", out]) == 0
    said = python(
        EXAMPLE / "judge" / "judge.py",
        *("--model", out, "--checkpoint", checkpoint, "--data", data),
        *("--text", tmp_path / "valid"),
    )
    assert "they differ" not in said
    figures = [line.split()[1] for line in said.splitlines() if "bits per byte" in line]
    assert len(figures) == 2
    assert float(figures[0]) == pytest.approx(float(figures[1]), rel=1e-3)
