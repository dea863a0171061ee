"""A checkpoint of plain strings runs nothing either."""

import builtins
import importlib
import re
from pathlib import Path

import fairseq
import pytest
import torch
from fairseq import checkpoint_utils, utils
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

from fairseq_ki import compat
from fairseq_ki.compat.config_literals import MODULES, evaluate_literal

LM = (
    "--arch transformer_lm --decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 "
    "--decoder-attention-heads 2 --max-target-positions 32"
)


@pytest.fixture(scope="module")
def language_model(fairseq_train, data_bin, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("lm")
    common = "--task language_modeling --tokens-per-sample 32 --batch-size 8 --optimizer adam --cpu"
    fairseq_train(data_bin, save_dir, "--max-update 1 --disable-validation", LM, common)
    return save_dir / "checkpoint_last.pt"


@pytest.mark.parametrize(
    "option",
    [
        {"adaptive_softmax_cutoff": "{}"},
        {"adaptive_input": True, "adaptive_input_cutoff": "{}"},
        {"character_embeddings": True, "character_filters": "{}"},
    ],
)
def test_a_configuration_is_not_evaluated(option, language_model, tmp_path, monkeypatch):
    marker = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    state = compat.load_checkpoint(language_model)
    for key, value in option.items():
        state["cfg"]["model"][key] = code if value == "{}" else value
    path = tmp_path / "lm.pt"
    torch.save(state, path)
    with pytest.raises(compat.CompatError, match="is not a literal"):
        checkpoint_utils.load_model_ensemble_and_task([str(path)])
    assert not marker.exists()

    for name in ("fairseq.utils", "fairseq.models.transformer_lm"):  # the host as it comes
        monkeypatch.setitem(vars(importlib.import_module(name)), "eval", builtins.eval)
    with pytest.raises(Exception, match=""):
        checkpoint_utils.load_model_ensemble_and_task([str(path)])
    assert marker.exists()


def test_honest_configurations_keep_their_values():
    honest = [
        Wav2Vec2Config().conv_feature_layers,
        "(0.9, 0.98)",
        "(1e-30, 1e-3)",
        "[(1, 64), (2, 128)]",
        "1,2,-3",
        "[(512, 3)] * 20",
        "True",
        " None",
        "{'a': [1, 2.5]}",
        "1/4",
        "'text'",
    ]
    for expression in honest:
        assert evaluate_literal(expression) == eval(expression.strip())
    assert utils.eval_str_list("20,40", type=int) == [20, 40]
    assert utils.eval_bool("False") is False


@pytest.mark.parametrize(
    "expression",
    ["f()", "x", "().__class__", "[x for x in (1,)]", "lambda: 1", "f'{1}'", "1 if 1 else 2", "(",
     "", "'a' + 1", "1/0", "(" * 300 + ")" * 300,
     # numbers that overflow, or that Python makes and does not print
     "1" + "0" * 400 + " / 3", "1" + "0" * 305 + " * 99999 / 3", "*".join(["9" * 4000] * 3),
     "0x" + "f" * 5000, "[0x" + "f" * 5000 + "]",
     # more memory than there is, or depth
     "[0] * 1000000000000", "10**3", "'x' * 99999999999 * 99999999999", "[0] * 99999 * 99999",
     "-" * 100_000 + "1", "[" * 100_000, "1" + "+1" * 100_000],
    ids=lambda expression: expression[:20],
)  # fmt: skip
def test_everything_else_is_refused(expression):
    with pytest.raises(compat.CompatError, match="not a literal") as error:
        evaluate_literal(expression)
    assert len(str(error.value)) < 1000


def test_what_is_no_text_is_refused_as_such():
    with pytest.raises(compat.CompatError, match="the configuration value list is not a literal"):
        evaluate_literal(["x"])


def test_no_eval_of_the_host_is_forgotten():
    host = Path(fairseq.__file__).parent
    call = re.compile(r"(?<![\w.])eval\(")
    found = {
        "fairseq." + ".".join(path.relative_to(host).with_suffix("").parts)
        for path in host.rglob("*.py")
        if "examples" not in path.parts
        and any(call.search(line.split("#")[0]) for line in path.read_text().splitlines())
    }
    assert found <= set(MODULES)
    for name in found:
        assert vars(importlib.import_module(name))["eval"] is evaluate_literal
