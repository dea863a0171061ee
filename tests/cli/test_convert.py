"""``fairseq-ki convert`` from the command line."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from fairseq_ki.cli.main import main

SYMBOLS = "the a of and list number items return".split()


@pytest.fixture
def directory(tmp_path) -> Path:
    """A RoBERTa over words, made with transformers alone."""
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *SYMBOLS, "<mask>"]
    words = models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "hf"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=18,
    )
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def test_there_and_back(directory, tmp_path, capsys):
    checkpoint = tmp_path / "fs" / "model.pt"
    assert main(["convert", "from-hf", str(directory), "--out", str(checkpoint)]) == 0
    assert "masked, 13 symbols" in capsys.readouterr().out
    lines = (tmp_path / "fs" / "dict.txt").read_text().splitlines()
    assert lines == [f"{symbol} 1" for symbol in SYMBOLS]

    back = tmp_path / "back"
    arguments = ["--tokenizer", str(directory), "--out", str(back)]
    assert main(["convert", "to-hf", str(checkpoint), *arguments]) == 0
    assert "RobertaForMaskedLM" in capsys.readouterr().out
    assert (back / "model.safetensors").read_bytes()[-64:] == (
        directory / "model.safetensors"
    ).read_bytes()[-64:]
    assert (back / "README.md").is_file()


def test_encode(directory, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("return the list\n\na number of items\n<mask> zebra\n\n\nthe\n")
    assert main(["convert", "encode", str(directory), str(text), "--out", str(tmp_path / "a")]) == 0
    assert "7 lines, " in capsys.readouterr().out
    assert (tmp_path / "a").read_text().splitlines()[:3] == [
        "return the list",
        "",
        "a number of items",
    ]
    # what is written in a text is text, also where it looks like a special token
    assert "<mask>" not in (tmp_path / "a").read_text()
    out = str(tmp_path / "b")
    assert main(["convert", "encode", str(directory), str(text), "--out", out, "--documents"]) == 0
    assert len((tmp_path / "b").read_text().splitlines()) == 3


def test_refusals_are_one_line_and_change_nothing(directory, tmp_path, capsys):
    shutil.copy(directory / "config.json", tmp_path / "dict.txt")
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ["from-hf", str(directory), "--out", str(tmp_path / "model.pt")],  # dict.txt is there
        ["from-hf", str(tmp_path / "nothing"), "--out", str(tmp_path / "x" / "model.pt")],
        ["to-hf", str(tmp_path / "no.pt"), "--spm", "x", "--out", str(tmp_path / "y")],
        ["to-hf", "x.pt", "--spm", "x", "--out", str(directory)],
        ["encode", str(directory), str(tmp_path / "no"), "--out", str(tmp_path / "z")],
    ):
        assert main(["convert", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("fairseq-ki convert: error: ")
        assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_transformers(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["convert", "from-hf", str(tmp_path), "--out", str(tmp_path / "m.pt")]) == 2
    assert "pip install 'fairseq_ki[hf]'" in capsys.readouterr().err
