"""Hidden states at the rows alone are those of the model's own forward."""

from types import SimpleNamespace

import pytest
import torch
from fairseq import options, tasks
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_ki.models._heads import features
from fairseq_ki.models._row_features import TILE, row_features, supports_row_features
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.objective.positions import Positions


def roberta(data_bin, *extra: str):
    parser = options.get_training_parser()
    arguments = [str(data_bin), "--task", "masked_lm", "--arch", "roberta", *extra]
    arguments += ["--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "48", "--dropout", "0.3"]
    arguments += ["--encoder-attention-heads", "4", "--max-positions", "20"]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    torch.manual_seed(1)
    model = tasks.setup_task(cfg.task).build_model(cfg.model).eval()
    for parameter in model.parameters():  # the norms begin as the identity
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def batch(pads: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(5, 20) tokens and rows: none, one, many of a sample, all of it, the last one."""
    torch.manual_seed(2)
    tokens = torch.randint(4, 60, (5, 20))
    rows = torch.zeros(5, 20, dtype=torch.bool)
    rows[1, 7] = rows[4, 19] = True
    rows[2] = torch.rand(20) < 0.5
    rows[3] = True
    if pads:
        tokens[1, 12:] = tokens[2, 17:] = 1
        rows &= tokens.ne(1)
    return tokens, rows


@pytest.mark.parametrize("pads", [False, True])
@pytest.mark.parametrize("layers", ["1", "3"])
@pytest.mark.parametrize("norm", [[], ["--encoder-normalize-before"]])
def test_equals_the_whole_forward(data_bin, pads, layers, norm):
    model = roberta(data_bin, "--encoder-layers", layers, *norm)
    assert supports_row_features(model)
    tokens, rows = batch(pads)
    with torch.no_grad():
        expected = features(model, {"src_tokens": tokens, "src_lengths": None})[rows]
        found = row_features(model, tokens, Positions.where(rows))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_no_rows_at_all(data_bin):
    model = roberta(data_bin, "--encoder-layers", "2")
    tokens, rows = batch(pads=False)
    assert row_features(model, tokens, Positions.where(torch.zeros_like(rows))).shape == (0, 32)


def test_rows_are_all_that_the_last_layer_computes(data_bin):
    model = roberta(data_bin, "--encoder-layers", "2")
    tokens, rows = batch(pads=False)
    seen = []
    first, last = model.encoder.sentence_encoder.layers
    for layer in (first, last):
        layer.fc1.register_forward_hook(lambda _, args, __: seen.append(args[0].numel() // 32))
    with torch.no_grad():
        row_features(model, tokens, Positions.where(rows))
    assert seen == [rows.numel(), -(-int(rows.sum()) // TILE) * TILE]


def test_other_layers_take_their_own_forward(data_bin):
    model = roberta(data_bin, "--encoder-layers", "1")
    last = model.encoder.sentence_encoder.layers[-1]

    class Other(type(last)):
        pass

    last.__class__ = Other
    assert not supports_row_features(model)


def test_a_teacher_is_asked_for_the_rows_alone(data_bin, teacher):
    dictionary = Dictionary.load(str(data_bin / "dict.txt"))
    dictionary.add_symbol("<mask>")
    task = SimpleNamespace(
        source_dictionary=dictionary, dictionary=dictionary, max_positions=lambda: 32
    )
    model = load_teacher(str(teacher), task, dictionary=None, causal=False, positions=20)
    tokens, rows = batch(pads=True)
    whole = model.head_input({"src_tokens": tokens}, Positions.where(rows))
    alone = model.head_input({"src_tokens": tokens}, Positions.where(rows), rows_alone=True)
    for a, b in zip(whole, alone, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
        assert not b.requires_grad
