"""What transformers' RoBERTa and GPT-2 have and fairseq's options cannot say.

``ki_roberta`` is ``roberta`` with another epsilon in its layer norms, and with the embedding of
token types, of which every token has the first one. ``ki_gpt2`` is
``transformer_lm`` with that epsilon and with symbols that the model cannot predict: fairseq's
dictionary begins with four special symbols, of which GPT-2 has one. Weights are named as in
fairseq's own models. ``fairseq-ki convert`` chooses these where it has to.
"""

from dataclasses import dataclass, field

import torch
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import base_architecture
from fairseq.models.transformer_lm import TransformerLanguageModel, TransformerLanguageModelConfig
from fairseq.modules import LearnedPositionalEmbedding
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-5  # fairseq's own
ABSENT_LOGIT = -1e4  # exp() of it is 0 in float32 and float16 alike


@register_model("ki_roberta")
class KIRoberta(RobertaModel):
    """RoBERTa with another epsilon in its layer norms, and with token types."""

    @staticmethod
    def add_args(parser) -> None:
        RobertaModel.add_args(parser)
        parser.add_argument(
            "--ki-layer-norm-eps", type=float, default=LAYER_NORM_EPS, help="of every layer norm"
        )
        parser.add_argument(
            "--ki-token-types",
            type=int,
            default=0,
            help="rows in the table of token types; every token has the first type",
        )

    @classmethod
    def build_model(cls, args, task) -> "KIRoberta":
        model = super().build_model(args, task)
        _set_eps(model, args.ki_layer_norm_eps)
        if args.ki_token_types:
            encoder = model.encoder.sentence_encoder
            encoder.embed_positions = PositionsAndType(encoder.embed_positions, args.ki_token_types)
        return model


class PositionsAndType(LearnedPositionalEmbedding):
    """Position embeddings, to each of which that of token type 0 is added."""

    def __init__(self, positions: LearnedPositionalEmbedding, types: int) -> None:
        """Take over ``positions``; ``types`` rows, zero at first."""
        super().__init__(positions.num_embeddings, positions.embedding_dim, positions.padding_idx)
        self.weight = positions.weight
        self.token_types = nn.Parameter(torch.zeros(types, positions.embedding_dim))

    def forward(self, *args, **kwargs) -> Tensor:
        return super().forward(*args, **kwargs) + self.token_types[0]


register_model_architecture("ki_roberta", "ki_roberta")(base_architecture)


@dataclass
class KIGPT2Config(TransformerLanguageModelConfig):
    """fairseq's options and two more."""

    ki_layer_norm_eps: float = field(
        default=LAYER_NORM_EPS, metadata={"help": "epsilon of every layer norm"}
    )
    ki_absent_symbols: str = field(
        default="",
        metadata={"help": "special symbols with no probability, separated by spaces"},
    )


@register_model("ki_gpt2", dataclass=KIGPT2Config)
class KIGPT2(TransformerLanguageModel):
    """GPT-2: a ``transformer_lm`` whose vocabulary may lack some of fairseq's special symbols."""

    @classmethod
    def build_model(cls, args, task) -> "KIGPT2":
        model = super().build_model(args, task)
        _set_eps(model, args.ki_layer_norm_eps)
        absent = args.ki_absent_symbols.split()
        if absent:
            _forbid(model.decoder.output_projection, absent, task.target_dictionary)
        return model


def _set_eps(model: nn.Module, eps: float) -> None:
    for module in model.modules():
        if "LayerNorm" in type(module).__name__:  # torch's or apex's
            module.eps = eps  # type: ignore[assignment]


def _forbid(projection: nn.Linear, symbols: list[str], dictionary) -> None:
    """Give the output layer a bias that is no parameter and in no checkpoint."""
    bias = torch.zeros(len(dictionary))
    for symbol in symbols:
        if symbol not in dictionary:
            raise ValueError(
                f"--ki-absent-symbols: expected symbols of the dictionary, found {symbol!r}"
            )
        bias[dictionary.index(symbol)] = ABSENT_LOGIT
    del projection.bias
    projection.register_buffer("bias", bias, persistent=False)
