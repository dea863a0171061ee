"""config.json: what can be expressed, and what is refused."""

import pytest

from fairseq_ki.convert.shapes import read_shape, to_fairseq_activation, to_hf_activation


def test_defaults_are_those_of_transformers():
    from transformers import BioGptConfig, GPT2Config, RobertaConfig

    for config in (RobertaConfig(), GPT2Config(), BioGptConfig()):
        given = {"model_type": config.model_type}
        assert read_shape(given) == read_shape(config.to_dict() | given)


def test_positions_are_counted_behind_the_padding():
    shape = read_shape({"model_type": "roberta", "max_position_embeddings": 514})
    assert (shape.positions, shape.first_position) == (512, 2)
    shape = read_shape({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0})
    assert (shape.positions, shape.first_position) == (513, 1)


def test_activations_are_the_same_functions():
    import torch
    from fairseq import utils
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 2001)
    for name in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "tanh", "linear"):
        ours = utils.get_activation_fn(to_fairseq_activation(name))
        torch.testing.assert_close(ours(x), ACT2FN[name](x), atol=1e-6, rtol=0)
    assert to_hf_activation("gelu_accurate") == to_hf_activation("gelu_fast") == "gelu_new"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "expected model_type roberta, .* found 'bert'"),
        ({}, "found None"),
        ({"model_type": "roberta", "num_labels": 10**9}, "num_labels to be 1 to 65536"),
        ({"model_type": "roberta", "hidden_act": "relu"}, "hidden_act 'gelu_python'|found 'relu'"),
        (
            {"model_type": "roberta", "position_embedding_type": "relative_key"},
            "found 'relative_key'",
        ),
        ({"model_type": "roberta", "is_decoder": True}, "is_decoder False"),
        ({"model_type": "gpt2", "activation_function": "quick_gelu"}, "found 'quick_gelu'"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "found True"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention False"),
        ({"model_type": "gpt2", "n_layer": 10**9}, "n_layer to be 1 to 1024, found 1000000000"),
        ({"model_type": "gpt2", "n_embd": 0}, "n_embd to be 1 to"),
        ({"model_type": "gpt2", "n_embd": "768"}, "found '768'"),
        ({"model_type": "gpt2", "n_embd": True}, "found True"),
        ({"model_type": "gpt2", "n_embd": 10, "n_head": 3}, "multiple of the 3 heads, found 10"),
        ({"model_type": "roberta", "vocab_size": 2**40}, "vocab_size to be"),
        ({"model_type": "roberta", "layer_norm_eps": 0}, "layer_norm_eps to be 0 to 1"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "max_position_embeddings to be"),
    ],
)
def test_refused(config, message):
    with pytest.raises(ValueError, match=message):
        read_shape(config)
