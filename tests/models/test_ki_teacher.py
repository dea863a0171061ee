"""A teacher is found, checked and frozen, or refused with what was expected and found."""

import argparse
import shutil
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_ki.models._symbols import weights_by_symbol
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.objective.positions import Positions


@pytest.fixture
def task(data_bin):
    dictionary = Dictionary.load(str(data_bin / "dict.txt"))
    dictionary.add_symbol("<mask>")
    return SimpleNamespace(
        source_dictionary=dictionary,
        target_dictionary=dictionary,
        dictionary=dictionary,
        max_positions=lambda: 32,
    )


def load(path, task, dictionary=None, positions=32, causal=False):
    return load_teacher(str(path), task, dictionary=dictionary, causal=causal, positions=positions)


@pytest.fixture
def altered(teacher, tmp_path):
    """A copy of the teacher's checkpoint, changed by a function of its state."""

    def alter(change):
        state = torch.load(teacher, weights_only=True)
        state = change(state) or state
        path = tmp_path / "altered.pt"
        torch.save(state, path)
        shutil.copy(teacher.parent / "dict.txt", tmp_path)
        return path

    return alter


def test_it_is_frozen_quiet_and_saved_nowhere(teacher, task):
    model = load(teacher, task)
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert model.state_dict() == {}
    tokens = torch.randint(4, 60, (2, 10))
    rows = torch.rand(2, 10) < 0.5
    hidden, weight, bias = model.head_input({"src_tokens": tokens}, Positions.where(rows))
    logits = torch.nn.functional.linear(hidden, weight, bias)
    torch.testing.assert_close(logits, model(tokens, masked_tokens=rows)[0])
    assert not logits.requires_grad


def test_old_key_names_load(altered, teacher, task):
    """0.9 said decoder.* and emb_layer_norm, and kept its options in a Namespace."""

    def to_09(state):
        old = {}
        for key, value in state["model"].items():
            key = "decoder" + key.removeprefix("encoder")
            old[key.replace("layernorm_embedding", "emb_layer_norm")] = value
        model = dict(state["cfg"]["model"].__dict__)
        data = state["cfg"]["task"]["data"]
        return state | {
            "model": old,
            "cfg": None,
            "args": argparse.Namespace(**(model | {"task": "masked_lm", "data": data})),
        }

    tokens = torch.randint(4, 60, (2, 10))
    expected = load(teacher, task)(tokens)[0]
    torch.testing.assert_close(load(altered(to_09), task)(tokens)[0], expected)


