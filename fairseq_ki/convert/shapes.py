"""What a config.json of transformers says of a model, and whether fairseq can say the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MASKED = ("roberta", "xlm-roberta", "camembert")
CAUSAL = ("gpt2", "biogpt")

# transformers to fairseq; the first of each in fairseq's order is what is written back
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_accurate",
    "gelu_accurate": "gelu_accurate",
    "gelu_fast": "gelu_accurate",
    "gelu_pytorch_tanh": "gelu_accurate",
    "gelu_python_tanh": "gelu_accurate",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
_MAX_SIZE = 2**24
_MAX_LAYERS = 1024
_MAX_LABELS = 2**16


@dataclass(frozen=True)
class Shape:
    """One model, in the terms of neither library.

    width, feed_forward, layers, heads: sizes.
    symbols: rows of the embedding in transformers.
    positions: tokens in the longest sample.
    first_position: row of the position table of transformers that the first token gets.
    activation: fairseq's name.
    eps: of the layer norms.
    tied: one table for embedding and output.
    scaled: embeddings are multiplied by the square root of the width.
    token_types: rows of that table, 0 where there is none.
    dropout, attention_dropout, pooler_dropout: rates, for training on.
    """

    width: int
    feed_forward: int
    layers: int
    heads: int
    symbols: int
    positions: int
    first_position: int
    activation: str
    eps: float
    tied: bool
    scaled: bool = False
    token_types: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.1
    pooler_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"config.json: expected a width that is a multiple of the {self.heads} heads, "
                f"found {self.width}"
            )


def to_fairseq_activation(name: str) -> str | None:
    """fairseq's name of the same function, None where it has none."""
    return _ACTIVATIONS.get(name)


