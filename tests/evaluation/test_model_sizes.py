"""Sizes of models by name, shape and file agree with the models that fairseq builds."""

import pytest
from fairseq import options
from fairseq.models import ARCH_MODEL_NAME_REGISTRY

from fairseq_ki.evaluation.flops import Sizes, read_checkpoint
from fairseq_ki.evaluation.model_sizes import model_options, named_sizes


def test_architectures_of_the_paper():
    assert named_sizes("roberta_medium", 50265) == Sizes(9, 576, 3072, 50265, dense_head=True)
    assert named_sizes("roberta_large", 50265) == Sizes(24, 1024, 4096, 50265, dense_head=True)
    assert named_sizes("gpt_1b", 50265) == Sizes(40, 1440, 5760, 50265, dense_head=False)


def test_every_architecture_has_sizes():
    """The one of the name transformer_lm has them in its dataclass alone."""
    for name, kind in ARCH_MODEL_NAME_REGISTRY.items():
        if kind in ("roberta", "transformer_lm"):
            assert named_sizes(name, 100, causal=kind != "roberta").layers > 0
    assert named_sizes("transformer_lm", 100) == Sizes(6, 512, 2048, 100, dense_head=False)


def test_shapes():
    assert named_sizes("4x192", 8000, causal=False) == Sizes(4, 192, 768, 8000, dense_head=True)
    assert named_sizes("2x80x512", 8000, causal=True) == Sizes(2, 80, 512, 8000, dense_head=False)
    with pytest.raises(ValueError, match="causal LM or a masked LM"):
        named_sizes("4x192", 8000)


def parsed(model: list[str]):
    parser = options.get_training_parser(default_task="masked_lm")
    return options.parse_args_and_arch(parser, ["data", "--task", "masked_lm", *model])


def test_options_build_the_shape():
    args = parsed(model_options("3x96x200x4", causal=False))
    assert (args.encoder_layers, args.encoder_embed_dim) == (3, 96)
    assert (args.encoder_ffn_embed_dim, args.encoder_attention_heads) == (200, 4)
    args = parsed(model_options("3x128", causal=True))
    assert (args.decoder_layers, args.decoder_embed_dim) == (3, 128)
    assert (args.decoder_ffn_embed_dim, args.decoder_attention_heads) == (512, 2)
    assert model_options("roberta_base", False) == ["--arch", "roberta_base"]


def test_checkpoints(teacher):
    sizes, _ = read_checkpoint(teacher)
    assert named_sizes(str(teacher), sizes.vocabulary, causal=False) == sizes
    with pytest.raises(ValueError, match="expected a vocabulary of 50,265"):
        named_sizes(str(teacher), 50265)
    with pytest.raises(ValueError, match="expected a causal LM, found a masked LM"):
        named_sizes(str(teacher), sizes.vocabulary, causal=True)


@pytest.mark.parametrize("model", ["no_such_arch", "fconv_lm", "4x", "nowhere.pt"])
def test_unknown_models(model):
    with pytest.raises(ValueError, match="expected an --arch of a RoBERTa or a transformer_lm"):
        named_sizes(model, 100)


def test_heads_have_to_divide_the_width():
    with pytest.raises(ValueError, match="expected a width that 3 heads divide"):
        named_sizes("2x128x512x3", 100, causal=False)
