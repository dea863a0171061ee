"""What growth cannot do is refused, with what was expected and found."""

import pytest
import torch

from fairseq_ki.growth import check_growth, grown, shape_of
from fairseq_ki.growth.depths import deepened

GPT = "--arch transformer_lm --decoder-input-dim {d} --decoder-output-dim {d}"


def test_a_shape_is_read_from_the_model(build):
    shape = shape_of(build(True, 2, 16, 32, 4, positions=20))
    assert (shape.layers, shape.width, shape.ffn, shape.heads) == (2, 16, 32, 4)
    assert (shape.causal, shape.pre_norm, shape.tied) == (True, True, True)
    assert (shape.positions, shape.position_kind, shape.head_width) == (22, "learned", 4)
    assert (shape.embed_scale, shape.activation) == (4.0, "gelu")
    shape = shape_of(build(False, 1, 16, 32, 2, "--encoder-normalize-before"))
    assert (shape.causal, shape.pre_norm, shape.norm_embedding, shape.tied) == (
        False, True, True, True,
    )  # fmt: skip
    assert shape.embed_scale == 1.0


@pytest.mark.parametrize(
    ("new", "extra", "message"),
    [
        ((1, 32, 32, 4), "", "layers, 2, found 1"),
        ((2, 16, 32, 1), "", "heads, 2, found 1"),
        ((2, 8, 32, 2), "", "width, 16, found 8"),
        ((2, 32, 16, 4), "", "ffn, 32, found 16"),
        ((2, 32, 32, 4), "--activation-fn relu", "activation, gelu, found relu"),
        ((2, 32, 32, 4), "--encoder-normalize-before", "pre norm, False, found True"),
        ((2, 32, 32, 4), "--untie-weights-roberta", "tied, True, found False"),
        ((2, 24, 32, 4), "", "at least as wide as the teacher's 8, found 6.*that fit: 2, 3"),
        ((2, 20, 32, 4), "", "found 5.*that fit: 2"),
    ],
)
def test_refusals(build, new, extra, message):
    old, new = shape_of(build(False, 2, 16, 32, 2)), shape_of(build(False, *new, extra))
    with pytest.raises(ValueError, match=message):
        check_growth(old, new)


def test_fewer_positions_and_sinusoids_of_another_width_are_refused(build):
    old = shape_of(build(False, 2, 16, 32, 2, positions=16))
    with pytest.raises(ValueError, match="positions, 18, found 14"):
        check_growth(old, shape_of(build(False, 2, 16, 32, 2, positions=12)))
    old = shape_of(build(True, 2, 16, 32, 2, GPT.format(d=16)))
    assert old.position_kind == "sinusoidal"
    check_growth(old, shape_of(build(True, 4, 16, 64, 2, GPT.format(d=16))))
    with pytest.raises(ValueError, match="sinusoids"):
        check_growth(old, shape_of(build(True, 2, 32, 32, 2, GPT.format(d=32))))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--scale-heads", "c_attn"),
        ("--scale-fc", "ffn_layernorm"),
        ("--no-decoder-final-norm", "layer norm after the last"),
        ("--arch transformer_lm --decoder-embed-dim 24", "projected"),
    ],
)
def test_models_that_growth_does_not_know_are_refused(build, extra, message):
    with pytest.raises(ValueError, match=message):
        shape_of(build(True, 2, 16, 32, 2, extra))


def test_a_subclass_is_refused(build):
    model = build(False, 1, 16, 32, 2)
    model.__class__ = type("Mine", (type(model),), {})
    with pytest.raises(ValueError, match="RoBERTa or transformer_lm, found Mine"):
        shape_of(model)


def test_weights_of_another_model_are_refused(build):
    model = build(False, 1, 16, 32, 2)
    old, weights = shape_of(model), model.state_dict()
    weights["encoder.sentence_encoder.token_types.weight"] = torch.zeros(1, 16)
    with pytest.raises(ValueError, match="a difference in encoder.sentence_encoder.token_types"):
        grown(weights, old, old, depth="identity", seed=1)


def test_a_number_of_heads_that_fits_may_not_exist(build):
    old, new = shape_of(build(False, 1, 12, 8, 2)), shape_of(build(False, 1, 13, 8, 13))
    with pytest.raises(ValueError, match="no number of heads fits"):
        check_growth(old, new)


def test_an_unknown_way_to_add_layers_is_refused(build):
    model = build(False, 1, 16, 32, 2)
    old = shape_of(model)
    with pytest.raises(ValueError, match="identity, stack, found 'twice'"):
        deepened(model.state_dict(), old, 2, "twice")
    with pytest.raises(ValueError, match="found 'twice'"):
        grown(model.state_dict(), old, old, depth="twice", seed=1)
