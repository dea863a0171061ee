"""Directories from strangers: nothing of them is run."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from fairseq_ki.convert.from_hf import load_directory
from fairseq_ki.convert.hf_directory import read_config, read_tokenizer, read_weights


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    return tmp_path


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_directory_is_never_run(folder, name):
    mark = folder / "was_run"
    (folder / "modeling.py").write_text(f"open({str(mark)!r}, 'w')")
    (folder / name).write_text(
        json.dumps(
            {
                "model_type": "roberta",
                "auto_map": {"AutoModelForMaskedLM": "modeling.X", "AutoTokenizer": "modeling.X"},
            }
        )
    )
    with pytest.raises(ValueError, match="found auto_map, .* it is never run"):
        load_directory(folder)
    assert not mark.exists()


def test_pickles_are_not_read_unless_allowed(folder):
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"found only pytorch_model.bin, .* --allow-bin"):
        read_weights(folder)
    assert read_weights(folder, allow_bin=True)["a"].tolist() == [1, 1]


def test_safetensors_come_first(folder):
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin")
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    assert read_weights(folder, allow_bin=True)["a"].tolist() == [0, 0]


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_wants_to_run_something(folder, how):
    mark = folder / "was_run"
    if how == "torch":
        torch.save({"a": torch.ones(1), "b": Bomb(mark)}, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match="nothing of it was run"):
        read_weights(folder, allow_bin=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", 7, "missing.safetensors", ["a"], {}]
)
def test_an_index_that_leaves_the_directory(folder, name):
    inner = folder / "hf"
    inner.mkdir()
    save_file({"a": torch.ones(1)}, folder / "secret.safetensors")
    index = {"weight_map": {"a": name}}
    (inner / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="expected names of files beside it"):
        read_weights(inner)


def word_level(names: list[str]) -> str:
    vocabulary = {name: i for i, name in enumerate(names)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": names[0]}
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model} | dict.fromkeys(parts))


@pytest.mark.parametrize(
    "named",
    [
        {"tokenizer_file": "{outside}/tokenizer.json"},
        {"tokenizer_file": "../outside/tokenizer.json"},
        {"tokenizer_file": "tokenizer.json/../../outside/tokenizer.json"},
        {"tokenizer_file": ["tokenizer.json"]},
        {"vocab_file": "{outside}/vocab.json", "merges_file": None},
        {"source_spm": "{outside}/tokenizer.json"},
        {"fast_tokenizer_files": ["../outside/tokenizer.4.0.0.json"]},
        {"fast_tokenizer_files": "../outside/tokenizer.4.0.0.json"},
        {"init_inputs": ["{outside}/vocab.json"]},
    ],
)
def test_a_tokenizer_that_leaves_the_directory(tmp_path, named):
    inner, outside = tmp_path / "hf", tmp_path / "outside"
    inner.mkdir()
    outside.mkdir()
    for name in ("tokenizer.json", "tokenizer.4.0.0.json", "vocab.json"):
        (outside / name).write_text(word_level(["secret"]))
    (inner / "tokenizer.json").write_text(word_level(["known"]))
    text = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | named)
    (inner / "tokenizer_config.json").write_text(text.replace("{outside}", str(outside)))
    with pytest.raises(ValueError, match=f"{next(iter(named))}: expected names of files beside it"):
        read_tokenizer(inner)


def test_a_bare_name_is_of_the_directory_and_of_no_other(tmp_path, monkeypatch):
    """transformers would look for it where the command is given."""
    inner = tmp_path / "hf"
    inner.mkdir()
    (tmp_path / "other.json").write_text(word_level(["secret"]))
    for name in ("tokenizer.json", "other.json"):
        (inner / name).write_text(word_level([f"from {name}"]))
    named = {"tokenizer_file": "other.json", "vocab_file": None, "init_inputs": []}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "special_tokens_map_file": "/a/b"}
    (inner / "tokenizer_config.json").write_text(json.dumps(config | named))
    monkeypatch.chdir(tmp_path)
    assert list(read_tokenizer(inner).get_vocab()) == ["from other.json"]


def test_damaged_safetensors(folder):
    save_file({"a": torch.ones(100)}, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    for damaged in (data[:50], b"", b"\xff" * 64, data[:-8]):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match="expected a file of safetensors"):
            read_weights(folder)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '"x"'])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="expected (JSON|a JSON object), found"):
        read_config(folder)


def test_a_config_that_is_too_large(folder):
    with open(folder / "config.json", "wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="expected at most 67108864 bytes, found 1073741824"):
        read_config(folder)


def test_names_of_a_hub_are_not_looked_up():
    with pytest.raises(ValueError, match="found nothing; names of models on a hub are not looked"):
        load_directory("roberta-base")


def test_no_weights_and_no_tokenizer(folder):
    with pytest.raises(ValueError, match="expected model.safetensors or .* found neither"):
        load_directory(folder)
    with pytest.raises(ValueError, match="expected the files of a tokenizer"):
        read_tokenizer(folder)


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a tokenizer that transformers can load"):
        read_tokenizer(folder)