def to_hf_activation(name: str) -> str:
    """The name in transformers of fairseq's function. ValueError where it has none."""
    name = "gelu_accurate" if name == "gelu_fast" else name  # fairseq's older name
    for hf, fairseq in _ACTIVATIONS.items():
        if fairseq == name:
            return hf
    raise ValueError(f"expected an activation that transformers has, found {name!r}")


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape of a model of transformers.

    Raises:
        ValueError: for a model that fairseq's options cannot express exactly, and for sizes that
            no model has.
    """
    kind = config.get("model_type")
    _size(config, "num_labels", 2, highest=_MAX_LABELS)  # transformers makes a table of them
    if kind in MASKED:
        return _roberta(config)
    if kind == "gpt2":
        return _gpt2(config)
    if kind == "biogpt":
        return _biogpt(config)
    raise ValueError(
        f"config.json: expected model_type {', '.join((*MASKED, *CAUSAL[:-1]))} or {CAUSAL[-1]}, "
        f"found {kind!r}"
    )


def _roberta(config: Mapping[str, Any]) -> Shape:
    _expect(config, "hidden_act", "gelu", ("gelu", "gelu_python"), "in the output layer too")
    _expect(config, "position_embedding_type", "absolute", (None, "absolute"))
    _expect(config, "is_decoder", False, (False,))
    _expect(config, "add_cross_attention", False, (False,))
    pad = _size(config, "pad_token_id", 1, lowest=0)
    dropout = _rate(config, "hidden_dropout_prob", 0.1)
    head = config.get("classifier_dropout")
    return Shape(
        width=_size(config, "hidden_size", 768),
        feed_forward=_size(config, "intermediate_size", 3072),
        layers=_size(config, "num_hidden_layers", 12, highest=_MAX_LAYERS),
        heads=_size(config, "num_attention_heads", 12),
        symbols=_size(config, "vocab_size", 50265),
        positions=_size(config, "max_position_embeddings", 512, lowest=pad + 2) - pad - 1,
        first_position=pad + 1,
        activation="gelu",
        eps=_eps(config, "layer_norm_eps", 1e-12),
        tied=config.get("tie_word_embeddings", True) is True,
        token_types=_size(config, "type_vocab_size", 2),
        dropout=dropout,
        attention_dropout=_rate(config, "attention_probs_dropout_prob", 0.1),
        pooler_dropout=dropout if head is None else _rate(config, "classifier_dropout", 0.0),
    )


def _gpt2(config: Mapping[str, Any]) -> Shape:
    _expect(config, "scale_attn_weights", True, (True,))
    _expect(config, "scale_attn_by_inverse_layer_idx", False, (False,))
    _expect(config, "add_cross_attention", False, (False,))
    width = _size(config, "n_embd", 768)
    inner = config.get("n_inner")
    return Shape(
        width=width,
        feed_forward=4 * width if inner is None else _size(config, "n_inner", 0),
        layers=_size(config, "n_layer", 12, highest=_MAX_LAYERS),
        heads=_size(config, "n_head", 12),
        symbols=_size(config, "vocab_size", 50257),
        positions=_size(config, "n_positions", 1024),
        first_position=0,
        activation=_activation(config, "activation_function", "gelu_new"),
        eps=_eps(config, "layer_norm_epsilon", 1e-5),
        tied=config.get("tie_word_embeddings", True) is True,
        dropout=_rate(config, "resid_pdrop", 0.1),
        attention_dropout=_rate(config, "attn_pdrop", 0.1),
    )


def _biogpt(config: Mapping[str, Any]) -> Shape:
    return Shape(
        width=_size(config, "hidden_size", 1024),
        feed_forward=_size(config, "intermediate_size", 4096),
        layers=_size(config, "num_hidden_layers", 24, highest=_MAX_LAYERS),
        heads=_size(config, "num_attention_heads", 16),
        symbols=_size(config, "vocab_size", 42384),
        positions=_size(config, "max_position_embeddings", 1024),
        first_position=2,
        activation=_activation(config, "hidden_act", "gelu"),
        eps=1e-5,  # transformers' class has this number in it, whatever layer_norm_eps says
        tied=config.get("tie_word_embeddings", True) is True,
        scaled=config.get("scale_embedding", True) is True,
        dropout=_rate(config, "hidden_dropout_prob", 0.1),
        attention_dropout=_rate(config, "attention_probs_dropout_prob", 0.1),
    )


def _expect(
    config: Mapping[str, Any], key: str, default: Any, allowed: tuple, why: str = ""
) -> None:
    found = config.get(key, default)
    if found not in allowed:
        raise ValueError(
            f"config.json: fairseq's models have {key} {allowed[-1]!r}"
            f"{' (' + why + ')' if why else ''}: expected that, found {found!r}, which cannot be "
            "expressed exactly"
        )


def _size(
    config: Mapping[str, Any], key: str, default: int, lowest: int = 1, highest: int = _MAX_SIZE
) -> int:
    return _number(
        config, key, default, int, lambda n: lowest <= n <= highest, f"{lowest} to {highest}"
    )


def _rate(config: Mapping[str, Any], key: str, default: float) -> float:
    return float(_number(config, key, default, (int, float), lambda n: 0 <= n <= 1, "0 to 1"))


def _eps(config: Mapping[str, Any], key: str, default: float) -> float:
    return float(_number(config, key, default, (int, float), lambda n: 0 < n < 1, "0 to 1"))


def _number(
    config: Mapping[str, Any],
    key: str,
    default: Any,
    kind: type | tuple[type, ...],
    fits: Callable[[Any], bool],
    wanted: str,
) -> Any:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, kind) or not fits(value):
        raise ValueError(f"config.json: expected {key} to be {wanted}, found {value!r}")
    return value


def _activation(config: Mapping[str, Any], key: str, default: str) -> str:
    name = config.get(key, default)
    found = to_fairseq_activation(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"config.json: expected {key} to be one that fairseq has "
            f"({', '.join(_ACTIVATIONS)}), found {name!r}"
        )
    return found