def test_dictionary_is_looked_up_in_three_places(teacher, task, data_bin, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(teacher, alone)
    checkpoint = alone / teacher.name
    load(checkpoint, task)  # from the data directory that the checkpoint records
    other = alone / "other.txt"
    other.write_text((data_bin / "dict.txt").read_text().replace("w0 ", "v0 "))
    with pytest.raises(ValueError, match=r"found 1 missing .*\('w0'\)"):
        load(checkpoint, task, dictionary=str(other))
    shutil.copy(other, alone / "dict.txt")  # beside the checkpoint wins over the recorded one
    with pytest.raises(ValueError, match="another dictionary"):
        load(checkpoint, task)
    with pytest.raises(ValueError, match="none.txt: expected a dict.txt, found no file"):
        load(checkpoint, task, dictionary=str(alone / "none.txt"))


def test_no_dictionary_anywhere(altered, task, tmp_path):
    def forget(state):
        state["cfg"]["task"]["data"] = "/nowhere"

    path = altered(forget)
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(ValueError, match=r"three places.*--ki-teacher-dict"):
        load(path, task)


def test_another_size_of_embedding(altered, task):
    def grow(state):
        for key in ("encoder.sentence_encoder.embed_tokens.weight", "encoder.lm_head.weight"):
            state["model"][key] = torch.cat([state["model"][key], torch.zeros(1, 16)])

    with pytest.raises(ValueError, match="expected 65 embedding rows .* found 66"):
        load(altered(grow), task)


def test_too_few_positions(teacher, task):
    with pytest.raises(ValueError, match="expected at least 64 positions .* found 32"):
        load(teacher, task, positions=64)


def test_not_a_masked_lm(altered, teacher, task):
    with pytest.raises(ValueError, match="expected a causal language model"):
        load(teacher, task, causal=True)

    def behead(state):
        for key in [k for k in state["model"] if "lm_head" in k]:
            del state["model"][key]

    with pytest.raises(ValueError, match=r"expected a masked LM .*found architecture 'roberta'"):
        load(altered(behead), task)


def test_missing_truncated_or_foreign_file(teacher, task, tmp_path):
    with pytest.raises(ValueError, match="expected a file, found none"):
        load(tmp_path / "none.pt", task)
    truncated = tmp_path / "truncated.pt"
    truncated.write_bytes(teacher.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"truncated\.pt"):
        load(truncated, task)
    foreign = tmp_path / "foreign.pt"
    torch.save({"weights": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match=r"foreign\.pt"):
        load(foreign, task)
    foreign.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"foreign\.pt .*torch\.save did not write"):
        load(foreign, task)


def test_a_checkpoint_stripped_of_what_fairseq_needs(altered, task):
    def strip(state):
        return {"model": state["model"], "cfg": state["cfg"]}

    with pytest.raises(ValueError, match="expected what fairseq-train writes"):
        load(altered(strip), task)
    with pytest.raises(ValueError, match="expected tensors by name"):
        load(altered(lambda state: state | {"model": {"encoder.lm_head.dense.weight": 1}}), task)


def rows_in_order_of(symbols: list[str]):
    """Changes a state to one over other symbols; those that the teacher has not are noise."""

    def change(state):
        known = {symbol: i for i, symbol in enumerate(SPECIALS + WORDS + ["<mask>"])}
        for name, value in state["model"].items():
            if name.endswith(("embed_tokens.weight", "lm_head.weight", "lm_head.bias")):
                noise = torch.randn(len(symbols), *value.shape[1:])
                for i, symbol in enumerate(symbols):
                    if symbol in known:
                        noise[i] = value[known[symbol]]
                state["model"][name] = noise

    return change


SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = [f"w{i}" for i in range(60)]


@pytest.mark.parametrize(
    "words",
    [
        WORDS[::-1],
        ["extra", *WORDS[30:], "<mask>", *WORDS[:30], "madeupword0000", "madeupword0001"],
        [*WORDS, "madeupword0000"],  # before <mask>, which fairseq appends
    ],
    ids=["permuted", "superset", "padded"],
)
def test_the_same_symbols_at_other_ids(altered, teacher, task, tmp_path, words):
    symbols = SPECIALS + words + ["<mask>"] * ("<mask>" not in words)
    path = altered(rows_in_order_of(symbols))
    (tmp_path / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    tokens = torch.randint(0, 65, (4, 20))  # special ones, padding and the mask included
    expected, found = load(teacher, task), load(path, task)
    assert torch.equal(found(tokens)[0], expected(tokens)[0])
    for one, other in zip(
        found.head_input({"src_tokens": tokens}, Positions.where(tokens > 7)),
        expected.head_input({"src_tokens": tokens}, Positions.where(tokens > 7)),
    ):
        assert torch.equal(one, other)


def test_symbols_that_the_teacher_lacks(altered, task, tmp_path):
    words = [f"v{i}" if i % 2 else f"w{i}" for i in range(60)]
    path = altered(rows_in_order_of(SPECIALS + words + ["<mask>"]))
    (tmp_path / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    shown = r"\('w1', 'w3', 'w5', 'w7', 'w9', \.\.\.\)"
    with pytest.raises(ValueError, match=rf"all of the student's 65 .* found 30 missing .*{shown}"):
        load(path, task)


def test_a_symbol_that_is_twice_in_the_dictionary(altered, task, tmp_path):
    words = ["w5", *WORDS]
    path = altered(rows_in_order_of([*SPECIALS, *words, "<mask>"]))
    lines = [f"{word} 1" for word in words]
    lines[6] += " #fairseq:overwrite"
    (tmp_path / "dict.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"found 1 twice in the teacher's \('w5'\)"):
        load(path, task)


def test_rows_of_causal_models_by_symbol():
    """Tied and untied, and by the name that old checkpoints use."""
    rows = torch.tensor([2, 0, 1])
    weights = {
        "decoder.embed_tokens.weight": torch.arange(8.0).view(4, 2),
        "decoder.output_projection.weight": torch.arange(8.0, 16).view(4, 2),
        "decoder.embed_out": torch.arange(16.0, 24).view(4, 2),
        "decoder.layers.0.fc1.weight": torch.arange(8.0).view(4, 2),
    }
    taken = weights_by_symbol(weights, rows, 4, "teacher.pt")
    for name in list(weights)[:3]:
        assert torch.equal(taken[name], weights[name][rows])
    assert taken["decoder.layers.0.fc1.weight"] is weights["decoder.layers.0.fc1.weight"]
    assert weights_by_symbol(weights, None, 4, "teacher.pt") == weights
    with pytest.raises(ValueError, match="expected 4 embedding rows .* found a number"):
        weights_by_symbol({"x.lm_head.bias": torch.tensor(1.0)}, rows, 4, "teacher.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cfg: cfg.pop("model"), "expected the options of its model under 'cfg', found none"),
        (lambda cfg: cfg.pop("task"), "expected the options of its task under 'cfg', found none"),
        (lambda cfg: cfg.update(model=None), "expected what fairseq-train writes"),
        (lambda cfg: cfg.update(model=3), "cfg.model: expected options, found 3"),
        (lambda cfg: cfg.update(model="x"), "cfg.model: expected options, found a str"),
        (lambda cfg: setattr(cfg["model"], "_name", "nosuch"), "architecture .*found 'nosuch'"),
        (lambda cfg: setattr(cfg["model"], "_name", ["x"]), "architecture of fairseq"),
        (lambda cfg: setattr(cfg["model"], "encoder_layers", "two"), "can be built with"),
        (lambda cfg: setattr(cfg["model"], "encoder_embed_dim", 0), "can be built with|that fit"),
        (lambda cfg: setattr(cfg["model"], "dropout", "a tenth"), "can compute with.*TypeError"),
    ],
)
def test_a_configuration_that_is_not_fairseqs(altered, task, change, message):
    with pytest.raises(ValueError, match=message) as refusal:
        load(altered(lambda state: change(state["cfg"]) and None), task)
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize(
    "arguments", [{"arch": "nosuch"}, {"arch": "roberta", "task": "nosuch"}, {"task": "masked_lm"}]
)
def test_old_arguments_that_are_not_fairseqs(altered, task, arguments):
    def change(state):
        return state | {"cfg": None, "args": argparse.Namespace(**arguments)}

    with pytest.raises(ValueError, match="teacher checkpoint .*expected"):
        load(altered(change), task)


class _Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_that_would_run_code(altered, task, capsys):
    path = altered(lambda state: state | {"extra_state": {"x": [_Bomb()]}})
    with pytest.raises(ValueError, match=r"altered\.pt was not loaded: it asks for .*print"):
        load(path, task)
    assert "executed" not in capsys.readouterr().out


def test_a_diverged_teacher(altered, task):
    def diverge(state):
        state["model"]["encoder.lm_head.bias"][3] = float("nan")

    with pytest.raises(ValueError, match=r"found inf or nan in encoder\.lm_head\.bias"):
        load(altered(diverge), task)


@pytest.mark.parametrize("content", [b"w1\nw2\n", b"w1 5\nw1 4\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_dictionary(teacher, task, tmp_path, content):
    (tmp_path / "dict.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"teacher's dictionary .*dict\.txt: expected a dict\.txt"):
        load(teacher, task, dictionary=str(tmp_path / "dict.txt"))
