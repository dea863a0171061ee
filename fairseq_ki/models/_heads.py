"""One view of the output heads of fairseq's masked and causal language models.

The objective multiplies hidden states with the output embedding itself, in row chunks, and only
for the rows that are scored. Shapes: B samples, T length, N rows, D width, V vocabulary.
"""

import torch
from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import RobertaLMHead
from fairseq.models.transformer_lm import TransformerLanguageModel
from torch import Tensor

from fairseq_ki.objective.positions import Positions


def supports_head_input(model: BaseFairseqModel) -> bool:
    """True if :func:`head_input` knows this model's output head."""
    if isinstance(model, RobertaModel):
        return type(model.encoder.lm_head) is RobertaLMHead
    if isinstance(model, TransformerLanguageModel):
        decoder = model.decoder
        return decoder.adaptive_softmax is None and decoder.output_projection is not None
    return False


def has_quant_noise(model: BaseFairseqModel) -> bool:
    """True if fairseq's quantisation noise is drawn inside the model's layers."""
    options = getattr(model, "args", None) or getattr(model.decoder, "cfg", None)
    noise = getattr(options, "quant_noise_pq", 0) or getattr(options, "quant_noise_scalar", 0)
    pq = getattr(getattr(options, "quant_noise", None), "pq", 0)
    return bool(noise or pq)


def features(model: BaseFairseqModel, net_input: dict) -> Tensor:
    """Last hidden states (B, T, D), by the model's own forward (a DDP wrapper's included)."""
    return model(**net_input, features_only=True)[0]


def head_input(
    model: BaseFairseqModel, features: Tensor, rows: Positions | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the output projection gets, at the scored rows.

    Args:
        model: an unwrapped model for which :func:`supports_head_input` holds.
        features: (B, T, D); or (N, D), of the rows alone.
        rows: N of the batch; None where features are (N, D).

    Returns:
        hidden (N, D), weight (V, D), bias (V,) or None; logits = hidden @ weight.T + bias.
    """
    picked = features if rows is None else rows.of(features)
    if isinstance(model, RobertaModel):
        head = model.encoder.lm_head
        return head.layer_norm(head.activation_fn(head.dense(picked))), head.weight, head.bias
    projection = model.decoder.output_projection
    return picked, projection.weight, getattr(projection, "bias", None)


def row_logits(model: BaseFairseqModel, net_input: dict, rows: Positions) -> Tensor:
    """Logits (N, V) at the rows, by the model's own forward.

    Args:
        model: possibly wrapped in DDP.
    """
    if isinstance(unwrapped(model), RobertaModel):
        # its head projects the chosen rows only
        return model(**net_input, masked_tokens=rows.mask)[0]
    return rows.of(model(**net_input)[0])


def unwrapped(model: torch.nn.Module) -> BaseFairseqModel:
    """The model inside fairseq's DDP wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model
