"""A RoBERTa's last hidden states at the scored rows alone.

A masked language model is asked about some 15 % of its positions. The last layer's queries,
output projection and feed-forward block are needed there only; keys and values everywhere. That
spares a frozen model the larger part of one layer: a third of a teacher of two layers. A student
has no such way: it trains exactly as fairseq's masked_lm.

Shapes: B samples, T length, N rows, D width.
"""

import torch.nn.functional as F
from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer import TransformerEncoder
from fairseq.models.transformer.transformer_encoder import TransformerEncoderBase
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerEncoderLayer, TransformerEncoderLayerBase
from torch import Tensor

from fairseq_ki.objective.positions import Positions

# On a CPU a matrix product gives a row the same bits whatever rows are beside it, and whatever
# number of threads shares them, but for the last few of an odd number, which go another way: so
# numbers of rows are filled up to a multiple of this.
TILE = 16


def supports_row_features(model: BaseFairseqModel) -> bool:
    """True if :func:`row_features` knows this model's layers; others take their own forward."""
    if not isinstance(model, RobertaModel):
        return False
    encoder = model.encoder.sentence_encoder
    if type(encoder) not in (TransformerEncoder, TransformerEncoderBase) or not encoder.layers:
        return False
    last = encoder.layers[-1]
    return (
        type(last) in (TransformerEncoderLayer, TransformerEncoderLayerBase)
        and type(last.self_attn) is MultiheadAttention
        and not last.return_fc
    )


def row_features(model: RobertaModel, src_tokens: Tensor, rows: Positions) -> Tensor:
    """What the model's own forward gives at the rows, but for the last digits. On the CPUs this was
    tested on these depend on no other rows where samples have one length.

    Args:
        model: in eval mode, one for which :func:`supports_row_features` holds.
        src_tokens: (B, T).

    Returns:
        (N, D), in row-major order.
    """
    encoder = model.encoder.sentence_encoder
    pads = src_tokens.eq(encoder.padding_idx)
    x, _ = encoder.forward_embedding(src_tokens)
    # a GPU would have to be waited for before it could tell
    if pads.is_cuda or pads.any():
        x = x.masked_fill(pads.unsqueeze(-1), 0)
    else:
        pads = None
    x = x.transpose(0, 1).contiguous()  # or every projection copies it
    *layers, last = encoder.layers
    for layer in layers:
        x = layer(x, encoder_padding_mask=pads)
    x = _layer_at_rows(last, x, rows, pads)
    return x if encoder.layer_norm is None else encoder.layer_norm(x)


def _layer_at_rows(
    layer: TransformerEncoderLayerBase, x: Tensor, rows: Positions, pads: Tensor | None
) -> Tensor:
    """(N, D) of a layer's output (T, B, D), given its input."""
    normed_before = layer.normalize_before
    keys = layer.self_attn_layer_norm(x) if normed_before else x
    sample, position, slot = rows.sample, rows.position, rows.slots
    most = max(rows.most, 1)
    most += -most % TILE
    queries = x.new_zeros(most, x.size(1), x.size(2))
    queries[slot, sample] = keys[position, sample]
    attended, _ = layer.self_attn(
        query=queries, key=keys, value=keys, key_padding_mask=pads, need_weights=False
    )
    x = x[position, sample] + attended[slot, sample]
    count = len(x)
    x = F.pad(x, (0, 0, 0, -count % TILE))
    if not normed_before:
        x = layer.self_attn_layer_norm(x)
    hidden = layer.final_layer_norm(x) if normed_before else x
    x = x + layer.fc2(layer.activation_fn(layer.fc1(hidden)))
    x = x if normed_before else layer.final_layer_norm(x)
    return x[:count]
