"""The architectures of the paper's Table 6 as ``--arch`` names; BASE and LARGE are fairseq's own.

Every value is a default that an explicit flag overrides. Sizes hold at the vocabulary of 50,265
tokens and the 512 positions of the paper (``--tokens-per-sample 512``).
"""

from argparse import Namespace
from collections.abc import Callable
from typing import NamedTuple

from fairseq.models import register_model_architecture
from fairseq.models.roberta.model import base_architecture as roberta_base_architecture
from fairseq.models.transformer_lm import base_lm_architecture
from fairseq.utils import safe_getattr


class Size(NamedTuple):
    """One row of Table 6."""

    layers: int
    embed_dim: int
    heads: int
    ffn_dim: int


ROBERTA = {
    "roberta_medium": Size(9, 576, 12, 3072),
    "roberta_base_plus": Size(18, 864, 12, 3600),
    # the width and depth studies (Figs. 2c and 3)
    "roberta_d384": Size(12, 384, 12, 3072),
    "roberta_d480": Size(12, 480, 12, 3072),
    "roberta_d576": Size(12, 576, 12, 3072),
    "roberta_d672": Size(12, 672, 12, 3072),
    "roberta_h4": Size(4, 768, 12, 3072),
    "roberta_h6": Size(6, 768, 12, 3072),
    "roberta_h8": Size(8, 768, 12, 3072),
    "roberta_h10": Size(10, 768, 12, 3072),
    # not the paper's: small enough to train on two CPU cores
    "roberta_micro_2x128": Size(2, 128, 2, 512),
    "roberta_micro_4x192": Size(4, 192, 3, 768),
}

GPT = {
    "gpt_73m": Size(9, 576, 12, 3072),
    "gpt_124m": Size(12, 768, 12, 3072),
    "gpt_209m": Size(18, 864, 12, 3600),
    "gpt_354m": Size(24, 1024, 16, 4096),
    "gpt_773m": Size(36, 1280, 20, 5120),
    "gpt_1b": Size(40, 1440, 20, 5760),
    # not the paper's: small enough to train on two CPU cores
    "gpt_micro_2x128": Size(2, 128, 2, 512),
    "gpt_micro_4x192": Size(4, 192, 3, 768),
    "gpt_micro_6x256": Size(6, 256, 4, 1024),
}

# Without tied embeddings and learned positions the sizes miss Table 6 by up to 39 %.
# The model makes its input and output dimensions follow --decoder-embed-dim.
_GPT_STYLE = {
    "share_decoder_input_output_embed": True,
    "decoder_learned_pos": True,
    "activation_fn": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
}


def _register(
    model: str, side: str, name: str, size: Size, style: dict, finish: Callable[[Namespace], None]
) -> None:
    defaults = {
        f"{side}_layers": size.layers,
        f"{side}_embed_dim": size.embed_dim,
        f"{side}_attention_heads": size.heads,
        f"{side}_ffn_embed_dim": size.ffn_dim,
        **style,
    }

    def architecture(args: Namespace) -> None:
        for option, value in defaults.items():
            setattr(args, option, safe_getattr(args, option, value))
        finish(args)

    register_model_architecture(model, name)(architecture)


for _name, _size in ROBERTA.items():
    _register("roberta", "encoder", _name, _size, {}, roberta_base_architecture)
for _name, _size in GPT.items():
    _register("transformer_lm", "decoder", _name, _size, _GPT_STYLE, base_lm_architecture)
