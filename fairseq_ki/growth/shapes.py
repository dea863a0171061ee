"""The sizes and the style of a model, and which of them growth can change."""

from dataclasses import dataclass, fields
from typing import Any

from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.modules import LearnedPositionalEmbedding
from torch import nn

from fairseq_ki.models._heads import supports_head_input


@dataclass(frozen=True)
class Shape:
    """What growth has to know of a RoBERTa or a transformer_lm.

    Args:
        causal: a transformer_lm, else a RoBERTa.
        layers, width, ffn, heads: sizes of the Transformer.
        vocabulary: rows of the embedding.
        positions: rows of the learned positions (those of padding included), 0 without.
        position_kind: ``learned``, ``sinusoidal`` or ``none``.
        embed_scale: factor on token embeddings (sqrt(width) in a transformer_lm).
        pre_norm: layer norms before attention and feed-forward layer, else after the sums.
        norm_embedding: a layer norm on the embeddings.
        tied: the output layer is the embedding.
        activation: of the feed-forward layers, by fairseq's name.
    """

    causal: bool
    layers: int
    width: int
    ffn: int
    heads: int
    vocabulary: int
    positions: int
    position_kind: str
    embed_scale: float
    pre_norm: bool
    norm_embedding: bool
    tied: bool
    activation: str

    @property
    def trunk(self) -> str:
        """Prefix of the Transformer's weights in the state dict."""
        return "decoder." if self.causal else "encoder.sentence_encoder."

    @property
    def linear_stream(self) -> bool:
        """Nothing but linear layers writes what the layers' norms read: no norm, no activation.

        RoBERTa's head has an activation before its norm, and so is none of these.
        """
        return self.causal and self.pre_norm and not self.norm_embedding

    @property
    def head_width(self) -> int:
        return self.width // self.heads


# what growth cannot change, and the option that says it (encoder's / decoder's)
_STYLE = {
    "causal": "a task",
    "vocabulary": "a dictionary",
    "position_kind": "--decoder-learned-pos, --no-token-positional-embeddings",
    "pre_norm": "--encoder-normalize-before, --decoder-normalize-before",
    "norm_embedding": "--layernorm-embedding",
    "tied": "--untie-weights-roberta, --share-decoder-input-output-embed",
    "activation": "--activation-fn",
}


def shape_of(model: BaseFairseqModel) -> Shape:
    """The shape of a built model.

    Raises:
        ValueError: for models that growth does not know, with what was found.
    """
    # of their subclasses nothing is known
    if type(model) not in (RobertaModel, TransformerLanguageModel):
        raise ValueError(
            f"expected fairseq's RoBERTa or transformer_lm, found {type(model).__name__}"
        )
    if not supports_head_input(model):
        raise ValueError(
            "expected one soft-max over the dictionary, found an adaptive one "
            "(--adaptive-softmax-cutoff), or another head"
        )
    causal = isinstance(model, TransformerLanguageModel)
    trunk = model.decoder if causal else model.encoder.sentence_encoder
    _check_parts(model, trunk)
    layer = trunk.layers[0]
    positions = trunk.embed_positions
    learned = isinstance(positions, LearnedPositionalEmbedding)
    embedding = trunk.embed_tokens.weight
    output = trunk.output_projection if causal else model.encoder.lm_head
    return Shape(
        causal=causal,
        layers=len(trunk.layers),
        width=layer.fc1.in_features,
        ffn=layer.fc1.out_features,
        heads=layer.self_attn.num_heads,
        vocabulary=embedding.size(0),
        positions=positions.num_embeddings if learned else 0,
        position_kind="learned" if learned else "none" if positions is None else "sinusoidal",
        embed_scale=float(trunk.embed_scale),
        pre_norm=layer.normalize_before,
        norm_embedding=trunk.layernorm_embedding is not None,
        tied=output.weight is embedding,
        activation=str(getattr(trunk.cfg.activation_fn, "value", trunk.cfg.activation_fn)),
    )


def _check_parts(model: BaseFairseqModel, trunk: Any) -> None:
    """Refuse models with parts whose growth keeps no promise."""
    if not len(trunk.layers):
        raise ValueError("expected a model with at least one layer, found none")
    if isinstance(model, RobertaModel) and len(model.classification_heads):
        raise ValueError("expected a model without classification heads, found one with")
    if type(trunk.embed_tokens) is not nn.Embedding:
        raise ValueError(
            f"expected an embedding of whole tokens, found {type(trunk.embed_tokens).__name__}"
        )
    for name in ("project_in_dim", "project_out_dim"):
        if getattr(trunk, name, None) is not None:
            raise ValueError(
                "expected embeddings as wide as the layers, found projected ones "
                "(--decoder-input-dim, --decoder-output-dim)"
            )
    for layer in trunk.layers:
        for part in ("attn_ln", "c_attn", "ffn_layernorm", "w_resid"):
            if getattr(layer, part, None) is not None:
                raise ValueError(
                    f"expected plain Transformer layers, found {part} (--scale-attn, "
                    "--scale-heads, --scale-fc, --scale-resids)"
                )
        if not hasattr(layer, "fc1"):
            raise ValueError(f"expected Transformer layers, found {type(layer).__name__}")
    if trunk.layers[0].normalize_before and trunk.layer_norm is None:
        raise ValueError(
            "expected a layer norm after the last pre-norm layer, found none "
            "(--no-decoder-final-norm)"
        )


def check_growth(old: Shape, new: Shape) -> None:
    """Refuse a pair of shapes that growth cannot connect.

    Raises:
        ValueError: with what was expected, what was found, and how to mend it.
    """
    for field in fields(Shape):
        was, wanted = getattr(old, field.name), getattr(new, field.name)
        if field.name in _STYLE and was != wanted:
            raise ValueError(
                f"expected the teacher's {field.name.replace('_', ' ')}, {was}, found {wanted}: "
                f"growth changes sizes alone (see {_STYLE[field.name]})"
            )
        if field.name in ("layers", "width", "ffn", "heads", "positions") and wanted < was:
            raise ValueError(
                f"expected at least the teacher's {field.name}, {was}, found {wanted}: growth "
                "makes no model smaller"
            )
    if new.head_width < old.head_width:
        raise ValueError(
            f"expected attention heads at least as wide as the teacher's {old.head_width}, found "
            f"{new.head_width} (width {new.width} / {new.heads} heads): heads are copied whole; "
            f"{_fitting_heads(old, new)}"
        )
    if old.position_kind == "sinusoidal" and new.width != old.width:
        raise ValueError(
            f"expected the teacher's width, {old.width}, found {new.width}: the sinusoids of "
            "another width are other ones, which the teacher's weights do not know; only layers, "
            "heads and feed-forward layers of such a model can grow"
        )


def _fitting_heads(old: Shape, new: Shape) -> str:
    fitting = [
        heads
        for heads in range(old.heads, new.width // old.head_width + 1)
        if new.width % heads == 0
    ]
    if not fitting:
        return f"no number of heads fits this width and the teacher's {old.heads} heads"
    return f"numbers of heads that fit: {', '.join(map(str, fitting))}"
